"""Answers that never come, come to nobody, or come from a store of results: what the client retries, and until when."""

import contextlib
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from longshore import Longshore
from longshore.access.tokens import Level
from longshore.client import DownloadError, LostError, NotFoundError, NotSentError, UnauthorizedError, WaitTimeoutError
from longshore.client.connection import Connection
from longshore.client.requests import Request
from longshore.client.retry import retry_after
from tests import service as services
from tests.access.users import new_user
from tests.client.gateway import Gateway
from tests.client.scripted import Scripted, json_answer
from tests.conftest import SMALL_CHAIN

SECRET = "0b9f1b0e-7f53-4f5e-9d1a-3f8f6f0a2c11:longshore_secret"
FUTURE = datetime(2099, 1, 1, tzinfo=UTC)


def test_request_whose_connection_dies_silently_is_sent_again(gateway: Gateway, token: str) -> None:
    gateway.faults = ["hang"]
    with Longshore(gateway.address, token, chain=SMALL_CHAIN, timeout=1, retry_for=1) as client:
        client.tasks.list(limit=1)
    assert len(gateway.seen) == 2


def test_wait_ends_in_time_though_the_service_stays_silent(longshore: Longshore, gateway: Gateway, token: str) -> None:
    id = longshore.exports.create("users", at=FUTURE).id
    with Longshore(gateway.address, token, chain=SMALL_CHAIN) as client:
        task = client.tasks.get(id)
        gateway.faults = ["", *["hang"] * 9]
        began = time.monotonic()
        with pytest.raises(WaitTimeoutError, match="cannot be polled again within the 1 s"):
            task.wait(1)
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("fault", ["lose", "silent"])
def test_deletion_whose_answer_is_lost_is_a_deletion(
    longshore: Longshore, gateway: Gateway, through: Longshore, fault: str
) -> None:
    task = through.tasks.get(longshore.exports.create("users", at=FUTURE).id)
    gateway.faults = [fault]
    task.delete()
    with pytest.raises(NotFoundError):
        task.delete()


def test_revocation_of_the_own_token_whose_answer_is_lost_is_a_revocation(
    service: services.Longshore, gateway: Gateway
) -> None:
    reader = new_user(service, _1765=Level.READ)
    with reader.client(chain=SMALL_CHAIN) as session:
        token = session.post("/delta-sharing/profile").json()["bearerToken"]
    with Longshore(gateway.address, token, chain=SMALL_CHAIN, retry_for=10) as client:
        gateway.faults = ["lose"]
        client.shares.revoke(token.partition(":")[0])
        with pytest.raises(UnauthorizedError):
            client.shares.revoke(token.partition(":")[0])


def test_deletion_after_which_the_token_is_unknown_may_not_have_happened() -> None:
    server = Scripted()
    server.add("/tasks/7", [])
    server.add("/tasks/7", json_answer({"type": "/problems/unauthorized", "title": "x", "status": 401}, 401))
    with Longshore(server.address, SECRET, chain=1, retry_for=5) as client, pytest.raises(UnauthorizedError):
        client.request("DELETE", "/tasks/7")
    server.close()


def test_parameters_are_added_to_those_of_the_path(longshore: Longshore) -> None:
    assert len(longshore.request("GET", "/tasks?status=READY", params={"limit": 1})) <= 1
    with longshore.stream("GET", "/tasks?status=NONE", params={"limit": 1}) as streamed:
        assert streamed.status == 400
        assert b"status" in b"".join(streamed.chunks)


def test_handshake_that_is_cut_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def cut() -> None:
            with contextlib.suppress(OSError):  # at the end of the test
                while True:
                    server.accept()[0].close()

        threading.Thread(target=cut, daemon=True).start()
        address = f"https://127.0.0.1:{server.getsockname()[1]}"
        with Longshore(address, SECRET, chain=1, retry_for=0.5) as client, pytest.raises((NotSentError, LostError)):
            client.tasks.list()


def test_failure_of_a_store_of_results_names_the_store() -> None:
    connection = Connection("http://exports.example.com", SECRET, 1, 1, 1)
    request = Request(method="GET", url="https://bucket.example.net:9000/a.csv?X-Amz-Signature=secret")
    shown = str(connection.client_error(httpx2.ConnectError("refused"), request))
    assert "https://bucket.example.net:9000: refused" in shown
    assert "secret" not in shown


def test_retry_after_as_a_date_is_by_the_clock_of_the_service() -> None:
    wrong = {"date": "Tue, 01 Jan 2030 00:00:00 GMT", "retry-after": "Tue, 01 Jan 2030 00:00:07 GMT"}
    assert retry_after(wrong) == 7


def test_files_that_are_one_path_on_the_disk_are_no_result(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create(
        "wallet-ledger", format="parquet", fields=["id", "kind"], partition_by=[{"field": "kind"}]
    ).wait(60)
    paths = [file.path for file in task.files(task.latest_run().run)[:2]]
    first, second = (tmp_path / Path(path).parent for path in paths)
    first.mkdir(parents=True)
    second.symlink_to(first)  # as a disk does that takes two names for one
    with pytest.raises(DownloadError, match="two files of the result are one path on this disk"):
        task.download(tmp_path)
