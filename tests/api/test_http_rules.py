"""Answers that RFC 9110 and RFC 9112 ask for: refused bodies, codings, fields that come once, dates as conditions."""

import json
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.api.request_head import LIST_FIELDS
from tests.access.users import new_user
from tests.answers import problem, violations
from tests.raw_http import RawAnswer, request, sent
from tests.run_steps import play
from tests.service import CHAIN, Longshore, export_body, exported

JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def bearer(idle_service: Longshore) -> str:
    return f"Authorization: Bearer {idle_service.token(Level.ADMIN)}"


def answers_on_one_connection(port: int, *requests: bytes) -> bytes:
    """Send requests one after the other, each after the answer to the one before, until the service closes."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for data in requests:
            connection.sendall(data)
            answer = b""
            while b"\r\n\r\n" not in answer:
                piece = connection.recv(65536)
                assert piece, f"the connection ended without an answer to {data[:40]!r}"
                answer += piece
            head, _, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length
            while len(body) < int(length[1]):
                body += connection.recv(65536)
            found += answer
            if b"connection: close" in head.lower():
                return found
    return found


@pytest.mark.parametrize("size", [100, 60_000, 66_000, 70_000, 300_000, 1_000_000])
@pytest.mark.parametrize("path", ["/users", "/nothing", "/tasks/1/cancel"])
@pytest.mark.parametrize("known", [True, False])
def test_connection_with_a_refused_body_goes_on_or_says_that_it_ends(
    idle_service: Longshore, bearer: str, size: int, path: str, known: bool
) -> None:
    """RFC 9112, section 9.6."""
    head = ["Host: x", JSON, f"Content-Length: {size}", *([bearer] if known else [])]
    post = "\r\n".join([f"POST {path} HTTP/1.1", *head, "", ""]).encode() + size * b"x"
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(3):
        found = answers_on_one_connection(idle_service.port, post, get)
        assert found.count(b"HTTP/1.1 ") == 2 or b"connection: close" in found.lower()


def test_chunked_body_that_is_too_large_says_that_the_connection_ends_or_goes_on(
    idle_service: Longshore, bearer: str
) -> None:
    body = 40 * (b"1000\r\n" + 4096 * b"x" + b"\r\n") + b"0\r\n\r\n"
    head = ["POST /users HTTP/1.1", "Host: x", JSON, "Transfer-Encoding: chunked", bearer, "", ""]
    found = answers_on_one_connection(
        idle_service.port, "\r\n".join(head).encode() + body, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert b" 413 " in found.split(b"\r\n")[0]
    assert found.count(b"HTTP/1.1 ") == 2 or b"connection: close" in found.lower()


def refused(answer: RawAnswer, status: int, kind: str) -> dict[str, object]:
    assert answer.status == status, answer
    found: dict[str, object] = json.loads(answer.body)
    assert found["type"] == f"/problems/{kind}"
    return found


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
def test_content_coding_other_than_identity_is_refused(idle_service: Longshore, bearer: str, coding: str) -> None:
    """RFC 9110, section 8.4."""
    fields = (bearer, JSON, f"Content-Encoding: {coding}", "Content-Length: 2")
    answer = sent(idle_service.port, request("/tasks", *fields, method="POST", body=b"{}"))
    refused(answer, 415, "unsupported-coding")
    assert answer.headers["accept-encoding"] == "identity"


def test_content_coding_identity_is_none(idle_client: httpx2.Client) -> None:
    answer = idle_client.post("/tasks", json=export_body(), headers={"Content-Encoding": "identity"})
    assert answer.status_code == 201


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked"])
def test_transfer_coding_other_than_chunked_is_refused(idle_service: Longshore, bearer: str, coding: str) -> None:
    """RFC 9112, section 6.1."""
    fields = (bearer, JSON, f"Transfer-Encoding: {coding}")
    answer = sent(idle_service.port, request("/tasks", *fields, method="POST", body=b"2\r\n{}\r\n0\r\n\r\n"))
    found = refused(answer, 400, "bad-request")
    assert found["errors"] == [{"detail": "expected chunked alone", "parameter": "Transfer-Encoding"}]


@pytest.mark.parametrize(
    ("charset", "status"),
    [("utf-8", 201), ("UTF-8", 201), ('"utf-8"', 201), ("iso-8859-1", 415), ("utf-16", 415), ("x", 415)],
)
def test_json_has_no_charset_but_utf_8(idle_client: httpx2.Client, charset: str, status: int) -> None:
    """RFC 8259, section 8.1."""
    body = json.dumps(export_body()).encode()
    headers = {"Content-Type": f"application/json; charset={charset}"}
    answer = idle_client.post("/tasks", content=body, headers=headers)
    assert answer.status_code == status
    if status == 415:
        problem(answer, "not-json")


@pytest.mark.parametrize(
    "field",
    ["Authorization: Bearer x:y", "Content-Type: text/plain", "Idempotency-Key: b", "X-Session-Chain-Id: 9",
     "X-Session-Chain-Id: 1764", "X-Spaaza-Session-Chain-Id: 9", "If-Range: x", "Last-Event-ID: 1-1",
     "X-Request-Id: b", "Origin: null", "If-Unmodified-Since: x"],
)  # fmt: skip
def test_field_that_must_be_single_is_refused_where_it_comes_twice(
    idle_service: Longshore, bearer: str, field: str
) -> None:
    first = {
        "Authorization": bearer, "Content-Type": JSON, "Idempotency-Key": "Idempotency-Key: a",
        "X-Spaaza-Session-Chain-Id": "X-Session-Chain-Id: 1764", "X-Session-Chain-Id": "X-Session-Chain-Id: 1764",
        "X-Request-Id": "X-Request-Id: a", "Origin": "Origin: http://a",
    }  # fmt: skip
    name = field.partition(":")[0]
    fields = [each for each in (bearer, JSON) if not each.startswith(f"{name}:")]
    answer = sent(idle_service.port, request("/tasks", *fields, first.get(name, f"{name}: x"), field))
    found = refused(answer, 400, "bad-request")
    errors = found["errors"]
    assert isinstance(errors, list)
    assert [each["parameter"] for each in errors] == [name]


def test_chain_may_be_named_under_both_prefixes_where_they_agree(idle_service: Longshore, bearer: str) -> None:
    both = (f"X-Session-Chain-Id: {CHAIN}", f"X-Spaaza-Session-Chain-Id: {CHAIN}")
    assert sent(idle_service.port, request("/tasks", bearer, *both)).status == 200


def test_session_and_chain_headers_that_cannot_be_used_are_named(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    assert list(violations(idle_client.get("/tasks", headers={"X-Session-Chain-Id": ""}))) == ["X-Session-Chain-Id"]
    user = new_user(idle_service, _1764=Level.READ)
    opened = httpx2.post(
        f"{idle_service.address}/auth/login", json={"username": user.name, "password": user.password}
    ).json()
    session = {"X-Session-User-Id": str(opened["user_id"]), "X-Session-Key": opened["session_key"]}
    tasks = f"{idle_service.address}/tasks"
    assert httpx2.get(tasks, headers={**session, "X-Session-Chain-Id": str(CHAIN)}).status_code == 200
    assert list(violations(httpx2.get(tasks, headers=session))) == ["X-Session-Chain-Id"]
    problem(httpx2.get(tasks, headers={**session, "X-Session-Key": "longshore_no"}), "unauthorized")


def test_entity_tag_of_a_task_is_opaque(idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]

    def status_of(tag: str) -> int:
        return idle_client.get(f"/tasks/{task}", headers={"If-None-Match": tag}).status_code

    tags = (f'"{task}-1"', f'"{task}-001"', f'"0{task}-1"', f'"{task}-1-0"')
    assert [status_of(tag) for tag in tags] == [304, 200, 200, 200]


BODILESS = ["/tasks/{id}/cancel", "/tasks/{id}/pause", "/tasks/{id}/runs/1/ack", "/tasks/{id}/runs/1/deliver",
            "/webhooks/x/secret",
            "/webhooks/x/enable", "/webhooks/x/deliveries/x/redeliver"]  # fmt: skip


@pytest.mark.parametrize("path", BODILESS)
def test_body_of_an_endpoint_that_takes_none_is_refused(idle_client: httpx2.Client, path: str) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    address = path.format(id=task)
    assert violations(idle_client.post(address, json={"what": 1})) == {"/what": "unknown key"}
    assert list(violations(idle_client.post(address, json=[1]))) == [""]
    assert list(violations(idle_client.post(address, content=b"x"))) == [""]
    assert idle_client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-1"'


def test_empty_object_is_accepted_where_no_body_is_expected(idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    asynchronous = {"Prefer": "respond-async"}
    for body in (b"", b" {} "):
        assert idle_client.post(f"/tasks/{task}/execute", content=body, headers=asynchronous).status_code == 202
    assert idle_client.post(f"/tasks/{task}/cancel", json={}).status_code == 200


def test_body_of_execute_may_be_left_out_and_is_checked_where_it_is_sent(idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    address = f"/tasks/{task}/execute"
    assert violations(idle_client.post(address, json={"what": 1})) == {"/what": "unknown key"}
    assert list(violations(idle_client.post(address, json=[1]))) == [""]
    problem(idle_client.post(address, content=b"x"), "not-json")
    assert idle_client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-1"'


@pytest.mark.parametrize(
    "change",
    [{}, {"desc": "a test"}, {"debug": ""}, {"trigger": {"once": "2126-05-26T14:00:00+02:00"}},
     {"target": export_body()["target"]}],
)  # fmt: skip
@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
def test_change_that_changes_nothing_makes_no_revision(
    idle_client: httpx2.Client, change: dict[str, object], media_type: str
) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    before = idle_client.get(f"/tasks/{task}")
    entries = idle_client.get("/audit", params={"object": f"task {task}"}).json()
    answer = idle_client.patch(f"/tasks/{task}", content=json.dumps(change), headers={"Content-Type": media_type})
    assert answer.status_code == 200, answer.text
    assert (answer.headers["etag"], answer.json()) == (f'"{task}-1"', before.json())
    assert idle_client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-1"'
    assert idle_client.get("/audit", params={"object": f"task {task}"}).json() == entries


def test_cancelled_schedule_begins_anew_with_an_equal_trigger(idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z", repeat="daily")).json()
    assert idle_client.post(f"/tasks/{task['id']}/cancel").status_code == 200
    assert idle_client.patch(f"/tasks/{task['id']}", json={"trigger": task["trigger"]}).status_code == 200
    assert idle_client.get(f"/tasks/{task['id']}").headers["etag"] == f'"{task["id"]}-3"'


def test_first_time_of_a_preview_is_utc(idle_client: httpx2.Client) -> None:
    trigger = {"once": "2126-05-26T12:00:00+01:00", "repeat": "daily", "timezone": "Europe/Amsterdam"}
    times = idle_client.post("/tasks/preview", json={"trigger": trigger}).json()["times"]
    assert times[:2] == ["2126-05-26T11:00:00Z", "2126-05-27T11:00:00Z"]


@pytest.fixture(scope="module")
def result(client: httpx2.Client) -> Iterator[tuple[str, datetime]]:
    """The address of a result and when it was modified."""
    task, _ = exported(client, export_body())
    url = client.get(f"/tasks/{task['id']}/download_url").json()["url"]
    headers = httpx2.head(url).headers
    yield url, datetime.strptime(headers["last-modified"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "offset", "status"),
    [("If-Unmodified-Since", 0, 200), ("If-Unmodified-Since", 1, 200), ("If-Unmodified-Since", -1, 412),
     ("If-Modified-Since", 0, 304), ("If-Modified-Since", 60, 304), ("If-Modified-Since", -1, 200)],
)  # fmt: skip
def test_download_heeds_dates_as_conditions(result: tuple[str, datetime], name: str, offset: int, status: int) -> None:
    """RFC 9110, sections 13.1.3 and 13.1.4."""
    url, modified = result
    date = format_datetime(modified + timedelta(seconds=offset), usegmt=True)
    assert httpx2.get(url, headers={name: date}).status_code == status
    assert httpx2.head(url, headers={name: date}).status_code == status


def test_date_of_a_condition_is_ignored_where_it_is_none_or_a_tag_is_given(result: tuple[str, datetime]) -> None:
    """RFC 9110, section 13.2.2: a condition on the tag comes first."""
    url, modified = result
    tag = httpx2.head(url).headers["etag"]
    before = format_datetime(modified - timedelta(days=1), usegmt=True)
    after = format_datetime(modified + timedelta(days=1), usegmt=True)
    for headers, status in (
        ({"If-Unmodified-Since": "yesterday"}, 200),
        ({"If-Modified-Since": "Sat, 99 Nov 2026 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, 200),
        ({"If-Unmodified-Since": "Mon, 01 Jan 2026 00:00:00 +99999999999999999999"}, 200),
        ({"If-Unmodified-Since": before, "If-Match": tag}, 200),
        ({"If-Modified-Since": after, "If-None-Match": '"x"'}, 200),
        ({"If-Modified-Since": before, "If-None-Match": tag}, 304),
    ):
        assert httpx2.get(url, headers=headers).status_code == status, headers


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_address_with_an_impossible_port_is_refused(idle_client: httpx2.Client, port: int) -> None:
    url = f"https://example.com:{port}/hook"
    expected = "expected a port from 1 to 65535"
    assert violations(idle_client.post("/webhooks", json={"chain": CHAIN, "url": url})) == {"/url": expected}
    body = {**export_body(), "target": {"action": "http", "url": url}}
    assert violations(idle_client.post("/tasks", json=body)) == {"/target/url": expected}


@pytest.mark.parametrize("host", ["a b.example.com", "a<b.example.com"])
def test_address_whose_host_cannot_be_a_name_is_refused(idle_client: httpx2.Client, host: str) -> None:
    url = f"https://{host}/hook"
    expected = "expected a host without spaces and other characters that names of hosts lack"
    assert violations(idle_client.post("/webhooks", json={"chain": CHAIN, "url": url})) == {"/url": expected}
    body = {**export_body(), "target": {"action": "http", "url": url}}
    assert violations(idle_client.post("/tasks", json=body)) == {"/target/url": expected}


@pytest.mark.parametrize("size", [270_000, 500_000])
def test_head_of_more_than_256_kib_is_refused(idle_service: Longshore, size: int) -> None:
    answer = sent(idle_service.port, request("/healthz", f"X-Large: {size * 'x'}"))
    if size < 300_000 or answer.body:  # beyond its buffer the HTTP server answers by itself, without a body
        refused(answer, 431, "head-too-large")
    assert answer.status == 431


@pytest.mark.parametrize("name", LIST_FIELDS.values())
def test_header_field_that_is_a_list_has_8_kib_at_most_in_all_its_lines(idle_service: Longshore, name: str) -> None:
    def answer(*sizes: int) -> RawAnswer:
        return sent(idle_service.port, request("/healthz", *(f"{name}: {size * ','}" for size in sizes)))

    assert answer(8_192).status == 200
    several = (8_193,) if name == "Content-Type" else (4_000, 4_193)  # a Content-Type comes once
    for refusal in (answer(8_193), answer(*several)):
        refused(refusal, 431, "head-too-large")
        assert name in json.loads(refusal.body)["detail"]


def test_wait_for_a_task_that_has_ended_needs_no_place_among_those_that_wait(idle_service: Longshore) -> None:
    narrow = Longshore(idle_service.data, idle_service.url, credential_open_requests="1")
    narrow.log_file = idle_service.data / "narrow.log"
    try:
        narrow.start_api()
        with narrow.client() as client:
            ended = client.post("/tasks", json=export_body()).json()["id"]
            play(idle_service, ended, "begin", "finish")
            waiting = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
            with client.stream("GET", f"/tasks/{waiting}/events"):
                problem(client.get(f"/tasks/{waiting}", params={"wait": 5}), "too-many-requests")
                assert client.get(f"/tasks/{ended}", params={"wait": 5}).status_code == 200
                known = {"If-None-Match": '"x"'}
                assert client.get(f"/tasks/{waiting}", params={"wait": 5}, headers=known).status_code == 200
    finally:
        narrow.stop()


def test_violation_of_a_number_is_named_in_plain_english(idle_client: httpx2.Client) -> None:
    decimal = "expected a number in decimal digits, without a leading zero"
    for path in ("/tasks/02", "/tasks/x", "/tasks/1e1"):
        assert violations(idle_client.get(path)) == {"id": decimal}
    assert violations(idle_client.get("/tasks?limit=1000")) == {"limit": "expected an integer of at most 100"}
    assert violations(idle_client.get("/tasks?limit=x")) == {"limit": decimal}
    assert violations(idle_client.post("/webhooks", json={"chain": "x", "url": 1})) == {
        "/chain": "expected an integer, got a string", "/url": "expected a string, got a number",
    }  # fmt: skip
