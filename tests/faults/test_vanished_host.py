"""A host that vanishes in the middle of a transaction, and never comes back, holds up nobody for long (promise 7)."""

import asyncio
import time
from pathlib import Path

import asyncpg

from longshore.database.connect import open_pool
from tests.faults.hosts import Hosts
from tests.faults.network import Network
from tests.service import database_in

# The server gives up what it sent after 20 seconds; if all has been received, it asks after 10 seconds of silence.
NOTICED = 40.0  # seconds


def test_locks_of_a_vanished_host_are_released_within_half_a_minute(tmp_path: Path) -> None:
    with Network() as network:
        hosts = Hosts(tmp_path, network)
        with database_in(tmp_path):
            pass
        hosts.start_database()

        async def steps() -> None:
            async with open_pool(hosts.database_url, size=1, name="longshore worker gone") as pool:
                vanishing = await pool.acquire()
                await vanishing.execute("begin; select pg_advisory_xact_lock(1)")
                other = await asyncpg.connect(hosts.url)
                network.cut("here")
                began = time.monotonic()
                await asyncio.wait_for(other.execute("select pg_advisory_xact_lock(1)"), NOTICED)
                assert time.monotonic() - began > 5, "it was no silence"
                await other.close()
                pool.terminate()

        asyncio.run(steps())
