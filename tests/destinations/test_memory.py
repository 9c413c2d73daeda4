"""A large file takes no more memory than a few of its parts."""

import asyncio
import hashlib
import io
import tracemalloc
from typing import IO, Any

import pytest

from longshore.destinations.object_place import PART_BYTES, UPLOADS_AT_A_TIME, send_parts
from tests.destinations.s3_servers import RcloneServer
from tests.destinations.servers import SampleDestination
from tests.destinations.sshd import Sshd, place_of

FILE_BYTES = 64 << 20
MAX_BYTES = 48 << 20  # three parts of 8 MiB, each of which is held twice for a moment


class Zeros(io.RawIOBase):
    """Zeros that are made as they are read."""

    at = 0

    def read(self, size: int = -1) -> bytes:
        size = min(size, FILE_BYTES - self.at)
        self.at += size
        return bytes(size)

    def seek(self, offset: int, _whence: int = 0) -> int:
        self.at = offset
        return offset


class ZerosFile:
    size = FILE_BYTES

    def __init__(self) -> None:
        digest = hashlib.sha256()
        for _ in range(FILE_BYTES >> 20):
            digest.update(bytes(1 << 20))
        self.sha256 = digest.digest()

    def open(self) -> IO[bytes]:
        made: Any = Zeros()
        return made  # type: ignore[no-any-return]


def test_larger_parts_are_sent_fewer_at_a_time() -> None:
    under_way = most = 0

    async def send(number: int, part: bytes) -> str:
        nonlocal under_way, most
        under_way += len(part)
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= len(part)
        return str(number)

    file: Any = ZerosFile()
    for max_parts, count in ((4, 4), (5, 5), (1000, 8)):
        most = 0
        assert asyncio.run(send_parts(file, send, max_parts)) == [str(number) for number in range(1, count + 1)]
        assert most <= UPLOADS_AT_A_TIME * PART_BYTES
    assert most == UPLOADS_AT_A_TIME * PART_BYTES


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_large_file_takes_the_memory_of_a_few_parts(kind: str, rclone_server: RcloneServer, ssh_server: Sshd) -> None:
    made: SampleDestination = rclone_server.place() if kind == "s3" else place_of(ssh_server)
    file: Any = ZerosFile()
    tracemalloc.start()
    try:
        made.write("zeros.csv", file, overwrite=True)
        made.write("zeros.csv", file)  # which reads it back
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_BYTES, peak
