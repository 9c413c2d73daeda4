"""The run of an export of many files: all indexes are planned in one snapshot, and written slice by slice.

The files are complete when the manifest is written, and nothing names them before (promise 3). The manifest lists them
in the order of indexes, partitions and rows, whichever worker wrote them.
"""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Sequence
from datetime import datetime

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.exports import row_security, table_files
from longshore.exports.catalog import Index
from longshore.exports.copy import Report
from longshore.exports.files.paths import MAX_FILES, too_many_files
from longshore.exports.files.slice_output import FilesOutput, prefix_of, write_empty, write_slice
from longshore.exports.files.slices import SlicePlan, SliceSource, keys_of, plan_slices
from longshore.exports.increments import transactions
from longshore.exports.manifest import SIGNATURE, FileEntry, FilesManifest, IndexEntry
from longshore.exports.progress import progress_report
from longshore.exports.publication import ResultName, index_entry, of_run
from longshore.exports.query import Request, prepare
from longshore.exports.ranges import Plan, plan
from longshore.exports.reconcile import Reconciler
from longshore.exports.shards.coordinator import Coordinator, SharedWork
from longshore.exports.shards.store import ShardResult
from longshore.exports.shards.worker import Work
from longshore.exports.snapshot import Readers, export_snapshot, refuse_outdated
from longshore.exports.source_limits import Pace, SourceLimits
from longshore.exports.totals import Sum
from longshore.results.store import Store, StoreError
from longshore.tasks.attempts import RunResult
from longshore.tasks.watermarks import Increment
from longshore.telemetry import tracing


class IndexJob(msgspec.Struct, frozen=True):
    """One index of the run, planned in the snapshot."""

    source: SliceSource
    cut: Plan
    slices: SlicePlan
    reconciler: Reconciler

    async def restrict(self) -> None:
        """Give the connection role and search path of this index."""
        query = self.source.query
        await row_security.switch_index(self.source.connection, query.index, query.request.chain)

    async def ask(self) -> None:
        """Ask the source for the control totals."""
        await self.reconciler.ask(self.source.connection)


class WrittenIndex(msgspec.Struct):
    """The files of one index, so far."""

    sent: int = 0
    rows: int = 0
    size: int = 0
    sums: list[Sequence[Sum]] = []
    files: list[FileEntry] = []
    stats: list[str] = []

    def add(self, one: ShardResult) -> None:
        """Add the files of the next slice."""
        self.sent += one.sent
        self.rows += one.rows
        self.size += one.piece.size
        self.sums.append(one.sums)
        self.files += one.files
        self.stats += one.stats


class FilesExport:
    """Runs exports of many files."""

    def __init__(
        self, pool: Pool, store: Store, coordinator: Coordinator, limits: SourceLimits, slice_rows: int
    ) -> None:
        """`pool`: of the service's database. `slice_rows`: rows of the slices that a larger table is cut into."""
        self._pool = pool
        self._store = store
        self._coordinator = coordinator
        self._limits = limits
        self._slice_rows = slice_rows

    async def run(self, naming: ResultName, readers: Readers, parts: Sequence[tuple[Index, Request]]) -> RunResult:
        """Export indexes, each with its own request, from one snapshot. Raises as `Exporter.run`."""
        try:
            return await self._exported(naming, readers, parts)
        except BaseException:
            with contextlib.suppress(StoreError):  # the next attempt of the task removes them
                await asyncio.to_thread(self._store.remove, naming.location)
            raise

    async def _exported(
        self, naming: ResultName, readers: Readers, parts: Sequence[tuple[Index, Request]]
    ) -> RunResult:
        async with self._limits.of_snapshot(), readers.snapshot() as (connection, snapshot_at):
            await self._limits.refuse_lagging(connection)
            with tracing.span("plan"):
                jobs = await plan_indexes(readers, connection, parts, self._slice_rows)
            table_files.schema_of(jobs[0].source.query)  # refuses what cannot be shared, before it is written
            pace = Pace(self._limits.bytes_per_second)
            report = progress_report(self._pool, naming.attempt.message, functools.partial(expected_of, jobs))
            output = FilesOutput(self._store, prefix_of(naming.location), report, pace)
            if self._store.is_shared and uses_shards(jobs):
                done = await write_by_many(self._coordinator, output, jobs, naming)
            else:
                done = await write_by_one(output, jobs)
            bounds = jobs[0].source.query.bounds
            if bounds is not None:
                await transactions.wait_until_durable(self._pool, connection)
        indexes = await complete(output, jobs, done)
        manifest = described(naming, snapshot_at, jobs, done, indexes)
        text = manifest.encoded()
        signature = naming.key.sign(text)
        with tracing.span("publish"):
            await asyncio.to_thread(_publish, self._store, naming.location, text, signature)
        on_ack = parts[0][1].target.incremental == "on_ack"
        return RunResult(
            result=naming.name,
            location=naming.location,
            total=sum(index.sent for index in done),
            success=manifest.rows,
            size=manifest.size,
            sha256=hashlib.sha256(text).digest(),
            snapshot_at=snapshot_at,
            manifest=text.decode(),
            signature=signature,
            skips=sum(job.reconciler.skips for job in jobs),
            increment=None if bounds is None else Increment(bounds.start, bounds.end, on_ack),
            table_schema=table_files.schema_of(jobs[0].source.query),
            table_stats=done[0].stats,
        )


async def plan_indexes(
    readers: Readers, connection: Connection, parts: Sequence[tuple[Index, Request]], slice_rows: int
) -> list[IndexJob]:
    """Plan all indexes in the connection's snapshot. Raises LongshoreError and asyncpg.PostgresError."""
    jobs = []
    for index, request in parts:
        await row_security.switch_index(connection, index, request.chain)
        query = await prepare(connection, index, request)
        reconciler = Reconciler(query)
        cut = await plan(connection, index, query.format().query(query.source.sql), query.source, count=False)
        source = SliceSource(readers, connection, query, await keys_of(connection, query))
        slices = await plan_slices(source, cut, slice_rows)
        jobs.append(IndexJob(source, cut, slices, reconciler))
    await refuse_outdated(connection)
    return jobs


def expected_of(jobs: Sequence[IndexJob]) -> tuple[int | None, bool]:
    """Return the number of rows of all indexes, None where it is not known, and whether it was counted."""
    rows, exact = 0, True
    for job in jobs:
        if job.reconciler.rows is not None:
            rows += job.reconciler.rows
        elif job.slices.rows is None:
            return None, False
        else:
            rows, exact = rows + job.slices.rows, exact and job.slices.exact
    return rows, exact


def uses_shards(jobs: Sequence[IndexJob]) -> bool:
    """Return whether many workers are to write the files: a table was cut, and any connection may read each index."""
    is_cut = any(len(job.slices.slices) > 1 for job in jobs)
    return is_cut and not any(job.cut.one_statement for job in jobs)


async def write_by_one(output: FilesOutput, jobs: Sequence[IndexJob]) -> list[WrittenIndex]:
    """Write all slices of all indexes, one after another."""
    done: list[WrittenIndex] = []
    for job in jobs:
        await job.restrict()
        done.append(index := WrittenIndex())
        for number, index_slice in enumerate(job.slices.slices):
            counted = msgspec.structs.replace(output, report=_added(output.report, done))
            index.add(await write_slice(counted, job.source, index_slice, None if number else job.ask))
            _refuse_too_many(done)
    return done


async def write_by_many(
    coordinator: Coordinator, output: FilesOutput, jobs: Sequence[IndexJob], naming: ResultName
) -> list[WrittenIndex]:
    """Have all slices of all indexes written by any workers."""
    connection = jobs[0].source.connection
    snapshot = await export_snapshot(connection)
    done = [WrittenIndex() for _ in jobs]
    works: list[Work] = []
    owners: list[WrittenIndex] = []
    for job, index in zip(jobs, done, strict=True):
        query = job.source.query
        request, same = query.request, query.fingerprint(query.format())
        if query.bounds is not None:
            request = msgspec.structs.replace(request, end=query.bounds.end)
        for index_slice in job.slices.slices:
            span = tracing.current()
            works.append(Work(request, snapshot, same, naming.location, "", len(works), 0, [], span, index_slice))
            owners.append(index)
    following = iter(owners)

    async def add(result: ShardResult) -> None:
        next(following).add(result)
        _refuse_too_many(done)

    async def ask() -> None:
        for job in jobs:
            await job.restrict()
            await job.ask()

    await coordinator.collect(SharedWork(naming.attempt.message, connection, output.report, ask, add), works)
    return done


async def complete(output: FilesOutput, jobs: Sequence[IndexJob], done: Sequence[WrittenIndex]) -> list[IndexEntry]:
    """Compare each index with the source, and return its entry of the manifest. An index without rows gets a file."""
    _refuse_too_many(done)
    entries = []
    for job, index in zip(jobs, done, strict=True):
        query = job.source.query
        if not index.files:
            index.add(await write_empty(output, job.source))
        job.reconciler.add_pieces(index.sums)
        entries.append(index_entry(query, index.rows, await asyncio.to_thread(job.reconciler.check_pieces)))
    return entries


def described(
    naming: ResultName,
    snapshot_at: datetime,
    jobs: Sequence[IndexJob],
    done: Sequence[WrittenIndex],
    indexes: Sequence[IndexEntry],
) -> FilesManifest:
    """Return the manifest of a run whose files are all written."""
    return FilesManifest(
        **of_run(naming, jobs[0].source.query, snapshot_at),
        rows=sum(index.rows for index in done),
        size=sum(index.size for index in done),
        indexes=indexes,
        files=[file for index in done for file in index.files],
    )


def _publish(store: Store, location: str, manifest: bytes, signature: str) -> None:
    with store.create(location) as file:
        file.write(manifest)
        file.publish({SIGNATURE: signature.encode()})


def _added(report: Report, done: Sequence[WrittenIndex]) -> Report:
    """Return a report of the rows and bytes of a slice, added to those before it."""
    rows, size = sum(index.rows for index in done), sum(index.size for index in done)

    async def added(slice_rows: int, slice_size: int) -> None:
        await report(rows + slice_rows, size + slice_size)

    return added


def _refuse_too_many(done: Sequence[WrittenIndex]) -> None:
    if sum(max(1, len(index.files)) for index in done) > MAX_FILES:  # an index without rows gets a file
        raise too_many_files()
