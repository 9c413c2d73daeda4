"""Every error is a ClientError: of TLS, of answers that are not UTF-8, of disks, and of values of other libraries."""

import asyncio
import resource
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from longshore import AsyncLongshore, F, Longshore
from longshore.client import ArgumentError, DownloadError, NoAnswerError, ProfileError, SegmentError
from longshore.client.connection import Connection
from longshore.client.disk import write_whole
from longshore.client.download_paths import DownloadOptions, download_path, refuse_irregular
from longshore.client.partial_file import PartialFile
from longshore.client.profiles import read_profile
from longshore.client.requests import Request
from longshore.client.segment import Rules
from tests.client.conftest import Cli
from tests.client.scripted import Scripted, json_answer
from tests.service import free_port

LATIN_1 = '{"title": "café", "current": "café", "endpoint": "café"}'.encode("latin-1")
DEEP = b"[" * 100_000


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture
def certificate_asker(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server that asks for a certificate of the client, and the file of its own."""
    key, own = tmp_path / "key.pem", tmp_path / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2",
               "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(own)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    context.load_verify_locations(own)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Scripted()
    server._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # it would print the refusal
    server._server.get_request = lambda: _wrapped(server, context)  # type: ignore[method-assign]
    yield server.address.replace("http:", "https:"), own
    server.close()


def _wrapped(server: Scripted, context: ssl.SSLContext) -> Any:
    """Accept a connection; its handshake is made by the thread that answers it."""
    connection, address = server._server.socket.accept()
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


def test_server_that_asks_for_a_certificate_is_an_error_of_both_clients_at_once(
    certificate_asker: tuple[str, Path],
) -> None:
    address, authority = certificate_asker
    began = time.monotonic()
    with (
        Longshore(address, "x:y", chain=1, verify=str(authority)) as client,
        pytest.raises(NoAnswerError, match=r"refuses the client: .*CERTIFICATE_REQUIRED"),
    ):
        client.tasks.list()

    async def run() -> None:
        async with AsyncLongshore(address, "x:y", chain=1, verify=str(authority)) as awaited:
            with pytest.raises(NoAnswerError, match=r"refuses the client: .*CERTIFICATE_REQUIRED"):
                await awaited.tasks.list()

    asyncio.run(run())
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("host", ["a..localhost", f"{'x' * 64}.localhost"])
def test_host_name_that_cannot_be_is_an_error_of_both_clients_at_once(host: str) -> None:
    with Longshore(f"http://{host}", "x:y", chain=1) as client, pytest.raises(NoAnswerError, match="no such host name"):
        client.tasks.list()

    async def run() -> None:
        async with AsyncLongshore(f"http://{host}", "x:y", chain=1) as awaited:
            with pytest.raises(NoAnswerError, match="no such host name"):
                await awaited.tasks.list()

    asyncio.run(run())


def test_host_name_that_a_newer_python_cannot_encode_is_no_fault_of_an_argument() -> None:
    connection = Connection("http://a..localhost", "x:y", 1, timeout=1, retry_for=0)
    with (
        pytest.raises(NoAnswerError, match="no such host name"),
        connection.translated_errors(Request(url="/tasks")),
    ):
        raise UnicodeEncodeError("idna", "a..localhost", 2, 2, "label empty or too long")  # of Python 3.13 and later


@pytest.mark.parametrize("body", [LATIN_1, DEEP])
@pytest.mark.parametrize("status", [200, 404])
def test_answer_that_is_no_utf_8_or_too_deep_is_not_longshores(scripted: Scripted, body: bytes, status: int) -> None:
    scripted.add("/indexes/users", json_answer(body, status))
    with (
        Longshore(scripted.address, "x:y", chain=1, retry_for=0) as client,
        pytest.raises(NoAnswerError, match="Longshore"),
    ):
        client.indexes.get("users")


@pytest.mark.parametrize("content", [LATIN_1, DEEP])
def test_files_of_logins_and_shares_that_are_no_utf_8_are_reported(cli: Cli, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "config" / "longshore" / "profiles.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(ProfileError, match=r"profiles\.json cannot be read"):
        read_profile()
    (tmp_path / "x.share").write_bytes(content)
    code, _, stderr = cli("shares", "revoke", str(tmp_path / "x.share"))
    assert (code, "x.share cannot be read" in stderr) == (2, True)


@pytest.mark.parametrize("answer", [{"items": []}, {"items": [{"name": "all"}]}, {"items": [{}]}, {}, []])
def test_profile_file_whose_token_reads_no_chain_is_reported(
    cli: Cli, scripted: Scripted, answer: object, tmp_path: Path
) -> None:
    scripted.add("/delta-sharing/shares", json_answer(answer))
    file = tmp_path / "x.share"
    file.write_text(
        f'{{"shareCredentialsVersion": 1, "endpoint": "{scripted.address}/delta-sharing", "bearerToken": "x:y"}}'
    )
    code, _, stderr = cli("shares", "revoke", str(file))
    assert (code, "reads no chain of" in stderr) == (2, True)


def test_values_of_numpy_are_sent_as_those_of_python(longshore: Longshore) -> None:
    half, seven, thousand, true = (
        cast(Any, one) for one in (np.float64(0.5), np.int64(7), np.int64(1000), np.bool_(1))
    )
    rules: Rules = (F("amount") >= half) & (F("id") > seven) & (F("kind") != np.str_("manual"))
    rules &= F("timestamp").after(np.str_("2020-01-01"))
    task = longshore.exports.create("wallet-ledger", where=rules, split={"rows": thousand}, desc=np.str_("numpy"))
    assert task.data.desc == "numpy"
    assert task.data.target["split"] == {"rows": 1000}
    sent = task.data.trigger["segment"]["rules"]
    assert [sent[0]["min"], sent[1]["value"], sent[2]["value"]] == [0.5, 7, "manual"]
    task.wait(60)
    with pytest.raises(SegmentError, match="expected a number"):
        longshore.exports.create("wallet-ledger", where=F("amount") > true)


@pytest.mark.parametrize("body", [object(), {"a": {1: object()}}, "deep"])
def test_body_that_json_cannot_have_is_an_argument_error(body: object) -> None:
    if body == "deep":
        for _ in range(100_000):
            body = [body]
    with (
        Longshore(f"http://127.0.0.1:{free_port()}", "x:y", chain=1, retry_for=0) as client,
        pytest.raises(ArgumentError, match="cannot be JSON"),
    ):
        client.request("POST", "/tasks", body)


def test_disk_that_takes_no_more_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path / "a.csv", "0" * 64, 5_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))  # the kernel then refuses as a full disk does
    try:
        with pytest.raises(DownloadError, match=r"a\.csv' cannot be read or written: File too large"):
            partial.write(bytes(5_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    partial.close()
    assert PartialFile(tmp_path / "a.csv", "0" * 64, 5_000).size == 2_000  # a later download goes on from there


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_path_that_no_disk_has_is_a_download_error(tmp_path: Path, name: str) -> None:
    for call in (download_path, DownloadOptions().check_targets, refuse_irregular):
        with pytest.raises(DownloadError, match="cannot be read or written"):
            call(tmp_path / name)


def test_name_that_is_too_long_for_a_partial_file_is_a_download_error(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create("users").wait(60)
    with pytest.raises(DownloadError, match="File name too long"):
        task.download(tmp_path / ("x" * 250))
    assert list(tmp_path.iterdir()) == []


def test_manifest_appears_whole_while_it_is_replaced(tmp_path: Path) -> None:
    file, contents = tmp_path / "a.manifest.json", {bytes([letter]) * 100_000 for letter in b"xyz"}
    write_whole(file, next(iter(contents)))
    is_over = threading.Event()

    def replace() -> None:
        for content in [*contents] * 30:
            write_whole(file, content)
        is_over.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not is_over.is_set():
        assert file.read_bytes() in contents
    thread.join()
    assert list(tmp_path.iterdir()) == [file]


OTHER_PATHS: dict[str, Callable[[Longshore], Any]] = {
    "token": lambda client: client.shares.revoke(".."),
    "segment": lambda client: client.segments.delete("."),
    "webhook": lambda client: client.webhooks.delete(""),
    "delivery": lambda client: client.webhooks.redeliver("..", ".."),
}


@pytest.mark.parametrize("name", OTHER_PATHS)
def test_id_that_would_name_another_path_is_refused(name: str) -> None:
    with (
        Longshore(f"http://127.0.0.1:{free_port()}", "x:y", chain=1, retry_for=0) as client,
        pytest.raises(ArgumentError, match="expected an id"),
    ):
        OTHER_PATHS[name](client)


def test_run_that_would_name_another_path_is_refused(longshore: Longshore) -> None:
    task = longshore.exports.create("users").wait(60)
    run: Any = ".."
    for call in (task.get_run, task.manifest, task.signature, task.files, task.deliver, task.end_backfill):
        with pytest.raises(ArgumentError, match="expected an id"):
            call(run)
    task.refresh()


def test_header_field_in_another_case_is_sent_once(scripted: Scripted) -> None:
    scripted.add("/tasks", json_answer({}))
    with Longshore(scripted.address, "x:y", chain=1, retry_for=0) as client:
        headers = {"content-TYPE": "application/merge-patch+json", "accept-encoding": "gzip"}
        with client.stream("POST", "/tasks", {}, headers=headers):
            pass
    sent = scripted.seen[0][1]
    assert (sent["content-type"], sent["accept-encoding"]) == ("application/merge-patch+json", "gzip")
    assert scripted.doubled == []


@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-Session-Chain-Id", "X-Spaaza-Session-Key"])
def test_header_field_of_the_login_is_refused(logged_in: Cli, name: str) -> None:
    code, _, stderr = logged_in("request", "GET", "/tasks", "-H", f"{name}: 9")
    assert (code, f"{name} is of the login" in stderr) == (2, True)
