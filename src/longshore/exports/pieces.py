"""An export is written as N >= 1 pieces: here as one piece by this worker, in `shards` as many by any worker."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime

import msgspec

from longshore.database.connect import Connection
from longshore.exports import formats
from longshore.exports.copy import CopyResult, Report, RowSource, RowWriter, copy_rows, reporting
from longshore.exports.formats import WHOLE, Format, Place
from longshore.exports.increments.change_rows import Changes
from longshore.exports.query import ExportQuery
from longshore.exports.ranges import Plan
from longshore.exports.reconcile import Reconciler
from longshore.exports.snapshot import Readers
from longshore.exports.source_limits import Pace
from longshore.results.open import open_result
from longshore.results.store import Result, Store, Writable
from longshore.tasks.queue import Message


class ExportJob(msgspec.Struct, frozen=True):
    """An export whose snapshot is open."""

    message: Message
    location: str
    """Of the result, in the store."""
    query: ExportQuery
    format: Format
    plan: Plan
    readers: Readers
    connection: Connection
    """Holds the snapshot."""
    snapshot_at: datetime
    reconciler: Reconciler
    report: Report
    changes: Changes | None
    """Of a run with deletes."""


class WrittenResult(msgspec.Struct, frozen=True):
    """A result whose rows are all written, and which is not published yet."""

    file: Result
    thread: ThreadPoolExecutor
    """The thread in which the file is used."""
    finish: Callable[[], Awaitable[CopyResult]]
    """Completes the file, however long the store takes; the snapshot is not needed any more."""


def row_writer(
    query: ExportQuery, format: Format, reconciler: Reconciler, file: Writable, place: Place = WHOLE
) -> RowWriter:
    """Return the writer of a piece, whose text the reconciler adds up."""
    target = query.request.target
    compressor = formats.compressor(target.export_format, target.compression)
    return RowWriter(format, file, compressor, reconciler.add, place)


async def write_alone(stack: AsyncExitStack, job: ExportJob, store: Store, pace: Pace) -> WrittenResult:
    """Write an export as one piece. `stack`: removes the result on leaving, unless it was published."""
    file, thread = await stack.enter_async_context(open_result(store.create, job.location))
    writer = row_writer(job.query, job.format, job.reconciler, file)
    sent = 0
    if job.changes is not None:
        writing = job.changes.write(job.connection, writer, job.reconciler, pace)
        sent = await reporting(writing, lambda: job.report(writer.format.rows, writer.size))
    rows = RowSource(job.readers, job.connection, job.plan.clauses, job.query.source.values, sent)
    ask = functools.partial(job.reconciler.ask, job.connection)
    copied = await copy_rows(rows, writer, job.report, ask, pace)

    async def finish() -> CopyResult:
        await asyncio.get_running_loop().run_in_executor(thread, file.finish)
        return copied

    return WrittenResult(file, thread, finish)
