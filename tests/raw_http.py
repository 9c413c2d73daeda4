"""Requests as bytes on a socket, for what no HTTP client would send."""

import contextlib
import socket

import msgspec


class RawAnswer(msgspec.Struct, frozen=True):
    """An answer; its status is 0 where the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes


def sent(port: int, data: bytes, timeout: float = 60) -> RawAnswer:
    """Send bytes to the service on this machine and read until it closes the connection."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields)
    status = int(line.split()[1]) if line.startswith("HTTP/1.") else 0
    return RawAnswer(status, {name.lower(): value.strip() for name, _, value in pairs}, body)


def request(
    target: str | bytes, *fields: str | bytes, method: str = "GET", host: str | bytes | None = "x", body: bytes = b""
) -> bytes:
    """A request after which the connection is closed. `host` None: without one."""
    raw = [each if isinstance(each, bytes) else each.encode("latin-1") for each in (target, *fields)]
    given = [] if host is None else [b"Host: " + (host if isinstance(host, bytes) else host.encode("latin-1"))]
    head = [method.encode() + b" " + raw[0] + b" HTTP/1.1", *given, *raw[1:], b"Connection: close"]
    return b"\r\n".join(head) + b"\r\n\r\n" + body
