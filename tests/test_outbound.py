"""Requests to addresses that users gave: only public ones, the checked address itself, and no further."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from longshore.outbound import Answer, OutboundError, RefusedError, networks, send
from tests.receiver import receiving


def call(address: str, allow: str = "127.0.0.0/8, ::1", seconds: float = 20) -> Answer:
    return asyncio.run(
        send("POST", address, headers={"X-A": "b"}, content=b"c", allow=networks(allow), timeout=seconds)
    )


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


def test_a_redirect_is_an_answer() -> None:
    with receiving() as receiver:
        receiver.answers.put(302)
        assert call(receiver.url).status == 302
        assert receiver.next().path == "/"
        assert receiver.received.empty()


def test_what_cannot_be_reached_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
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
        call("http://nobody.invalid/")


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
