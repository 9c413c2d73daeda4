"""`secret_headers` of the action `http`: sent with the request, shown as null, and sent nowhere else."""

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from longshore.api.idempotency_key import CANONICAL
from tests.answers import problem, violations
from tests.receiver import Receiver, receiving
from tests.service import Longshore, ended

CHAIN = 1765
LATER = "2126-05-26T12:00:00Z"
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def body(url: str, secret_headers: Any, **target: Any) -> dict[str, Any]:
    target = {"action": "http", "url": url, "secret_headers": secret_headers, **target}
    return {"chain": CHAIN, "desc": "a test", "trigger": {"once": LATER}, "target": target}


def created(client: httpx2.Client, url: str, secret_headers: Any, **target: Any) -> dict[str, Any]:
    answer = client.post("/tasks", json=body(url, secret_headers, **target))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def sent(client: httpx2.Client, receiver: Receiver, task: int) -> dict[str, str]:
    """The header fields of a run of the task."""
    client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
    found = receiver.next().headers
    assert ended(client, task)["state"]["code"] == "DONE"
    return found


def stored(service: Longshore, task: int) -> bytes | None:
    rows = service.sql("select sealed from longshore.task_secrets where task_id = $1", task)
    return bytes(rows[0][0]) if rows else None


def test_secret_header_is_sent_and_shown_as_null(
    service: Longshore, small_client: httpx2.Client, receiver: Receiver
) -> None:
    secret = f"Bearer {uuid.uuid4().hex}"
    task = created(small_client, receiver.url, {"Authorization": secret}, headers={"X-A": "a"})
    target = {**body(receiver.url, {"Authorization": None})["target"], "headers": {"X-A": "a"}}
    assert task["target"] == target
    assert sent(small_client, receiver, task["id"])["authorization"] == secret
    for answer in (
        small_client.get(f"/tasks/{task['id']}", params={"log_limit": 100}),
        small_client.get("/tasks", params={"limit": 1}),
        small_client.get(f"/tasks/{task['id']}/runs"),
    ):
        assert secret not in answer.text
    sealed = stored(service, task["id"])
    assert sealed is not None
    assert secret.encode() not in sealed
    small_client.delete(f"/tasks/{task['id']}")
    assert stored(service, task["id"]) is None


@pytest.mark.parametrize("headers", [{}, MERGE])
def test_null_in_a_patch_keeps_a_secret_header(
    small_client: httpx2.Client, receiver: Receiver, headers: dict[str, str]
) -> None:
    task = created(small_client, f"{receiver.url}/a", {"Authorization": "one", "X-Key": "two"})
    path = f"/tasks/{task['id']}"
    target = {**task["target"], "url": f"{receiver.url}/b", "secret_headers": {"Authorization": None, "X-Key": "new"}}
    changed = small_client.patch(path, json={"target": target}, headers=headers)
    assert changed.status_code == 200, changed.text
    assert changed.json()["target"]["secret_headers"] == {"Authorization": None, "X-Key": None}
    came = sent(small_client, receiver, task["id"])
    assert (came["authorization"], came["x-key"]) == ("one", "new")


def test_secret_header_without_its_name_is_removed(
    service: Longshore, small_client: httpx2.Client, receiver: Receiver
) -> None:
    task = created(small_client, receiver.url, {"Authorization": "one", "X-Key": "two"})
    path = f"/tasks/{task['id']}"
    small_client.patch(path, json={"target": {**task["target"], "secret_headers": {"X-Key": None}}})
    came = sent(small_client, receiver, task["id"])
    assert ("authorization" in came, came["x-key"]) == (False, "two")
    assert small_client.patch(path, json={"target": {"secret_headers": None}}, headers=MERGE).status_code == 200
    assert "x-key" not in sent(small_client, receiver, task["id"])
    assert stored(service, task["id"]) is None


@pytest.mark.parametrize("headers", [{}, MERGE])
def test_patch_that_changes_the_origin_must_send_the_secrets_again(
    small_client: httpx2.Client, receiver: Receiver, headers: dict[str, str]
) -> None:
    task = created(small_client, receiver.url, {"Authorization": "one", "X-Key": "two"})
    path = f"/tasks/{task['id']}"
    with receiving() as elsewhere:
        target = {**task["target"], "url": elsewhere.url, "secret_headers": {"Authorization": None, "X-Key": "two"}}
        refused = violations(small_client.patch(path, json={"target": target}, headers=headers))
        assert list(refused) == ["/target/secret_headers/Authorization"]
        if headers:
            alone = small_client.patch(path, json={"target": {"url": elsewhere.url}}, headers=headers)
            assert len(violations(alone)) == 2
        target["secret_headers"] = {"Authorization": "one again", "X-Key": "two"}
        assert small_client.patch(path, json={"target": target}, headers=headers).status_code == 200
        assert sent(small_client, elsewhere, task["id"])["authorization"] == "one again"
    assert receiver.received.empty()


def test_change_of_other_fields_keeps_secrets_and_an_equal_one_changes_nothing(
    service: Longshore, small_client: httpx2.Client, receiver: Receiver
) -> None:
    task = created(small_client, receiver.url, {"Authorization": "one"})
    path = f"/tasks/{task['id']}"
    before, sealed = small_client.get(path), stored(service, task["id"])
    same = small_client.patch(path, json={"target": task["target"]})
    assert same.headers["etag"] == before.headers["etag"]
    assert small_client.patch(path, json={"desc": "other"}).status_code == 200
    assert stored(service, task["id"]) == sealed
    again = small_client.patch(path, json={"target": {**task["target"], "secret_headers": {"Authorization": "two"}}})
    assert again.headers["etag"] != before.headers["etag"]
    assert sent(small_client, receiver, task["id"])["authorization"] == "two"


def test_secret_of_a_target_goes_with_it_when_the_action_changes(
    service: Longshore, small_client: httpx2.Client, receiver: Receiver
) -> None:
    task = created(small_client, receiver.url, {"Authorization": "one"})
    export = {"action": "export", "export_index": "users", "export_format": "csv"}
    path = f"/tasks/{task['id']}"
    assert small_client.patch(path, json={"target": export}).status_code == 200
    assert stored(service, task["id"]) is None
    back = violations(small_client.patch(path, json={"target": task["target"]}))
    assert back == {"/target/secret_headers/Authorization": "expected a string, as no value is stored"}


@pytest.mark.parametrize(
    ("secret_headers", "more", "pointer"),
    [
        ({"Authorization": None}, {}, "/target/secret_headers/Authorization"),
        ({"Host": "x"}, {}, "/target/secret_headers/Host"),
        ({"X-A": "a"}, {"headers": {"x-a": "b"}}, "/target/secret_headers/X-A"),
        ({"X~A": "a"}, {"headers": {"x~a": "b"}}, "/target/secret_headers/X~0A"),
        ({"X~A": None}, {}, "/target/secret_headers/X~0A"),
        ({"X-A": "a\n"}, {}, "/target/secret_headers/X-A"),
        ({"X-A": " a"}, {}, "/target/secret_headers/X-A"),
        ({"X-A\n": "a"}, {}, "/target/secret_headers/X-A\n"),
        ({"X-A": 1}, {}, "/target/secret_headers/X-A"),
        ({f"X-{n}": "a" for n in range(21)}, {}, "/target/secret_headers"),
        ("Authorization", {}, "/target/secret_headers"),
    ],
)
def test_wrong_secret_headers_are_named_without_their_values(
    small_client: httpx2.Client, secret_headers: Any, more: dict[str, Any], pointer: str
) -> None:
    answer = small_client.post("/tasks", json=body("http://127.0.0.1:9/", secret_headers, **more))
    assert list(violations(answer)) == [pointer]


def test_null_keeps_only_a_value_that_is_stored(small_client: httpx2.Client) -> None:
    task = created(small_client, "http://127.0.0.1:9/", {"Authorization": "one"})
    target = {**task["target"], "secret_headers": {"Authorization": None, "X-New": None}}
    refused = violations(small_client.patch(f"/tasks/{task['id']}", json={"target": target}))
    assert refused == {"/target/secret_headers/X-New": "expected a string, as no value is stored"}


def test_repeated_request_keeps_no_digest_of_secret_headers(service: Longshore, small_client: httpx2.Client) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    asked = body("http://127.0.0.1:9/", {"Authorization": "hunter2"})
    first, second = (small_client.post("/tasks", json=asked, headers=headers) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    other = body("http://127.0.0.1:9/", {"Authorization": "hunter3"})
    problem(small_client.post("/tasks", json=other, headers=headers), "idempotency-key-reused")
    digest = hashlib.sha256(b"POST /tasks\n" + CANONICAL.encode(asked)).digest()
    rows = service.sql("select body_sha256 from longshore.idempotency_keys where key like '%' || $1", *headers.values())
    assert bytes(rows[0][0]) != digest, "a reader of the database could try values"


def test_run_whose_secrets_cannot_be_read_ends_with_the_setting_to_change(
    service: Longshore, small_client: httpx2.Client, receiver: Receiver
) -> None:
    task = created(small_client, receiver.url, {"Authorization": "one"})
    damage = (
        "update longshore.task_secrets set sealed = overlay(sealed placing '\\x00'::bytea from 3) where task_id = $1"
    )
    service.sql(damage, task["id"])
    small_client.post(f"/tasks/{task['id']}/execute", headers={"Prefer": "respond-async"})
    found = ended(small_client, task["id"])
    assert found["state"]["code"] == "ERROR"
    assert "set LONGSHORE_SECRET" in str(found["logs"])
    assert receiver.received.empty()
    small_client.delete(f"/tasks/{task['id']}")  # `longshore doctor` finds it wrong
