"""No crash of the source undoes a transaction of an increment, or assigns its number to a new one."""

import asyncio
import os
import signal
import time
from pathlib import Path

import asyncpg

from longshore.database.connect import open_pool
from longshore.database.embedded import embedded_server
from longshore.exports.catalog import Field, FieldType
from longshore.exports.increments.transactions import wait_until_durable
from tests.exports.engine import index_over
from tests.exports.incremental import taken
from tests.service import Longshore

INDEX = index_over("public.entries", id=Field(type=FieldType.NUMBER, description=""))


def test_rows_written_after_a_crash_are_in_the_next_increment(shop: Longshore, tmp_path: Path) -> None:
    async def before(url: str) -> str:
        writer = await asyncpg.connect(url)
        await writer.execute("create table entries (id bigint, chain_id bigint default 1764, at timestamptz)")
        await writer.execute("set synchronous_commit = off")
        await writer.execute("insert into entries values (1)")
        for _ in range(20):  # these only use up numbers
            await writer.execute("begin; insert into entries values (0); rollback")
        async with open_pool(shop.url, size=1, name="test") as state:
            source = await asyncpg.connect(url)
            ids, mark = await taken(source, INDEX, None)
            assert ids == [1]
            await wait_until_durable(state, source)
        kill(tmp_path / "postgres")
        return mark

    async def after(url: str, mark: str) -> None:
        writer = await asyncpg.connect(url)
        assert await writer.fetchval("select count(*) from entries") == 1
        await writer.execute("insert into entries values (2)")
        assert (await taken(writer, INDEX, mark))[0] == [2]
        await writer.close()

    with embedded_server(tmp_path) as url:
        mark = asyncio.run(before(url))
    with embedded_server(tmp_path) as url:
        asyncio.run(after(url, mark))


def kill(cluster: Path) -> None:
    """Stop a server as a crash does: it writes nothing more."""
    postmaster = int((cluster / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGQUIT)
    deadline = time.monotonic() + 10
    while (cluster / "postmaster.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_source_on_the_services_own_server_needs_no_wait_for_the_disk(shop: Longshore) -> None:
    async def steps() -> float:
        async with open_pool(shop.url, size=1, name="test") as state:
            source = await asyncpg.connect(shop.url)
            began = time.monotonic()
            await wait_until_durable(state, source)
            await source.close()
            return time.monotonic() - began

    assert min(asyncio.run(steps()) for _ in range(5)) < 0.3
