"""Writes one file by SFTP: `python -m tests.faults.write_file '[SETTINGS, SECRET, PATH, FILE, DELIVERY]'`."""

import asyncio
import sys
from pathlib import Path

import msgspec

from longshore.destinations.sftp import sftp
from longshore.settings import Settings
from tests.destinations.servers import BytesFile, SampleDestination


async def write(made: SampleDestination, path: str, file: BytesFile, delivery: str) -> None:
    async with made.kind.open(*made.values) as place:
        print("signed in", flush=True)
        await place.write(path, file, delivery, overwrite=False)  # type: ignore[union-attr]


if __name__ == "__main__":
    settings, secret, path, file, delivery = msgspec.json.decode(sys.argv[1])
    asyncio.run(
        write(SampleDestination(sftp(Settings()), settings, secret), path, BytesFile(Path(file).read_bytes()), delivery)
    )
