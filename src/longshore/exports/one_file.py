"""Results of one file: written by this worker, or assembled from pieces that any workers write."""

import asyncio
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import msgspec
import structlog

from longshore.exports import delta_schema, totals
from longshore.exports.copy import copy_rows, reporting
from longshore.exports.job import ExportJob, Output, WrittenResult
from longshore.exports.manifest import sidecars
from longshore.exports.row_writer import row_writer
from longshore.exports.shards.coordinator import Coordinator
from longshore.exports.slices import Slice
from longshore.exports.written_rows import WrittenRows
from longshore.results.own_thread import in_own_thread, opened_in_thread
from longshore.results.s3_assembly import UnfitPieceError
from longshore.results.store import Result

log = structlog.get_logger()


async def write_file(stack: AsyncExitStack, job: ExportJob, coordinator: Coordinator) -> WrittenResult:
    """Write the file of an export. `stack`: removes it on leaving, unless it was published.

    Raises the errors of the database, the store and the copy.
    """
    if job.is_for_many_workers:
        pieces = await stack.enter_async_context(AsyncExitStack())
        try:
            return await _write_by_many(pieces, job.output, coordinator)
        except UnfitPieceError as error:
            log.warning("export not cut", reason=str(error))
            await pieces.aclose()  # alone: the key list of a run with deletes is in `stack`
    return await _write_by_one(stack, job)


async def _write_by_one(stack: AsyncExitStack, job: ExportJob) -> WrittenResult:
    (index,), output = job.indexes, job.output
    file, thread = await stack.enter_async_context(opened_in_thread(output.store.create, output.location))
    writer, sums = row_writer(index.query, file)
    sent = 0
    if job.changes is not None:
        writing = job.changes.write(job.connection, writer, index.reconciler, output.pace)
        sent = await reporting(writing, lambda: output.report(writer.rows, writer.size))
    whole = Slice(None, index.plan.ranges)
    copied = await copy_rows(index.index_rows.rows(whole, sent), writer, output.report, index.read_totals, output.pace)

    async def finish() -> Sequence[WrittenRows]:
        await asyncio.get_running_loop().run_in_executor(thread, file.finish)
        found = await in_own_thread(functools.partial(sums.end, file.open))
        stats = [delta_schema.statistics(writer.format.footer)] if index.query.request.target.share_as else []
        return [msgspec.structs.replace(copied, sums=totals.as_list(found), stats=stats)]

    return WrittenResult(finish, functools.partial(_publish, file, thread))


async def _write_by_many(pieces: AsyncExitStack, output: Output, coordinator: Coordinator) -> WrittenResult:
    """Have the slices written as pieces. After UnfitPieceError the connection still holds the snapshot."""
    loop = asyncio.get_running_loop()
    assembly, thread = await pieces.enter_async_context(opened_in_thread(output.store.assemble, output.location))
    index = WrittenRows()

    async def add(result: WrittenRows) -> None:
        assert result.piece is not None
        await loop.run_in_executor(thread, assembly.add, result.piece)
        index.add(result)

    await coordinator.collect(add, assembly.upload)

    async def complete() -> tuple[int, bytes]:
        return await loop.run_in_executor(thread, assembly.finish)

    async def finish() -> Sequence[WrittenRows]:
        report = functools.partial(output.report, index.rows, index.size)
        index.size, index.sha256 = await reporting(complete(), report)
        return [index]

    return WrittenResult(finish, functools.partial(_publish, assembly, thread))


async def _publish(file: Result, thread: ThreadPoolExecutor, manifest: bytes, signature: str) -> None:
    await asyncio.get_running_loop().run_in_executor(thread, file.publish, sidecars(manifest, signature))
