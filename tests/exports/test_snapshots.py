"""Connections that read one snapshot cause no deadlock."""

import asyncio
import time

import asyncpg
import pytest

from longshore.database.connect import open_pool
from longshore.exports.run_errors import is_retryable
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections, lock_tables
from tests.service import Longshore
from tests.waiting import until

TABLES = [
    "drop table if exists public.entries",
    "create table public.entries (id bigint) partition by list (id)",
    "create table public.entries_1 partition of public.entries for values in (1)",
    "create index entries_1_id on public.entries_1 (id)",
]

BLOCKED = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query = '{}'"

READ = "select count(*) from public.entries where id <> $1"


@pytest.mark.parametrize(
    "change",
    [
        "alter table public.entries add column note text",
        "alter table public.entries_1 alter id set statistics 7, alter id set default 1",
        "truncate public.entries_1",
        "reindex index public.entries_1_id",
        "reindex table public.entries_1",
        "vacuum full public.entries_1",
    ],
)
def test_joining_a_snapshot_does_not_wait_for_a_lock_that_waits_for_the_snapshot(shop: Longshore, change: str) -> None:
    for statement in TABLES:
        shop.sql(statement)

    async def steps() -> None:
        async with open_pool(shop.url, size=2, name="test", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (first, _):
                await first.fetchval(READ, 2)
                changing = asyncio.create_task(changed())
                await asyncio.to_thread(until, lambda: shop.sql(BLOCKED.format(change)), "the change to wait")
                began = time.monotonic()
                with pytest.raises(asyncpg.LockNotAvailableError) as refused:
                    async with database.connections(first, 1) as (_, second):
                        await lock_tables(second, READ, (2,))
                assert is_retryable(refused.value)
                assert 4 < time.monotonic() - began < 20
            await changing

    async def changed() -> None:
        connection = await asyncpg.connect(shop.url)
        await connection.execute(change)
        await connection.close()

    asyncio.run(steps())


def test_tables_are_locked_after_a_type_that_a_field_casts_to_was_made_anew(shop: Longshore) -> None:
    for statement in TABLES:
        shop.sql(statement)

    async def steps() -> None:
        async with open_pool(shop.url, size=1, name="test", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 0)
            for _ in range(2):  # on the same connection, whose statements are of the type before
                shop.sql("drop type if exists public.shade")
                shop.sql("create type public.shade as enum ('1', '2')")
                async with database.snapshot() as (connection, _):
                    await lock_tables(
                        connection, "select id::text::public.shade from public.entries where id <> $1", (2,)
                    )

    asyncio.run(steps())
