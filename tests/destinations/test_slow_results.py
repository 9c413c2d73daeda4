"""A delivery that is cancelled while the results store does not answer does not hold the worker's event loop."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

import pytest

from longshore.destinations.az import az_kind
from longshore.destinations.gs import gs_kind
from longshore.destinations.kind import Kind
from tests.destinations.front import Front, ProxyReply
from tests.destinations.gcs import TokenService
from tests.destinations.s3_servers import KEY, SECRET, s3_place
from tests.destinations.servers import BytesFile, SampleDestination
from tests.destinations.sshd import Sshd, place_of

SILENT_SECONDS = 2.0
SIZE = 9_000_000  # more than one request to an object store


class SilentReader(io.RawIOBase):
    """The end of a file of a store that has stopped answering."""

    def __init__(self, reading: threading.Event) -> None:
        self._reading = reading

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, _whence: int = 0) -> int:
        return offset

    def readinto(self, _buffer: Any) -> int:
        self._reading.set()
        time.sleep(SILENT_SECONDS)
        return 0


class SilentFile(BytesFile, frozen=True):
    """A file whose store answers until it is opened for the n-th time."""

    answers: int = 0
    reading: threading.Event = threading.Event()

    def open(self) -> IO[bytes]:
        if len(self.opened) < self.answers:
            return super().open()
        return io.BufferedReader(SilentReader(self.reading))


@pytest.fixture
def front() -> Iterator[Front]:
    """An object store without objects, which takes all that is sent."""
    found = Front(("127.0.0.1", 1))

    def rule(seen: Any) -> ProxyReply:
        if seen.method in ("HEAD", "GET"):
            return ProxyReply(404)
        return ProxyReply(200, {"Location": f"{found.address}/upload?upload_id=1"}, b"<UploadId>1</UploadId>")

    found.rule = rule
    yield found
    found.close()


def place(kind: str, front: Front, ssh_server: Sshd) -> SampleDestination:
    if kind == "s3":
        return s3_place(front.address, KEY, SECRET)
    if kind == "az":
        azure: Kind = az_kind(f"{front.address}/{{account}}")
        return SampleDestination(azure, {"account": "shop", "container": "exports"}, {"account_key": "YQ=="})
    if kind == "gs":
        return SampleDestination(
            gs_kind(front.address), {"bucket": "exports"}, {"service_account": TokenService().account()}
        )
    return place_of(ssh_server)


def longest_pause(made: SampleDestination, path: str, file: SilentFile) -> float:
    """Cancel a write while the store of its file does not answer; return the longest time that the loop waited."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async def write() -> None:
        async with made.kind.open(*made.values) as opened:
            await opened.write(path, file, "d1", overwrite=False)  # type: ignore[union-attr]

    async def cancel() -> None:
        writing = asyncio.create_task(write())
        assert await asyncio.to_thread(file.reading.wait, 10)
        beating = asyncio.create_task(beat())
        writing.cancel()
        await asyncio.wait({writing})
        beating.cancel()
        assert writing.cancelled()

    asyncio.run(cancel())
    return longest


@pytest.mark.parametrize("kind", ["s3", "az", "gs", "sftp"])
def test_cancelled_delivery_from_a_store_that_does_not_answer_leaves_the_event_loop_free(
    kind: str, front: Front, ssh_server: Sshd
) -> None:
    made = place(kind, front, ssh_server)
    # Google's kind reads the file once before it sends it.
    file = SilentFile(bytes(SIZE), [], int(kind == "gs"), threading.Event())
    longest = longest_pause(made, f"silent-{kind}.csv", file)
    if kind == "sftp":
        made.discard("silent-sftp.csv", "d1")  # other tests of this server look for what is left there
    assert longest < SILENT_SECONDS / 4, "the loop waited for the store"
