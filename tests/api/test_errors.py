"""Errors of the API, and the parts of every answer: request id, problem, security headers."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.api.problem_kinds import KINDS
from longshore.api.problems import is_outage
from longshore.database.connect import connect
from tests.answers import problem, violations
from tests.service import Longshore, export_body
from tests.waiting import until

OF_ONE_TASK = [
    ("GET", ""),
    ("POST", "/execute"),
    ("GET", "/download_url"),
    ("GET", "/progress"),
    ("GET", "/runs"),
]
FAR = 2**31 - 1


def without_id(answer: httpx2.Response) -> dict[str, Any]:
    body = problem(answer, "task-not-found")
    del body["request_id"]
    return body


@pytest.fixture(scope="module")
def foreign(service: Longshore) -> int:
    """A task of another chain."""
    with service.client(chain=9) as theirs:
        found: int = theirs.post("/tasks", json=export_body(chain=9, once="2126-05-26T12:00:00Z")).json()["id"]
        return found


@pytest.mark.parametrize(("method", "path"), OF_ONE_TASK)
def test_a_missing_and_a_foreign_task_have_the_same_answer(
    client: httpx2.Client, foreign: int, method: str, path: str
) -> None:
    missing = client.request(method, f"/tasks/999999999{path}")
    theirs = client.request(method, f"/tasks/{foreign}{path}")
    assert without_id(missing) == without_id(theirs)
    assert missing.headers.keys() == theirs.headers.keys()
    assert without_id(client.request(method, f"/tasks/{2**63}{path}")) == without_id(missing)
    assert without_id(client.request(method, f"/tasks/{2**63 - 1}{path}")) == without_id(missing)


@pytest.mark.parametrize("id", ["0", "-1", "x", "1.5", "1,5", "+1", "%201", "1_0", "0x10", "%00", "%ff", "%EF%BC%91"])
@pytest.mark.parametrize(("method", "path"), OF_ONE_TASK)
def test_an_id_that_is_no_positive_integer_is_refused(
    idle_client: httpx2.Client, id: str, method: str, path: str
) -> None:
    assert list(violations(idle_client.request(method, f"/tasks/{id}{path}"))) == ["id"]


@pytest.mark.parametrize(
    ("path", "name", "value", "expected"),
    [
        ("/tasks/1", "log_limit", "-1", "at least 0"),
        ("/tasks/1", "log_limit", "1001", "at most 1000"),
        ("/tasks/1", "log_limit", "x", "decimal digits"),
        ("/tasks/1", "log_limit", "", "decimal digits"),
        ("/tasks/1", "log_limit", "1.5", "decimal digits"),
        ("/tasks/1", "offset", "-1", "at least 0"),
        ("/tasks/1", "offset", "x", "decimal digits"),
        ("/tasks/1", "offset", str(FAR + 1), f"at most {FAR}"),
        ("/tasks/1", "log_limt", "1", 'did you mean "log_limit"?'),
        ("/tasks", "limit", "0", "at least 1"),
        ("/tasks", "limit", "101", "at most 100"),
        ("/tasks", "limit", "x", "decimal digits"),
        ("/tasks", "offset", "-1", "at least 0"),
        ("/tasks", "offset", str(10**40), f"at most {FAR}"),
        ("/tasks", "status", "done", "expected one of READY, INPROGRESS, DONE, ERROR"),
        ("/tasks", "campaign_id", "x", "decimal digits"),
        ("/tasks", "campaign_id", "0", "at least 1"),
        ("/tasks", "action", "a" * 101, "at most 100"),
        ("/tasks", "action", "\x00", "pattern"),
        ("/tasks", "statis", "DONE", 'did you mean "status"?'),
        ("/tasks/1/runs", "limit", "101", "at most 100"),
        ("/tasks/1/progress", "limit", "1", "unknown parameter"),
        ("/tasks/1/download_url", "expires", "1", "unknown parameter"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(
    idle_client: httpx2.Client, path: str, name: str, value: str, expected: str
) -> None:
    found = violations(idle_client.get(path, params={name: value}))
    assert list(found) == [name]
    assert expected in found[name]


def test_all_invalid_parameters_are_named_at_once(idle_client: httpx2.Client) -> None:
    query = {"log_limit": "-1", "offset": "x", "wrong": "1"}
    assert set(violations(idle_client.get("/tasks/0", params=query))) == {"id", "log_limit", "offset", "wrong"}


MADE_UP = "Bearer 0a8f6d0e-9d3c-4c3e-8f0b-1f6f0c1f2b7a:5f0c9a1e7d3b2468"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer " + "x" * 5000, f"Bearer {'-' * 36}:x", MADE_UP,
     "bearer 0a8f6d0e-9d3c-4c3e-8f0b-1f6f0c1f2b7a", "Bearer é:é", MADE_UP + " x"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/tasks", "/tasks/1", "/tasks/x", "/tasks/1/download_url"])
def test_missing_or_malformed_credential_is_unauthorized(
    idle_service: Longshore, header: str | None, path: str
) -> None:
    headers = {} if header is None else {b"Authorization": header.encode()}
    answer = httpx2.get(idle_service.address + path, headers=headers)
    problem(answer, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_token_stops_working(idle_service: Longshore) -> None:
    pair = idle_service.token(Level.READ)
    headers = {"Authorization": f"Bearer {pair}"}
    assert httpx2.get(f"{idle_service.address}/tasks", headers=headers).status_code == 200
    idle_service.sql(
        "update longshore.access_tokens set revoked_at = now() where id = $1", uuid.UUID(pair.split(":")[0])
    )
    deadline = time.monotonic() + 2
    asked = time.monotonic()
    while (answer := httpx2.get(f"{idle_service.address}/tasks", headers=headers)).status_code == 200:
        assert asked < deadline, "one that was asked later was let in"
        time.sleep(0.05)
        asked = time.monotonic()
    problem(answer, "unauthorized")


def test_id_of_one_token_with_the_secret_of_another_is_unauthorized(idle_service: Longshore) -> None:
    id, secret = idle_service.token().split(":")[0], idle_service.token().split(":")[1]
    answer = httpx2.get(f"{idle_service.address}/tasks", headers={"Authorization": f"Bearer {id}:{secret}"})
    problem(answer, "unauthorized")


def test_a_level_that_is_too_low_is_forbidden(idle_service: Longshore) -> None:
    with idle_service.client(Level.READ) as reader:
        assert "'write'" in problem(reader.post("/tasks", json=export_body()), "forbidden")["detail"]
        problem(reader.post("/tasks/1/execute"), "forbidden")
        assert reader.get("/tasks").status_code == 200
    with idle_service.client(Level.WRITE) as writer:
        assert writer.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/tasks", {"GET", "POST"}), ("PUT", "/tasks/1", {"GET", "PATCH", "DELETE"}),
     ("GET", "/tasks/1/execute", {"POST"}),
     ("HEAD", "/tasks/1/execute", {"POST"}), ("POST", "/healthz", {"GET"}), ("PATCH", "/openapi.json", {"GET"}),
     ("BREW", "/tasks", {"GET", "POST"})],
)  # fmt: skip
def test_unknown_method_is_refused_with_the_allowed_ones(
    idle_client: httpx2.Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = idle_client.request(method, path)
    if method != "HEAD":
        problem(answer, "method-not-allowed")
    assert answer.status_code == 405
    head = {"HEAD"} if "GET" in allowed else set()
    assert set(answer.headers["allow"].split(", ")) == {*allowed, *head, "OPTIONS"}


@pytest.mark.parametrize("path", ["/nothing", "/tasks/1/nothing", "/task", "/docs/assets/../../x", "/problems/x"])
def test_unknown_path_is_not_found(idle_client: httpx2.Client, path: str) -> None:
    problem(idle_client.get(path), "not-found")


@pytest.mark.parametrize("path", ["/tasks", "/tasks/999999999", "/nothing", "/healthz", "/readyz", "/docs"])
def test_head_answers_as_get_does_without_the_content(idle_client: httpx2.Client, path: str) -> None:
    got, head = idle_client.get(path), idle_client.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    different = {"x-request-id", "date"}
    assert {k: v for k, v in head.headers.items() if k not in different} == {
        k: v for k, v in got.headers.items() if k not in different
    }


def test_the_request_id_is_in_header_problem_and_log(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    answer = idle_client.get("/tasks/999999999")
    id = problem(answer, "task-not-found")["request_id"]
    assert re.fullmatch(r"[0-9a-f]{32}", id)
    deadline = time.monotonic() + 5
    while not (lines := [line for line in idle_service.logged() if id in line.values()]):
        assert time.monotonic() < deadline, "the line is written once the answer is out"
    assert [(line["event"], line["path"], line["status"], line["request_id"]) for line in lines] == [
        ("request", "/tasks/999999999", 404, id)
    ]


def test_the_request_id_is_in_every_line_that_its_request_logs(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    body = {"name": "x", "kind": "memory", "settings": {"shelf": "broken"}, "secret": {"password": "x"}}
    id = idle_client.post("/destinations/test", json=body).headers["x-request-id"]
    events = ["the test of a destination failed", "request"]
    until(
        lambda: [line["event"] for line in idle_service.logged() if line.get("request_id") == id] == events,
        "both lines",
    )


def test_request_id_of_the_client_is_kept_when_it_is_valid(idle_client: httpx2.Client) -> None:
    assert idle_client.get("/tasks", headers={"X-Request-Id": "mine-1.2_3"}).headers["x-request-id"] == "mine-1.2_3"
    for odd in ("", "x" * 65, "a b", 'a"b', "é"):
        given = idle_client.get("/tasks", headers={b"X-Request-Id": odd.encode()}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", given)


def test_every_request_has_an_id_of_its_own(idle_client: httpx2.Client) -> None:
    assert len({idle_client.get("/healthz").headers["x-request-id"] for _ in range(20)}) == 20


@pytest.mark.parametrize("path", ["/tasks", "/nothing", "/docs", "/results/x"])
def test_every_answer_has_security_headers(idle_client: httpx2.Client, path: str) -> None:
    headers = idle_client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("kind", KINDS)
def test_the_type_of_every_problem_is_a_page(idle_service: Longshore, kind: str) -> None:
    answer = httpx2.get(f"{idle_service.address}/problems/{kind}")
    assert answer.status_code == 200
    assert answer.text.startswith(f"{KINDS[kind].title} ({KINDS[kind].status})")


def test_no_secret_gets_into_the_log(idle_service: Longshore) -> None:
    pair = idle_service.token()
    httpx2.get(f"{idle_service.address}/tasks", headers={"Authorization": f"Bearer {pair}"})
    httpx2.get(f"{idle_service.address}/tasks", params={"token": pair}, headers={"Authorization": f"Bearer {pair}x"})
    assert pair.split(":")[1] not in idle_service.log_file.read_text()


def test_only_errors_of_connections_to_a_database_are_its_outages(tmp_path: Path) -> None:
    async def of_connection() -> None:
        await connect("postgresql://nobody@127.0.0.1:1/none", "test")

    async def of_socket_folder() -> None:
        await connect(f"postgresql://nobody@/none?host={tmp_path}", "test")

    async def of_file() -> None:
        await asyncio.to_thread((tmp_path / "missing").read_bytes)

    async def of_timeout() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    def is_outage_of(failing: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        with pytest.raises(OSError) as caught:
            asyncio.run(failing())
        return is_outage(caught.value)

    assert [is_outage_of(each) for each in (of_connection, of_socket_folder, of_file, of_timeout)] == [
        True, True, False, False,
    ]  # fmt: skip
