"""Rows that do not add up are an error, and leave no file (promise 3)."""

from datetime import timedelta
from pathlib import Path

import pytest

from longshore.database.connect import Pool
from longshore.errors import LongshoreError
from longshore.exports import catalog
from longshore.exports.columns import choices, columns_of
from longshore.exports.copy import RowsToCopy, copy_rows
from longshore.exports.formats import FileSpec
from longshore.exports.formats.csv import Csv
from longshore.exports.manifest import SUFFIX
from longshore.exports.ranges import clauses, plan_ranges
from longshore.exports.row_query import RowQuery
from longshore.exports.row_writer import RowWriter
from longshore.exports.snapshot import SourceConnections
from longshore.results.local import LocalStore
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.queue import ShardMessage
from longshore.worker.runner import Runner
from longshore.worker.running_attempts import RunningAttempts
from tests.faults.attempts import created, taken, with_pool
from tests.faults.held import CATALOG, ROWS, write_catalog
from tests.service import CHAIN, Longshore


class Forgetful(Csv):
    """A format that loses a record, as one would that takes a line feed for part of a value."""

    def frame(self, block: bytes) -> bytes:
        framed = super().frame(block)
        _first, end, rest = framed.partition(b"\r\n")
        if self.rows > ROWS // 2 and end:
            self.rows -= 1
            return rest
        return framed


async def export(pool: Pool, catalog_file: Path, folder: Path, format: type[Csv]) -> int:
    """Copy rows by a format of the test. Return the number of rows."""
    index = catalog.load(str(catalog_file))["wallet-ledger"]
    database = SourceConnections(pool, 1)
    source = RowQuery(index.from_clause, (CHAIN,))

    async def report(_rows: int, _size: int) -> None:
        pass

    async with database.snapshot() as (connection, _):
        columns = await columns_of(connection, index, choices(None, index))
        made = format(FileSpec(columns))
        cut = await plan_ranges(connection, index, made.query(source.sql), source)
        with LocalStore(folder).create(f"{CHAIN}/1/1/some.csv") as file:
            rows = RowsToCopy(database, connection, source, clauses(index, source, cut.ranges))
            copied = await copy_rows(rows, RowWriter(made, file), report)
            file.publish({SUFFIX: b"{}"})
    return copied.rows


def test_a_file_that_lacks_a_row_is_not_published(by_hand: Longshore, tmp_path: Path) -> None:
    written = write_catalog(by_hand, CATALOG)
    assert with_pool(by_hand, lambda pool: export(pool, written, tmp_path / "whole", Csv)) == ROWS
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["some.csv", "some.csv" + SUFFIX]

    with pytest.raises(LongshoreError, match=f"the source sent {ROWS} rows and "):
        with_pool(by_hand, lambda pool: export(pool, written, tmp_path / "short", Forgetful))
    assert [path for path in (tmp_path / "short").rglob("*") if path.is_file()] == []


def test_a_run_whose_rows_do_not_add_up_is_an_error_at_once(by_hand: Longshore, tmp_path: Path) -> None:
    written = write_catalog(by_hand, CATALOG)

    async def run(pool: Pool) -> list[str]:
        async def action(_begun: Attempt) -> RunResult:
            await export(pool, written, tmp_path, Forgetful)
            raise AssertionError("the copy was believed")

        message = await created(pool)

        async def shard(_message: ShardMessage) -> None:
            raise AssertionError("nothing was cut")

        worker = Runner(RunningAttempts(pool, 0), pool, {"export": action}, lambda _: timedelta(days=1), shard)
        await worker.handle(await taken(pool, message))
        entries = "select msg from longshore.task_logs where task_id = $1 order by seq"
        return [row["msg"] for row in await pool.fetch(entries, message.task)]

    first, failed, last = with_pool(by_hand, run)
    assert (first, last) == ("READY -> INPROGRESS", "INPROGRESS -> ERROR")
    assert failed.startswith(f"failed: the source sent {ROWS} rows and ")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
