"""Actions plug in: a package's, as the documentation builds it, and the one that comes along."""

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests import plugin
from tests.receiver import Receiver, receiving
from tests.service import Longshore, database_in, ended

NOW = "2026-05-26T12:00:00Z"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def extended_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """A service with the package of `docs/extending.md` installed."""
    folder = tmp_path_factory.mktemp("plugged")
    with pytest.MonkeyPatch.context() as patch, database_in(folder) as url:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(plugin.install(folder, "An action")), os.environ.get("PYTHONPATH", "")])
        )
        longshore = Longshore(folder, url, outbound_allow="127.0.0.1")
        try:
            longshore.start_api()
            longshore.start("worker")
            yield longshore
        finally:
            longshore.stop()


@pytest.fixture(scope="module")
def client(extended_service: Longshore) -> Iterator[httpx2.Client]:
    with extended_service.client() as found:
        yield found


def created(client: httpx2.Client, **target: Any) -> int:
    answer = client.post("/tasks", json={"chain": 1764, "desc": "a test", "trigger": {"once": NOW}, "target": target})
    assert answer.status_code == 201, answer.text
    assert answer.json()["target"] == target
    return int(answer.json()["id"])


def messages(task: dict[str, Any]) -> list[str]:
    return [entry["msg"] for entry in task["logs"]]


def violations(client: httpx2.Client, target: dict[str, Any], **trigger: Any) -> dict[str, str]:
    body = {"chain": 1764, "desc": "a test", "trigger": {"once": NOW, **trigger}, "target": target}
    answer = client.post("/tasks", json=body)
    assert answer.status_code == 400, answer.text
    return {violation["pointer"]: violation["detail"] for violation in answer.json()["errors"]}


def test_the_action_of_an_installed_package_runs_and_leaves_its_result(client: httpx2.Client) -> None:
    task = ended(client, created(client, action="voucher-codes", count=2500))
    assert task["state"]["code"] == "DONE", task
    assert task["result"] == f"codes-{task['id']}.txt"
    assert messages(task) == ["READY -> INPROGRESS", "made 2500 codes", "success", "INPROGRESS -> DONE"]
    assert (task["logs"][2]["total"], task["logs"][2]["success"]) == (2500, 2500)
    progress = client.get(f"/tasks/{task['id']}/progress").json()
    assert (progress["rows"], progress["percent"]) == (2500, 100.0)
    address = client.get(f"/tasks/{task['id']}/download_url").json()["url"]
    file = httpx2.get(address)
    assert file.headers["content-type"] == "application/octet-stream"
    assert len(set(file.text.split())) == 2500


def test_targets_of_a_package_are_validated_and_documented_like_built_in_ones(client: httpx2.Client) -> None:
    assert list(violations(client, {"action": "voucher-codes", "count": 0})) == ["/target/count"]
    assert violations(client, {"action": "voucher-code", "count": 1})["/target/action"].endswith('"voucher-codes"?')
    assert list(violations(client, {"action": "voucher-codes", "count": 1}, segment_id="x")) == ["/trigger/segment_id"]
    document = client.get("/openapi.json").json()["components"]["schemas"]
    assert document["Codes"]["properties"]["action"] == {"const": "voucher-codes"}
    assert {"$ref": "#/components/schemas/Codes"} in document["NewTaskBody"]["properties"]["target"]["oneOf"]


def test_a_cancelled_action_stops_and_leaves_nothing(extended_service: Longshore, client: httpx2.Client) -> None:
    task = created(client, action="voucher-codes", count=1_000_000)
    while client.get(f"/tasks/{task}").json()["state"]["code"] == "READY":
        time.sleep(0.01)
    assert client.post(f"/tasks/{task}/cancel").json()["state"]["code"] == "ERROR"
    deadline = time.monotonic() + 20
    while any(f"/{task}/" in str(path) for path in extended_service.files()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_http_action_sends_its_request_at_the_time_of_the_task(client: httpx2.Client, receiver: Receiver) -> None:
    target = {"action": "http", "url": f"{receiver.url}/nightly", "headers": {"X-What": "ledger"}, "body": "éa"}
    task = ended(client, created(client, **target))
    came = receiver.next()
    assert (came.path, came.headers["x-what"], came.body.decode()) == ("/nightly", "ledger", "éa")
    assert came.headers["idempotency-key"] == f'"{task["id"]}-1"'
    assert messages(task)[1] == f"POST {receiver.url}/nightly: 204"
    assert (task["state"]["code"], task["result"]) == ("DONE", "")
    refused = client.get(f"/tasks/{task['id']}/download_url")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/no-export")


def test_http_action_retries_with_the_same_idempotency_key(client: httpx2.Client, receiver: Receiver) -> None:
    receiver.answers.put(503)
    task = ended(client, created(client, action="http", url=receiver.url))
    assert task["state"]["code"] == "DONE"
    assert messages(task)[1] == f"attempt 1 failed: POST {receiver.url}: 503; the next one begins in 1 s"
    assert receiver.next().headers["idempotency-key"] == receiver.next().headers["idempotency-key"]


@pytest.mark.parametrize("status", [301, 404])
def test_http_action_ends_in_error_after_a_4xx_or_redirect(
    client: httpx2.Client, receiver: Receiver, status: int
) -> None:
    receiver.answers.put(status)
    task = ended(client, created(client, action="http", url=receiver.url))
    receiver.next()
    assert messages(task)[1:] == [f"failed: POST {receiver.url}: {status}", "INPROGRESS -> ERROR"]
    assert receiver.received.empty()


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ({"url": "http://10.0.0.1/"}, "/target/url"),
        ({"url": "file:///etc/passwd"}, "/target/url"),
        ({"url": "https://example.com/", "method": "TRACE"}, "/target/method"),
        ({"url": "https://example.com/", "headers": {"Host": "x"}}, "/target/headers/Host"),
        ({"url": "https://example.com/", "headers": {"X-A": "a\r\nHost: b"}}, "/target/headers/X-A"),
        ({"url": "https://example.com/", "colour": "red"}, "/target/colour"),
        ({}, "/target/url"),
    ],
)
def test_http_action_to_a_refused_address_is_refused(
    client: httpx2.Client, target: dict[str, Any], pointer: str
) -> None:
    assert list(violations(client, {"action": "http", **target})) == [pointer]
