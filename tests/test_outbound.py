"""Requests to addresses that users gave: only public ones, the checked address itself, and no further."""

import asyncio
import contextlib
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from longshore import outbound
from longshore.outbound import Answer, Network, OutboundError, RefusedError, Request, is_allowed, send
from longshore.settings import Settings
from tests.receiver import receiving


def networks(text: str) -> tuple[Network, ...]:
    return Settings(outbound_allow=text).outbound_networks


def call(address: str, allow: str = "127.0.0.0/8, ::1", seconds: float = 20) -> Answer:
    return asyncio.run(send(Request("POST", address, {"X-A": "b"}, b"c", seconds), networks(allow)))


def test_a_name_is_resolved_and_every_address_is_checked() -> None:
    with receiving() as receiver:
        address = f"http://localhost:{receiver.port}/x"
        assert call(address).status == 204
        came = receiver.next()
        assert (came.path, came.body, came.headers["x-a"]) == ("/x", b"c", "b")
        assert came.headers["host"] == f"localhost:{receiver.port}"
        with pytest.raises(RefusedError, match="not public"):
            call(address, allow="")
        for other in ("127.1", "2130706433", "[::ffff:127.0.0.1]"):
            with pytest.raises(RefusedError):
                call(f"http://{other}:{receiver.port}/", allow="10.0.0.0/8")
        assert receiver.received.empty()


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "0.255.255.255", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
     "127.255.0.1",
     "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.0.1", "192.0.2.1",
     "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1", "198.18.0.1", "198.19.255.255",
     "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
     "::", "::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::a00:1",
     "64:ff9b:1::1", "100::1", "100:0:0:1::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
     "2002:a00:1::", "2002:808:808::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "4000::1", "fc00::1", "fd00:ec2::254",
     "fe80::1", "fe80::1%1", "fec0::1", "ff02::1", "ff0e::1"],
)  # fmt: skip
def test_address_that_is_not_public_is_refused(address: str) -> None:
    found = ipaddress.ip_address(address)
    assert not is_allowed(found, ())
    assert not is_allowed(found, networks("203.0.112.0/24, 2001:db9::/32"))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "128.0.0.1", "168.63.129.15",
     "172.15.0.1",
     "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2a00::1",
     "2001:200::1", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)  # fmt: skip
def test_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_network_that_the_operator_allows_is_allowed_in_every_spelling(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), networks("10.1.0.0/16"))


class SlowNames:
    """A name server that does not answer for names that begin with `slow`, until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self.answer)
        monkeypatch.setattr(outbound, "_lookups", outbound._Lookups())

    def answer(self, host: str, *_: object, **__: object) -> list[object]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.released.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 443))]


def test_slow_name_server_holds_up_no_other_name_and_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    names = SlowNames(monkeypatch)
    allow = networks("192.0.2.0/24")

    async def run() -> None:
        slow = [asyncio.create_task(outbound.resolve(f"slow{number}", 443, allow)) for number in range(24)]
        try:
            async with asyncio.timeout(20):
                assert len(await outbound.resolve("quick", 443, allow)) == 1
                assert await asyncio.to_thread(str, 7) == "7", "the threads of the process are free"
            for task in slow[1:]:
                task.cancel()
            names.released.set()
            assert await slow[0]
            with pytest.raises(asyncio.CancelledError):
                await slow[1]
        finally:
            names.released.set()

    asyncio.run(run())


def test_name_server_that_never_answers_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    names = SlowNames(monkeypatch)
    monkeypatch.setattr(outbound, "RESOLVE_SECONDS", 0.05)
    try:
        for _ in range(3):
            with pytest.raises(OutboundError, match="name server did not answer for slow within"):
                asyncio.run(outbound.resolve("slow", 443, ()))
        assert names.asked == ["slow"], "one thread waits for it"
    finally:
        names.released.set()


def test_name_of_a_cancelled_request_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "MAX_LOOKUPS", 1)
    monkeypatch.setattr(outbound, "RESOLVE_SECONDS", 0.05)
    names = SlowNames(monkeypatch)

    async def run() -> None:
        both = [asyncio.create_task(outbound.resolve("quick", 443, ())) for _ in range(2)]
        for ended in await asyncio.gather(*both, return_exceptions=True):
            assert "name server did not answer for quick" in str(ended)

    try:
        with pytest.raises(OutboundError):
            asyncio.run(outbound.resolve("slow", 443, ()))
        asyncio.run(run())
        names.released.set()
        monkeypatch.setattr(outbound, "RESOLVE_SECONDS", 10.0)
        asyncio.run(outbound.resolve("other", 443, networks("192.0.2.0/24")))
        assert names.asked == ["slow", "other"]
    finally:
        names.released.set()


def test_addresses_of_a_name_are_used_again_for_a_while_and_checked_at_each_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = SlowNames(monkeypatch)

    async def run() -> None:
        allow = networks("192.0.2.0/24")
        await asyncio.gather(*(outbound.resolve("quick", 443, allow) for _ in range(10)))
        with pytest.raises(RefusedError):
            await outbound.resolve("quick", 443, ())
        assert names.asked == ["quick"]
        monkeypatch.setattr(outbound, "KNOWN_SECONDS", 0.0)
        await outbound.resolve("quick", 443, allow)
        assert names.asked == ["quick"] * 2

    asyncio.run(run())


def test_unknown_name_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unknown(*given: object, **_: object) -> list[object]:
        asked.append(given)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for _ in range(2):
        with pytest.raises(OutboundError, match="the host nowhere is not known"):
            asyncio.run(outbound.resolve("nowhere", 443, ()))
    assert len(asked) == 2


def test_redirect_is_not_followed() -> None:
    with receiving() as receiver:
        receiver.answers.put(302)
        assert call(receiver.url).status == 302
        assert receiver.next().path == "/"
        assert receiver.received.empty()


def test_unreachable_address_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # not used
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(OutboundError):
            call(address)
        silent.listen()
        began = time.monotonic()
        with pytest.raises(OutboundError, match="no answer within 1 seconds"):
            call(address, seconds=1)
        assert time.monotonic() - began < 15
    with pytest.raises(OutboundError, match="not known"):
        call(f"http://{64 * 'x'}.invalid/")  # a label that is too long for any resolver to be asked


def test_tls_is_for_the_name_though_the_connection_is_to_an_address(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            near, _ = server.accept()
            with pytest.raises(OSError), context.wrap_socket(near, server_side=True) as wrapped:
                wrapped.recv(1)
                raise OSError  # whether the refusal is heard in the handshake or after it

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(OutboundError, match=r"(?i)certificate"):
            call(f"https://localhost:{server.getsockname()[1]}/")
        thread.join(20)
    assert asked == ["localhost"]


@pytest.mark.parametrize("pause", [0.2, 0.0])
def test_answer_counts_although_its_body_never_ends(pause: float) -> None:
    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
            while True:
                connection.sendall(b"x" * (1 if pause else 65536))
                time.sleep(pause)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        request = Request("POST", f"http://127.0.0.1:{server.getsockname()[1]}/", {}, b"", 3)
        assert asyncio.run(send(request, networks("127.0.0.1"))) == Answer(200, {"content-type": "text/plain"})
        thread.join(20)
        assert not thread.is_alive()


def test_client_of_a_kind_waits_a_minute_for_a_server_that_stores_a_large_file_and_seconds_for_a_connection() -> None:
    timeout = outbound.client(()).timeout
    assert (timeout.connect, timeout.read, timeout.write) == (5, 60, 60)
