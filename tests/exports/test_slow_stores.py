"""A store may take longer for a block than the source leaves a session idle in its transaction."""

import asyncio
import time
import tracemalloc

import pytest

from longshore.database.connect import open_pool
from longshore.exports import formats, snapshot
from longshore.exports.catalog import FieldType, Index
from longshore.exports.columns import choices, columns_of
from longshore.exports.copy import RowsToCopy, copy_rows
from longshore.exports.formats import FileSpec
from longshore.exports.formats.dialect import CsvOptions, dialect
from longshore.exports.row_query import RowQuery
from longshore.exports.row_writer import RowWriter
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections
from longshore.results.store import Writable
from tests.exports.engine import CHAIN, ignore, index_over
from tests.service import Longshore

IDLE = {"idle_in_transaction_session_timeout": "1s"}


ROW_BYTES = 4 << 20


class SlowFile:
    """A file of a store that takes longer for a write than the source waits for an idle session."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: bytes) -> None:
        if data:
            time.sleep(1.5)
        self.content += data


async def copied_to(file: Writable, rows: RowsToCopy, index: Index, format: str = "csv") -> int:
    """Copy the rows of an index into a file, and return their number."""
    columns = await columns_of(rows.connection, index, choices(None, index))
    writer = RowWriter(formats.new_format(format, FileSpec(columns, dialect(CsvOptions()))), file)
    return (await copy_rows(rows, writer, ignore)).rows


def test_connections_that_wait_for_a_slow_store_are_not_ended_by_the_source(
    shop: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "KEEP_ALIVE_SECONDS", 0.2, raising=False)
    shop.sql("create table waiting as select 1764 as chain_id, now() as at, id from generate_series(1, 5) id")
    index = index_over("public.waiting", id=FieldType.NUMBER)
    file = SlowFile()

    async def steps() -> None:
        async with open_pool(shop.url, size=2, name="test", **{**EXPORT_SESSION, **IDLE}) as pool:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (connection, _):
                clauses = [f"{index.from_clause} and id = {number}" for number in range(1, 6)]
                rows = RowsToCopy(database, connection, RowQuery(index.from_clause, (CHAIN,)), clauses)
                assert await copied_to(file, rows, index) == 5
                assert await connection.fetchval("select count(*) from public.waiting") == 5

    asyncio.run(steps())
    assert len(file.content.splitlines()) == 6


def test_source_that_ends_while_the_last_block_is_written_costs_nothing(
    shop: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "KEEP_ALIVE_SECONDS", 0.2)
    shop.sql("create table read_whole as select 1764 as chain_id, now() as at, 1 as id")
    index = index_over("public.read_whole", id=FieldType.NUMBER)
    end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ends early'"

    class EndingFile(SlowFile):
        def write(self, data: bytes) -> None:
            if b"1" in data:
                shop.sql(end)
            super().write(data)

    file = EndingFile()

    async def steps() -> None:
        async with open_pool(shop.url, size=1, name="ends early", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (connection, _):
                source = RowQuery(index.from_clause, (CHAIN,))
                assert await copied_to(file, RowsToCopy(database, connection, source, [source.sql]), index) == 1

    asyncio.run(steps())
    assert len(file.content.splitlines()) == 2


def test_memory_of_an_export_of_large_rows_into_a_slow_store_is_bounded_by_bytes(shop: Longshore) -> None:
    """Each range reads 4 MiB ahead, be it many rows or one."""
    shop.sql(
        "create table large as select 1764 as chain_id, now() as at, id, repeat('x', $1) as note"
        " from generate_series(1, 60) id",
        ROW_BYTES,
    )
    index = index_over("public.large", id=FieldType.NUMBER, note=FieldType.TEXT)

    class Counter:
        size = 0

        def write(self, data: bytes) -> None:
            time.sleep(0.01)
            self.size += len(data)

    file = Counter()

    async def steps() -> int:
        async with open_pool(shop.url, size=3, name="test", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 2)
            async with database.snapshot() as (connection, _):
                clauses = [f"{index.from_clause} and id % 3 = {number}" for number in range(3)]
                rows = RowsToCopy(database, connection, RowQuery(index.from_clause, (CHAIN,)), clauses)
                tracemalloc.start()
                try:
                    assert await copied_to(file, rows, index, "jsonl") == 60
                    return tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()

    assert asyncio.run(steps()) < 25 * ROW_BYTES  # a few for each of three connections, and for the writer
    assert file.size > 60 * ROW_BYTES
