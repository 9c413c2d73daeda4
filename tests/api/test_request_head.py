"""Answers to requests that no HTTP client would send: hosts, paths, numbers, headers and chunks."""

import json
import socket
from collections.abc import Iterator

import pytest

from longshore.access.tokens import Level
from longshore.api.middleware import BODY_SECONDS
from tests.raw_http import RawAnswer, request, sent
from tests.service import Longshore

TASK = 673
CHUNKED = ("Content-Type: application/json", "Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def bearer(idle_service: Longshore) -> str:
    return f"Authorization: Bearer {idle_service.token(Level.ADMIN)}"


def kind(answer: RawAnswer) -> str:
    """The kind of the problem that an answer holds."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    problem = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert problem["request_id"] == answer.headers["x-request-id"]
    found: str = problem["type"]
    return found.removeprefix("/problems/")


@pytest.mark.parametrize(
    "host",
    [None, "", "[", "[::1", "[::g]", "[]", "[1.2.3.4]", "a b", "a/b", "user@a", "a:b", "a:99999", "a:1:2", "::1", "a?b",
     "a#b", "a\\b", "%zz", b"\xff", "a\r\nHost: a", "a\r\nHost: b"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/tasks", "/console/1764/tasks"])
def test_request_without_one_valid_host_is_refused(
    idle_service: Longshore, host: str | bytes | None, path: str
) -> None:
    answer = sent(idle_service.port, request(path, host=host))
    assert (answer.status, kind(answer)) == (400, "bad-request")
    assert json.loads(answer.body)["errors"][0]["parameter"] == "Host"


@pytest.mark.parametrize("host", ["x", "exports.example.com:8080", "127.0.0.1", "[::1]", "[2001:db8::1]:443", "a_b-c."])
def test_request_with_a_valid_host_is_answered(idle_service: Longshore, host: str) -> None:
    assert sent(idle_service.port, request("/healthz", host=host)).status == 200


def test_http_1_0_needs_no_host(idle_service: Longshore) -> None:
    assert sent(idle_service.port, b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


@pytest.mark.parametrize(
    "path",
    ["//tasks", "/tasks/", "/tasks%2F", f"//tasks/{TASK}", f"/tasks//{TASK}", f"/tasks/{TASK}/", f"/tasks/{TASK}%2F",
     f"/tasks/{TASK}%2f", "/./tasks", "/a/../tasks", "/%2e/tasks", "/%2E%2E/tasks", "/tasks%00", "/tasks%0a",
     "/tasks%7F", "/tasks%5C1", "/tasks\\1", "/tasks%", "/tasks%2", "/tasks/%zz", "/console/static/%00",
     "/%74asks", "/task%73", "/%6Detrics", "/%6dETRICS", "/tasks/67%33", "/delta%2Dsharing/shares", "/download%5furl",
     "/docs/assets/swagger-ui%2ecss", "/console/1_0/tasks/10",
     "/docs/assets/%00", "/console/static/..%2f..%2fpages.py", "/console/static/" + 300 * "a",
     "/docs/assets/" + 3000 * "a/" + "a",
     "/console/static/README.md", "/console/static/..", "/console/1_764/tasks", "/console/%D9%A1/tasks"],
)  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_path_in_another_form_than_the_normal_one_is_not_found(
    idle_service: Longshore, bearer: str, path: str, known: bool
) -> None:
    fields = (bearer,) if known else ()
    assert sent(idle_service.port, request(path, *fields)).status == 404


@pytest.mark.parametrize(
    "path",
    ["/tasks/1e1", "/tasks/1.0", "/tasks/+1", "/tasks/01", "/tasks/1_0", "/tasks/%201", "/tasks/%D9%A5", "/tasks/0x1",
     "/tasks?offset=-0", "/tasks/0", "/tasks/" + 5000 * "9", "/tasks?limit=1e1", "/tasks?limit=5.0",
     "/tasks?limit=%2B5", "/tasks?limit=05", "/tasks?campaign_id=1e1", "/tasks/1?log_limit=1e1",
     "/tasks/1/runs/1e0/manifest", "/access_tokens?client_id=1e1"],
)  # fmt: skip
def test_number_that_is_not_plain_decimal_digits_is_refused(idle_service: Longshore, bearer: str, path: str) -> None:
    answer = sent(idle_service.port, request(path, bearer))
    assert (answer.status, kind(answer)) == (400, "bad-request")
    assert len(json.loads(answer.body)["errors"]) == 1


def test_id_in_scientific_notation_deletes_nothing(idle_service: Longshore, bearer: str) -> None:
    before = idle_service.sql("select count(*) from longshore.tasks")[0]["count"]
    assert sent(idle_service.port, request("/tasks/6.84e2", bearer, method="DELETE")).status == 400
    assert idle_service.sql("select count(*) from longshore.tasks")[0]["count"] == before


@pytest.mark.parametrize("path", ["/tasks?status=DONE&status=ERROR", "/tasks?limit=1&limit=1", "/healthz?a=1&a=2"])
def test_parameter_that_comes_twice_is_refused(idle_service: Longshore, bearer: str, path: str) -> None:
    answer = sent(idle_service.port, request(path, bearer))
    assert (answer.status, kind(answer)) == (400, "bad-request")
    assert json.loads(answer.body)["errors"][0]["detail"] == "expected once"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"username": "a", "password": "b", "username": "c"}', ["/username"]),
        ('{"username": "a", "password": {"x/y": 1, "x/y": 1, "z": [{"k": 0, "\\u006b": 0}]}}',
         ["/password/x~1y", "/password/z/0/k"]),
        ('{"username": ' + 33 * "[" + 33 * "]" + "}", [""]),
        ('{"username": ' + 5000 * "[" + 5000 * "]" + "}", [""]),
        ('{"username": "\\ud800"}', [""]),
        ('{"username": 1e9999999999999999999}', [""]), ('{"username": -1e-9999999999999999999}', [""]),
        ('{"username": 1e' + 50_000 * "9" + "}", [""]),
    ],
)  # fmt: skip
def test_json_with_repeated_keys_deep_nesting_or_a_number_without_value_is_refused_with_the_place(
    idle_service: Longshore, body: str, pointers: list[str]
) -> None:
    fields = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    answer = sent(idle_service.port, request("/auth/login", *fields, method="POST", body=body.encode()))
    assert (answer.status, kind(answer)) == (400, "bad-request")
    assert sorted(violation["pointer"] for violation in json.loads(answer.body)["errors"]) == pointers


@pytest.mark.parametrize(
    "body",
    [b"2;" + 100_000 * b"a" + b"\r\n{}\r\n0\r\n\r\n", b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n0\r\n\r\n",
     b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n", b"2\r\n{}xx0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n",
     b"2\r\n{}\r\n0\r\nX: " + 200_000 * b"a" + b"\r\n\r\n"],
)  # fmt: skip
def test_malformed_chunks_are_the_clients_fault(idle_service: Longshore, body: bytes) -> None:
    answer = sent(idle_service.port, request("/auth/login", *CHUNKED, method="POST", body=body))
    assert (answer.status, kind(answer)) == (400, "bad-request")


@pytest.mark.parametrize("address", ["http://[", "//[", "http://a]/", "http://[::1", "\xbd", ""])
def test_malformed_current_url_of_htmx_leads_to_the_sign_in_page(idle_service: Longshore, address: str) -> None:
    answer = sent(idle_service.port, request("/console/1764/tasks", "HX-Request: true", f"HX-Current-URL: {address}"))
    assert answer.status == 200
    assert answer.headers["hx-redirect"].startswith("/sign-in?next=")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/tasks", "GET, HEAD, OPTIONS, POST"), ("/tasks/1", "DELETE, GET, HEAD, OPTIONS, PATCH"),
     ("/tasks/1/execute", "OPTIONS, POST"), ("/healthz", "GET, HEAD, OPTIONS"),
     ("/sign-in", "GET, HEAD, OPTIONS, POST"),
     ("*", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")],
)  # fmt: skip
def test_options_and_405_name_every_method_of_a_path(idle_service: Longshore, path: str, allowed: str) -> None:
    answer = sent(idle_service.port, request(path, method="OPTIONS"))
    assert (answer.status, answer.headers["allow"]) == (204, allowed)
    if path != "*":
        for method in ("TRACE", "PROPFIND"):
            refused = sent(idle_service.port, request(path, method=method))
            assert (refused.status, refused.headers["allow"]) == (405, allowed)


def test_body_that_breaks_off_is_not_logged_as_a_fault_of_the_service(idle_service: Longshore) -> None:
    fields = ("Content-Type: application/json", f"Content-Length: {BODY_SECONDS}", "X-Request-Id: broken-off")
    data = request("/auth/login", *fields, method="POST", body=b"{}")
    with socket.create_connection(("127.0.0.1", idle_service.port)) as connection:
        connection.sendall(data)
    found: Iterator[dict[str, object]] = (
        line for line in idle_service.logged() if line.get("request_id") == "broken-off"
    )
    assert not [line for line in found if line["event"] == "request failed"]
