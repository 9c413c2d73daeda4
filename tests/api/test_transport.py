"""Headers of every answer, other origins, proxies, slow clients and large headers."""

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from litestar.types import HTTPRequestEvent

from longshore.access.tokens import Level
from longshore.api import middleware
from longshore.errors import LongshoreError, ProblemError
from longshore.settings_sources import load
from tests.access.users import new_user
from tests.answers import problem
from tests.conftest import ALLOWED
from tests.run_steps import play
from tests.service import CHAIN, Longshore, export_body

PROXY = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize("path", ["/healthz", "/tasks", "/nothing", "/tasks/x", "/problems/forbidden", "/openapi.json"])
def test_every_answer_has_each_security_header_once(idle_service: Longshore, path: str) -> None:
    headers = httpx2.get(f"{idle_service.address}{path}").headers
    for name, value in middleware.SECURITY:
        assert headers.get_list(name.decode()) == [value.decode()], name
    assert "strict-transport-security" not in headers, "browsers take it only over TLS"


def test_the_page_of_the_documentation_runs_its_own_scripts_alone(idle_service: Longshore) -> None:
    page = httpx2.get(f"{idle_service.address}/docs")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self' 'sha256-" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    script = re.search(r"<script>(.*?)</script>", page.text)
    assert script
    assert base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in policy


def test_pages_of_other_origins_may_read_nothing_unless_they_are_configured(
    idle_service: Longshore, proxied_service: Longshore
) -> None:
    asked = {
        "Origin": ALLOWED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for service, origin, good in (
        (idle_service, ALLOWED, False),
        (proxied_service, ALLOWED, True),
        (proxied_service, "https://evil.example", False),
    ):
        before = httpx2.options(f"{service.address}/tasks", headers={**asked, "Origin": origin})
        answer = httpx2.get(f"{service.address}/healthz", headers={"Origin": origin})
        for headers in (before.headers, answer.headers):
            assert headers.get("access-control-allow-origin") == (ALLOWED if good else None)
            assert "access-control-allow-credentials" not in headers


def test_pages_of_configured_origins_may_send_all_that_the_api_reads_and_read_all_that_it_says(
    proxied_service: Longshore,
) -> None:
    document = httpx2.get(f"{proxied_service.address}/openapi.json").json()
    operations = [each for path in document["paths"].values() for each in path.values() if isinstance(each, dict)]
    read = {one["name"] for each in operations for one in each.get("parameters", []) if one["in"] == "header"}
    assert {"If-Match", "If-None-Match", "Last-Event-ID", "Prefer"} <= read
    asked = {
        "Origin": ALLOWED,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": ",".join(sorted(read, key=str.lower)),
    }
    before = httpx2.options(f"{proxied_service.address}/tasks/1", headers=asked)
    allowed = {name.strip().lower() for name in before.headers["access-control-allow-headers"].split(",")}
    assert before.is_success
    assert {name.lower() for name in read} <= allowed
    with proxied_service.client() as client:
        task = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
        answer = client.get(f"/tasks/{task}", headers={"Origin": ALLOWED})
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"x-log-length", "x-created-by", "etag", "x-request-id"} <= exposed & set(answer.headers)


def test_headers_of_a_proxy_are_used_only_where_it_is_configured(
    idle_service: Longshore, proxied_service: Longshore
) -> None:
    for service, address in ((idle_service, "127.0.0.1"), (proxied_service, "203.0.113.9")):
        user = new_user(service, _1764=Level.READ)
        body = {"username": user.name, "password": user.password}
        forged = {**PROXY, "X-Forwarded-For": "198.51.100.1, 203.0.113.9, 10.1.2.3"}
        answer = httpx2.post(f"{service.address}/auth/login", json=body, headers=forged)
        assert answer.status_code == 200
        rows = service.sql("select address from longshore.audit where object = $1", f"user {user.id}")
        assert [row["address"] for row in rows] == [address], "what a client puts before the proxy's own word counts"


def test_behind_tls_addresses_cookies_and_headers_are_those_of_tls(proxied_service: Longshore) -> None:
    user = new_user(proxied_service, _1764=Level.READ)
    body = {"username": user.name, "password": user.password, "cookie": True}
    ours = {**PROXY, "Host": "exports.example.com", "Origin": "https://exports.example.com"}
    answer = httpx2.post(f"{proxied_service.address}/auth/login", json=body, headers=ours)
    assert answer.status_code == 200, answer.text
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-longshore=")
    assert "secure" in cookie.lower().split("; ")
    assert "domain" not in cookie.lower()
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    plain = httpx2.post(
        f"{proxied_service.address}/auth/login", json=body, headers={**ours, "Origin": "http://exports.example.com"}
    )
    problem(plain, "other-site")


def test_a_download_address_is_the_one_that_the_client_reached(proxied_service: Longshore) -> None:
    task = proxied_service.sql(
        """
        with made as (
            insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, run, result)
            values (1764, '', 'export', '{}', $1, '', 'DONE', 1, 'x.csv') returning id
        )
        insert into longshore.runs (
            task_id, run, state, first_attempt, attempt, began_at, attempt_began_at, progress_at,
            result, location, sha256
        )
        select id, 1, 'DONE', 1, 1, now(), now(), now(), 'x.csv', '1764/' || id || '/1/x.csv', '' from made
        returning task_id
        """,
        '{"action": "export", "export_index": "wallet-ledger", "export_format": "csv"}',
    )[0][0]
    file = proxied_service.data / "results" / str(CHAIN) / str(task) / "1" / "x.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    with proxied_service.client(Level.READ) as client:
        url = client.get(f"/tasks/{task}/download_url", headers={**PROXY, "Host": "exports.example.com"}).json()["url"]
    assert url.startswith(f"https://exports.example.com/results/{CHAIN}/{task}/")


@contextlib.contextmanager
def connected(service: Longshore) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        yield client


def until_closed(client: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            found += piece
    return found


def test_a_client_that_is_slow_with_its_headers_or_body_is_cut_off(idle_service: Longshore) -> None:
    """Both at once, so that the test waits once."""
    head = "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60\r\n"
    began = time.monotonic()
    with connected(idle_service) as headers, connected(idle_service) as body:
        headers.sendall(head.encode())
        body.sendall(head.encode() + b"\r\n{")
        headers.settimeout(0.25)
        open_still, answer = True, b""
        while open_still and time.monotonic() - began < 60:
            try:
                piece = headers.recv(4096)
                answer += piece
                open_still = bool(piece)
            except TimeoutError:
                with contextlib.suppress(OSError):
                    headers.sendall(b"X: y\r\n")
                    body.sendall(b" ")
            except ConnectionError:
                open_still = False
        assert not open_still, "a client may send headers for ever"
        assert b" 200 " not in answer
        message = until_closed(body)
    assert message.startswith(b"HTTP/1.1 408 "), message[:500]
    assert b"/problems/too-slow" in message


def test_the_time_for_a_body_begins_when_the_service_begins_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.3)

    async def late(seconds: float) -> middleware.RequestBody:
        async def receive() -> HTTPRequestEvent:
            await asyncio.sleep(seconds)
            return {"type": "http.request", "body": b"{}", "more_body": False}

        body = middleware.RequestBody({}, receive)
        await asyncio.sleep(0.5)  # as the service does while it waits for its database
        return body

    async def read(seconds: float) -> object:
        return await (await late(seconds)).receive()

    async def read_rest(seconds: float) -> bool:
        return await (await late(seconds)).read_rest()

    assert asyncio.run(read(0.1)) == {"type": "http.request", "body": b"{}", "more_body": False}
    with pytest.raises(ProblemError, match="too-slow"):
        asyncio.run(read(0.5))
    assert asyncio.run(read_rest(0.1))
    assert not asyncio.run(read_rest(middleware.UNREAD_SECONDS + 0.5))


def test_headers_of_a_megabyte_are_refused(idle_service: Longshore) -> None:
    for large in (f"X-Large: {'x' * 1_000_000}\r\n", "".join(f"X-{n}: y\r\n" for n in range(5000))):
        with connected(idle_service) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{large}\r\n".encode())
            answer = until_closed(client)
        assert answer.startswith(b"HTTP/1.1 431 ") or answer == b"", answer[:200]
    assert httpx2.get(f"{idle_service.address}/healthz", headers={"X-Large": "x" * 8000}).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUSTED_PROXIES", "*"), ("TRUSTED_PROXIES", "10.0.0.1/8"), ("TRUSTED_PROXIES", "proxy.example.com"),
        ("CORS_ORIGINS", "*"), ("CORS_ORIGINS", "app.example.com"), ("CORS_ORIGINS", "https://app.example.com/"),
        ("CREDENTIAL_RATE", "many"), ("ADDRESS_RATE", "5/fortnight"), ("SECRET", "short"),
    ],
)  # fmt: skip
def test_a_setting_of_the_perimeter_that_cannot_be_used_is_named(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LongshoreError, match=name.lower()):
        load({f"LONGSHORE_{name}": value})


def send_without_body(client: socket.socket, service: Longshore, path: str) -> None:
    """Send a GET that declares a body, and no body."""
    head = (f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {service.token()}")
    client.sendall("\r\n".join((*head, "Content-Length: 10", "", "")).encode())


def test_long_poll_whose_body_never_comes_is_refused_as_too_slow(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    task = idle_client.post("/tasks", json=export_body()).json()["id"]
    with connected(idle_service) as client:
        send_without_body(client, idle_service, f"/tasks/{task}?wait=60")
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b"connection: close" in answer.lower()
    assert "never retrieved" not in idle_service.log_file.read_text()


def test_event_stream_goes_on_though_the_declared_body_never_comes(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    task = idle_client.post("/tasks", json=export_body()).json()["id"]
    with connected(idle_service) as client:
        send_without_body(client, idle_service, f"/tasks/{task}/events")
        received = b""
        while b'"READY"' not in received:
            piece = client.recv(65536)
            assert piece, received
            received += piece
        time.sleep(1)
        play(idle_service, task, "begin")
        while b'"INPROGRESS"' not in received:
            piece = client.recv(65536)
            assert piece, received
            received += piece
