"""Servers of destinations on loopback, and what tests do with a kind of destination."""

import asyncio
import contextlib
import hashlib
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from longshore.destinations.kind import Kind, Step
from longshore.outbound import Network
from longshore.settings import Settings

LOOPBACK: tuple[Network, ...] = Settings(outbound_allow="127.0.0.0/8").outbound_networks
RCLONE = Path(sys.executable).parent / "rclone"
READY_SECONDS = 30.0

T = TypeVar("T")


class MadeFile(msgspec.Struct, frozen=True):
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


def random_file(size: int) -> MadeFile:
    return MadeFile(os.urandom(size), [])


class Made(msgspec.Struct, frozen=True):
    """A destination of a kind: its settings and secret as a client would send them."""

    kind: Kind
    settings: dict[str, Any]
    secret: dict[str, Any]
    allow: tuple[Network, ...] = LOOPBACK

    def change(self, secret: dict[str, Any] | None = None, **settings: Any) -> "Made":
        return msgspec.structs.replace(
            self, settings={**self.settings, **settings}, secret={**self.secret, **(secret or {})}
        )

    @property
    def values(self) -> tuple[msgspec.Struct, msgspec.Struct, tuple[Network, ...]]:
        settings = msgspec.convert(self.settings, self.kind.settings)
        return settings, msgspec.convert(self.secret, self.kind.secret), self.allow

    def write(self, path: str, file: MadeFile, *, overwrite: bool = False, attempt: str = "d1-r1") -> None:
        async def write() -> None:
            async with self.kind.open(*self.values) as place:
                await place.write(path, file, attempt, overwrite=overwrite)  # type: ignore[union-attr]

        asyncio.run(write())

    def read(self, path: str) -> bytes:
        async def read() -> bytes:
            async with self.kind.open(*self.values) as place:
                return b"".join([chunk async for chunk in place.read(path)])  # type: ignore[union-attr]

        return asyncio.run(read())

    def discard(self, path: str, attempt: str = "d1-r1") -> None:
        async def discard() -> None:
            async with self.kind.open(*self.values) as place:
                await place.discard(path, attempt)  # type: ignore[union-attr]

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
        return last.step, last.detail


def run(job: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(job)


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
