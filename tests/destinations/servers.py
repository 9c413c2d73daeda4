"""Servers of destinations on loopback, and what tests do with a kind of destination."""

import asyncio
import contextlib
import hashlib
import io
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from longshore.destinations.kind import Kind, Step
from longshore.outbound import Network
from longshore.settings import Settings

LOOPBACK: tuple[Network, ...] = Settings(outbound_allow="127.0.0.0/8").outbound_networks
RCLONE = Path(sys.executable).parent / "rclone"
READY_SECONDS = 30.0


class BytesFile(msgspec.Struct, frozen=True):
    """A File of bytes of a test's own, which counts how often it is opened."""

    content: bytes
    opened: list[int] = []

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.content).digest()

    def open(self) -> IO[bytes]:
        self.opened.append(1)
        return io.BytesIO(self.content)


def random_file(size: int) -> BytesFile:
    return BytesFile(os.urandom(size), [])


class SampleDestination(msgspec.Struct, frozen=True):
    """A destination of a kind: its settings and secret as a client would send them."""

    kind: Kind
    settings: dict[str, Any]
    secret: dict[str, Any]
    allow: tuple[Network, ...] = LOOPBACK

    def change(self, **settings: Any) -> "SampleDestination":
        """The same with other settings."""
        return msgspec.structs.replace(self, settings={**self.settings, **settings})

    def with_secret(self, **secret: Any) -> "SampleDestination":
        """The same with another secret."""
        return msgspec.structs.replace(self, secret=secret)

    def reaching(self, *allow: Network) -> "SampleDestination":
        """The same where no network but these, and public ones, may be reached."""
        return msgspec.structs.replace(self, allow=allow)

    @property
    def values(self) -> tuple[msgspec.Struct, msgspec.Struct, tuple[Network, ...]]:
        settings = msgspec.convert(self.settings, self.kind.settings)
        return settings, msgspec.convert(self.secret, self.kind.secret), self.allow

    def write(self, path: str, file: BytesFile, *, overwrite: bool = False, write_id: str = "d1-r1") -> bytes | None:
        async def write() -> bytes | None:
            async with self.kind.open(*self.values) as place:
                return await place.write(path, file, write_id, overwrite=overwrite)  # type: ignore[union-attr]

        return asyncio.run(write())

    def read(self, path: str) -> bytes:
        async def read() -> bytes:
            async with self.kind.open(*self.values) as place:
                return b"".join([chunk async for chunk in place.read(path)])  # type: ignore[union-attr]

        return asyncio.run(read())

    def discard(self, path: str, write_id: str = "d1-r1") -> None:
        async def discard() -> None:
            async with self.kind.open(*self.values) as place:
                await place.discard(path, write_id)  # type: ignore[union-attr]

        asyncio.run(discard())

    def test(self) -> list[Step]:
        async def test() -> list[Step]:
            return [step async for step in self.kind.test(*self.values)]

        return asyncio.run(test())

    def failure(self) -> tuple[str, str]:
        """Name and detail of the test's last step, which has failed."""
        *before, last = self.test()
        assert all(step.ok for step in before), before
        assert not last.ok
        for shown in [last.detail, *(step.detail for step in before)]:
            assert not [value for value in _texts(self.secret) if value in shown], "a part of the secret is shown"
        return last.step, last.detail


def _texts(value: Any) -> list[str]:
    """Texts of a secret that are long enough to be told from others: of a key, each of its lines."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    return [line for line in str(value).splitlines() if len(line) > 7]


@contextlib.contextmanager
def process(command: Sequence[str | Path], port: int, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A server that has begun to listen on a port of loopback."""
    running = subprocess.Popen(command, **options)
    try:
        wait_for(port, running)
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for(port: int, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert running.poll() is None, f"{running.args!r} ended"
        assert time.monotonic() < deadline, f"{running.args!r} does not listen"
        time.sleep(0.02)


def begin_old_tls(connection: socket.socket) -> None:
    """Answer as a server that has no TLS of later than 1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with contextlib.suppress(OSError):
        context.wrap_socket(connection, server_side=True)
