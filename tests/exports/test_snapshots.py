"""Connections that read one snapshot cause no deadlock."""

import asyncio
import time

import asyncpg
import pytest

from longshore.database.connect import open_pool
from longshore.exports.run_errors import is_retryable
from longshore.exports.snapshot import EXPORT_SESSION, Readers, lock_tables
from tests.service import Longshore
from tests.waiting import until

BLOCKED = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like 'alter table entries%'"


def test_joining_a_snapshot_does_not_wait_for_a_lock_that_waits_for_the_snapshot(shop: Longshore) -> None:
    shop.sql("create table entries (id bigint)")

    async def steps() -> None:
        async with open_pool(shop.url, size=2, name="test", **EXPORT_SESSION) as pool:
            readers = Readers(pool, 1)
            async with readers.snapshot() as (first, _):
                await first.fetchval("select count(*) from public.entries")
                alter = asyncio.create_task(altered())
                await asyncio.to_thread(until, lambda: shop.sql(BLOCKED), "the alteration to wait")
                began = time.monotonic()
                with pytest.raises(asyncpg.LockNotAvailableError) as refused:
                    async with readers.connections(first, 1) as (_, second):
                        await lock_tables(second, "select count(*) from public.entries")
                assert is_retryable(refused.value)
                assert time.monotonic() - began > 4
            await alter

    async def altered() -> None:
        connection = await asyncpg.connect(shop.url)
        await connection.execute("alter table entries add column note text")
        await connection.close()

    asyncio.run(steps())
