"""The job of an attempt to export: its indexes, planned in one snapshot, and the place of its result."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec

from longshore.database.connect import Connection
from longshore.exports import row_security
from longshore.exports.catalog import Index
from longshore.exports.copy import Report
from longshore.exports.formats import FORMATS
from longshore.exports.increments.change_writer import ChangeWriter
from longshore.exports.planned_result import PlannedResult
from longshore.exports.query import ExportQuery, ExportRequest
from longshore.exports.ranges import RangePlan, plan_ranges
from longshore.exports.reconcile import Reconciler
from longshore.exports.slices import IndexRows, Slice, plan_slices, prepare_index_rows
from longshore.exports.snapshot import SourceConnections, refuse_outdated
from longshore.exports.source_limits import Throttle
from longshore.exports.written_rows import WrittenRows
from longshore.results.store import Store


class Output(msgspec.Struct, frozen=True):
    """The place of a result, and the report of its progress."""

    store: Store
    location: str
    """Of the result."""
    report: Report
    pace: Throttle

    @property
    def prefix(self) -> str:
        """The prefix of the locations of all files of the attempt."""
        return self.location.rpartition("/")[0] + "/"


class IndexJob(msgspec.Struct, frozen=True):
    """One index of an export, planned in the snapshot."""

    index_rows: IndexRows
    plan: RangePlan
    slices: list[Slice]
    reconciler: Reconciler

    @property
    def query(self) -> ExportQuery:
        return self.index_rows.query

    async def restrict(self) -> None:
        """Give the connection role and search path of this index."""
        await row_security.restrict(self.index_rows.connection, self.query.index, self.query.request.chain)

    async def read_totals(self) -> None:
        """Read the control totals of the source."""
        await self.restrict()
        await self.reconciler.read_source(self.index_rows.connection)


class ExportJob(msgspec.Struct, frozen=True):
    """An export whose snapshot is open."""

    planned: PlannedResult
    output: Output
    connection: Connection
    """Holds the snapshot."""
    snapshot_at: datetime
    indexes: Sequence[IndexJob]
    changes: ChangeWriter | None
    """Of a run with deletes, which has one index and one file."""

    @property
    def is_for_many_workers(self) -> bool:
        """Whether many workers are to write the result: an index was cut, and any connection may read each of them."""
        is_cut = any(len(index.slices) > 1 for index in self.indexes)
        return is_cut and self.output.store.is_shared and not any(index.plan.one_statement for index in self.indexes)

    async def read_totals(self) -> None:
        """Read the control totals of all indexes in the source."""
        for index in self.indexes:
            await index.read_totals()


class WrittenResult(msgspec.Struct, frozen=True):
    """A result whose rows are all written, so that the snapshot is not needed any more."""

    finish: Callable[[], Awaitable[Sequence[WrittenRows]]]
    """Completes its files, however long the store takes. Returns what was written of each index."""
    publish: Callable[[bytes, str], Awaitable[None]]
    """Publishes it with its manifest and the signature of that."""


async def plan_indexes(
    database: SourceConnections,
    connection: Connection,
    requests: Sequence[tuple[Index, ExportRequest]],
    slice_rows: int,
    *,
    has_files: bool,
) -> list[IndexJob]:
    """Plan all indexes in the connection's snapshot.

    `slice_rows`: rows of the slices that a larger table is cut into, where its rows may be written apart. `has_files`:
    whether the result has many files. Raises LongshoreError and asyncpg.PostgresError.
    """
    jobs = []
    for index, request in requests:
        index_rows = await prepare_index_rows(database, connection, index, request)
        query = index_rows.query
        reconciler = Reconciler(query)
        count = index_rows.keys is None and not reconciler.knows_row_count
        planned = await plan_ranges(connection, index, query.format().query(query.rows.sql), query.rows, count=count)
        rows = slice_rows if _may_be_cut(query, has_files=has_files) else sys.maxsize
        jobs.append(IndexJob(index_rows, *await plan_slices(index_rows, planned, rows), reconciler))
    await refuse_outdated(connection)
    return jobs


def _may_be_cut(query: ExportQuery, *, has_files: bool) -> bool:
    target = query.request.target
    if has_files:
        return target.split is not None or target.partition_by is not None
    adds_changes = query.changes is not None and query.changes.start is not None
    return FORMATS[target.export_format].is_concatenable and not adds_changes


def expected_rows(indexes: Sequence[IndexJob]) -> tuple[int | None, bool]:
    """Return the number of rows of all indexes, None where it is not known, and whether it was counted."""
    rows, exact = 0, True
    for index in indexes:
        if index.reconciler.rows is not None:
            rows += index.reconciler.rows
        elif index.plan.expected_rows is None:
            return None, False
        else:
            rows, exact = rows + index.plan.expected_rows, exact and index.plan.exact
    return rows, exact
