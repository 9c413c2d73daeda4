"""The connection of a client: its settings, faults that no retry mends, and messages without credentials.

Many of the inputs are those of users of other services' clients.
"""

import asyncio
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from longshore import AsyncLongshore, Longshore
from longshore.client import ClientError, ForbiddenError, LostError, NoAnswerError, NotSentError, ProfileError, retry
from longshore.client.connection import Connection
from longshore.client.profiles import Profile, read_profile
from longshore.client.requests import Request
from tests import service as services
from tests.conftest import SMALL_CHAIN
from tests.service import free_port

SECRET = "0b9f1b0e-7f53-4f5e-9d1a-3f8f6f0a2c11:longshore_secret"
VARIABLES = ("LONGSHORE_ADDRESS", "LONGSHORE_TOKEN", "LONGSHORE_CHAIN")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Server:
    """Something else than Longshore, which answers every request alike and keeps their heads."""

    def __init__(self, status: int, headers: dict[str, str], tls: ssl.SSLContext | None = None) -> None:
        heads: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                heads.append(f"{self.command} {self.path}\n{self.headers}")
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_POST = do_CONNECT = do  # noqa: N815  # names that the library looks for

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.heads = heads
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    opened: list[Server] = []
    yield opened
    for server in opened:
        server.close()


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t"])
def test_line_end_behind_the_token_is_not_part_of_it(service: services.Longshore, token: str, end: str) -> None:
    with Longshore(f"{service.address}{end}", f"{token}{end}", chain=SMALL_CHAIN) as client:
        client.tasks.list(limit=1)


@pytest.mark.parametrize("odd", ["\n{}", "{}\nX: y", "{}\x00", "{} {}", "{}é", "{}\u2028"])
def test_token_that_no_header_can_have_is_refused_without_being_quoted(odd: str) -> None:
    token = odd.replace("{}", SECRET)
    if token.strip() == SECRET:
        return
    with pytest.raises(ClientError, match="characters that no token has") as caught:
        Longshore("http://127.0.0.1:1", token, chain=1)
    assert "longshore_secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8080", "localhost", "//host", "ftp://host", "http://", "https://:443", "/tasks", "", "htp://host"],
)
def test_address_without_scheme_or_host_is_refused_at_once(address: str) -> None:
    with pytest.raises(ClientError, match=r"http:// or https://|is missing"):
        Longshore(address, SECRET, chain=1)


def test_password_in_the_address_is_refused_and_not_quoted() -> None:
    with pytest.raises(ClientError, match="user name or a password") as caught:
        Longshore("https://me:hunter2@exports.example.com", SECRET, chain=1)
    assert "hunter2" not in str(caught.value)


def test_settings_come_from_the_environment_and_arguments_count_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClientError, match="LONGSHORE_ADDRESS"):
        Longshore()
    monkeypatch.setenv("LONGSHORE_ADDRESS", "https://exports.example.com/api/")
    with pytest.raises(ClientError, match="LONGSHORE_TOKEN"):
        Longshore()
    monkeypatch.setenv("LONGSHORE_TOKEN", SECRET)
    with pytest.raises(ClientError, match="LONGSHORE_CHAIN"):
        Longshore()
    monkeypatch.setenv("LONGSHORE_CHAIN", "1764")
    assert repr(Longshore()) == "<Longshore https://exports.example.com/api chain 1764>"
    assert repr(AsyncLongshore(chain=9)) == "<AsyncLongshore https://exports.example.com/api chain 9>"
    monkeypatch.setenv("LONGSHORE_CHAIN", "acme")
    with pytest.raises(ClientError, match="not a number"):
        Longshore()


def test_no_representation_has_the_token(service: services.Longshore, token: str) -> None:
    secret = token.partition(":")[2]
    with Longshore(service.address, token, chain=SMALL_CHAIN) as client:
        task = client.tasks.create({"action": "export", "export_index": "users", "export_format": "csv"})
        shown = [repr(client), repr(task), repr(client._transport.connection), repr(Profile("http://x", token, 1))]
        assert f"<Task {task.id} READY of {service.address} chain {SMALL_CHAIN}>" in shown
    assert not [text for text in shown if secret in text]


def test_chain_that_the_token_is_not_for_is_refused(service: services.Longshore, token: str) -> None:
    with Longshore(service.address, token, chain=9) as client, pytest.raises(ForbiddenError):
        client.tasks.list()


def test_refused_connection_is_retried_and_a_warning_says_why_nothing_happens(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(retry, "MAX_PAUSE_SECONDS", 0.5)
    address = f"http://127.0.0.1:{free_port()}"
    with Longshore(address, SECRET, chain=1, retry_for=2) as client, pytest.raises(NotSentError) as caught:
        client.tasks.list()
    assert address in str(caught.value)
    [warning] = [record for record in caplog.records if record.name == "longshore.client"]
    assert warning.levelno == logging.WARNING
    assert address in warning.getMessage()
    assert "trying again" in warning.getMessage()


def test_certificate_that_does_not_verify_is_reported_at_once_and_verify_takes_its_authority(
    servers: list[Server], tmp_path: Path
) -> None:
    key, authority = tmp_path / "key.pem", tmp_path / "authority.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(authority),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    servers.append(Server(200, {"Content-Type": "text/html"}, context))
    address = f"https://127.0.0.1:{servers[0].port}"
    began = time.monotonic()
    with Longshore(address, SECRET, chain=1) as client, pytest.raises(NoAnswerError, match="does not verify") as caught:
        client.tasks.list()
    assert time.monotonic() - began < 10
    assert address in str(caught.value)
    for verify in (str(authority), False, ssl.create_default_context(cafile=authority)):
        with (
            Longshore(address, SECRET, chain=1, verify=verify) as client,
            pytest.raises(NoAnswerError, match="not Longshore's"),
        ):
            client.tasks.list()


def test_plain_http_to_a_tls_port_is_reported_at_once(servers: list[Server]) -> None:
    servers.append(Server(200, {}))
    address = f"https://127.0.0.1:{servers[0].port}"
    with (
        Longshore(address, SECRET, chain=1) as client,
        pytest.raises(NoAnswerError, match="check http:// and https://"),
    ):
        client.tasks.list()


def test_unknown_host_name_is_permanent_and_a_name_server_that_is_away_is_not() -> None:
    connection = Connection("http://exports.example.com", SECRET, 1, 1, 1)
    for errno, kind in ((socket.EAI_NONAME, NoAnswerError), (socket.EAI_AGAIN, NotSentError)):
        error = httpx2.ConnectError("[Errno] no address")
        error.__cause__ = socket.gaierror(errno, "no address")
        failed = connection.client_error(error, Request(method="GET", url="/tasks"))
        assert type(failed) is kind
        assert "exports.example.com" in str(failed)


def test_redirect_is_reported_and_the_token_is_not_sent_there(servers: list[Server]) -> None:
    servers.append(Server(200, {}))
    there = f"http://localhost:{servers[0].port}/tasks?secret=1"
    servers.append(Server(308, {"Location": there}))
    with (
        Longshore(f"http://127.0.0.1:{servers[1].port}", SECRET, chain=1) as client,
        pytest.raises(NoAnswerError, match=f"another address: http://localhost:{servers[0].port}/tasks$"),
    ):
        client.tasks.list()
    assert servers[0].heads == []


def test_requests_go_through_a_proxy_whose_password_no_message_quotes(servers: list[Server]) -> None:
    servers.append(Server(407, {"Proxy-Authenticate": "Basic"}))
    proxy = f"http://me:hunter2@127.0.0.1:{servers[0].port}"
    with (
        Longshore("https://exports.example.com", SECRET, chain=1, proxy=proxy) as client,
        pytest.raises(NoAnswerError, match="proxy refuses") as caught,
    ):
        client.tasks.list()
    assert "hunter2" not in str(caught.value)
    assert servers[0].heads[0].startswith("CONNECT exports.example.com:443")
    assert "longshore_secret" not in servers[0].heads[0]


def test_http_client_of_the_caller_sends_requests_and_stays_open(service: services.Longshore, token: str) -> None:
    seen: list[str] = []
    with httpx2.Client(event_hooks={"request": [lambda request: seen.append(request.url.path)]}) as own:
        with Longshore(service.address, token, chain=SMALL_CHAIN, http_client=own) as client:
            client.indexes.list()
        assert seen == ["/indexes"]
        assert own.get(f"{service.address}/healthz").status_code == 200
    with (
        Longshore(service.address, token, chain=SMALL_CHAIN, http_client=own) as client,
        pytest.raises(ClientError, match="closed"),
    ):
        client.tasks.list()


def test_call_on_a_closed_client_raises_an_error_of_the_client(service: services.Longshore, token: str) -> None:
    client = Longshore(service.address, token, chain=SMALL_CHAIN)
    client.close()
    with pytest.raises(ClientError, match="the client is closed"):
        client.tasks.list()

    async def run() -> None:
        async with AsyncLongshore(service.address, token, chain=SMALL_CHAIN) as awaited:
            task = await awaited.exports.create("users", at=None)
        with pytest.raises(ClientError, match="the client is closed"):
            await task.refresh()
        with pytest.raises(ClientError, match="the client is closed"):
            await anext(awaited.tasks.iterate())

    asyncio.run(run())


def test_answer_that_is_cut_is_an_error_of_the_client(servers: list[Server]) -> None:
    servers.append(Server(200, {"Content-Length": "1000"}))
    with (
        Longshore(f"http://127.0.0.1:{servers[0].port}", SECRET, chain=1, retry_for=0, timeout=1) as client,
        pytest.raises(LostError),
    ):
        client.tasks.list()


def test_profile_that_cannot_be_read_does_not_show_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "longshore" / "profiles.json"
    file.parent.mkdir()
    file.write_text('{"default": {"address": "http://x", "token": "longshore_secret", "chain": "nine"}}')
    with pytest.raises(ProfileError) as caught:
        read_profile("default")
    assert "longshore_secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://[::1:8080", "http://[x]", "http://a]b", "http://[::1]:65536", "http://a:b"]
)
def test_address_that_cannot_be_read_is_an_error_of_the_client(address: str) -> None:
    with pytest.raises(ClientError, match="the address"):
        Longshore(address, SECRET, chain=1)


def test_certificates_and_proxies_that_cannot_be_used_are_errors_of_the_client(tmp_path: Path) -> None:
    no_certificates = tmp_path / "empty.pem"
    no_certificates.write_text("no certificate", encoding="utf-8")
    for file in (no_certificates, tmp_path / "missing.pem"):
        with pytest.raises(ClientError, match=file.name):
            Longshore("https://127.0.0.1:1", SECRET, chain=1, verify=str(file))
    for proxy in ("squid", "http://[::1"):
        with pytest.raises(ClientError, match="the proxy"):
            Longshore("https://127.0.0.1:1", SECRET, chain=1, proxy=proxy)
