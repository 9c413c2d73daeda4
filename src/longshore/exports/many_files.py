"""Results of many files: the slices of all indexes are written one after another, or by any workers.

The files are complete when the manifest is written, and nothing names them before (promise 3). The manifest lists them
in the order of indexes, partitions and rows, whichever worker wrote them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import msgspec

from longshore.exports.copy import Report
from longshore.exports.files.paths import MAX_FILES, too_many_files
from longshore.exports.files.writer import write_empty, write_slice
from longshore.exports.job import ExportJob, IndexJob, Output, WrittenResult
from longshore.exports.manifest import SIGNATURE
from longshore.exports.shards.coordinator import Coordinator
from longshore.exports.written_rows import WrittenRows
from longshore.results.store import Store, StoreError


async def write_files(stack: AsyncExitStack, job: ExportJob, coordinator: Coordinator) -> WrittenResult:
    """Write the files of an export. `stack`: removes them on leaving with an error.

    Raises the errors of the database, the store and the copy.
    """
    output = job.output
    await stack.enter_async_context(removed_after_error(output.store, output.location))
    if job.is_for_many_workers:
        done = await _write_by_many(job, coordinator)
    else:
        done = await write_by_one(output, job.indexes)

    async def finish() -> Sequence[WrittenRows]:
        await add_empty_files(output, job.indexes, done)
        return done

    async def publish(manifest: bytes, signature: str) -> None:
        await asyncio.to_thread(_publish, output, manifest, signature)

    return WrittenResult(finish, publish)


@contextlib.asynccontextmanager
async def removed_after_error(store: Store, location: str) -> AsyncIterator[None]:
    """Remove the files of an attempt where the block raises. `location`: of its result."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(StoreError):  # the next attempt of the task removes them
            await asyncio.to_thread(store.remove, location)
        raise


async def write_by_one(output: Output, indexes: Sequence[IndexJob]) -> list[WrittenRows]:
    """Write all slices of all indexes, one after another."""
    done: list[WrittenRows] = []
    for job in indexes:
        await job.restrict()
        done.append(index := WrittenRows())
        for number, slice_ in enumerate(job.slices):
            counted = msgspec.structs.replace(output, report=_added(output.report, done))
            index.add(await write_slice(counted, job.index_rows, slice_, None if number else job.read_totals))
            _refuse_too_many(done)
    return done


async def _write_by_many(job: ExportJob, coordinator: Coordinator) -> list[WrittenRows]:
    """Have all slices of all indexes written by any workers."""
    done = [WrittenRows() for _ in job.indexes]
    owners = iter([index for index, planned in zip(done, job.indexes, strict=True) for _ in planned.slices])

    async def add(result: WrittenRows) -> None:
        next(owners).add(result)
        _refuse_too_many(done)

    await coordinator.collect(add)
    return done


async def add_empty_files(output: Output, indexes: Sequence[IndexJob], done: Sequence[WrittenRows]) -> None:
    """Write a file for each index without rows. Raises LongshoreError where there are too many files with these."""
    _refuse_too_many(done)
    for job, index in zip(indexes, done, strict=True):
        if not index.files:
            index.add(await write_empty(output, job.index_rows))


def _publish(output: Output, manifest: bytes, signature: str) -> None:
    with output.store.create(output.location) as file:
        file.write(manifest)
        file.publish({SIGNATURE: signature.encode()})


def _added(report: Report, done: Sequence[WrittenRows]) -> Report:
    """Return a report of the rows and bytes of a slice, added to those before it."""
    rows, size = sum(index.rows for index in done), sum(index.size for index in done)

    async def added(slice_rows: int, slice_size: int) -> None:
        await report(rows + slice_rows, size + slice_size)

    return added


def _refuse_too_many(done: Sequence[WrittenRows]) -> None:
    if sum(max(1, len(index.files)) for index in done) > MAX_FILES:  # an index without rows gets a file
        raise too_many_files()
