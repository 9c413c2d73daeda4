"""Coordination of an export that many workers write: it is cut into shards, and their pieces are assembled.

All workers read the snapshot that the coordinator holds (promise 4). The snapshot of a lost coordinator is lost with
it, and its task's next attempt begins anew.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.retry import DATABASE_ERRORS, ignore_outage, retry_until_available
from longshore.errors import LongshoreError, TransientError
from longshore.exports.copy import CopyResult, Report
from longshore.exports.pieces import ExportJob, WrittenResult
from longshore.exports.ranges import Range
from longshore.exports.shards import store as shards
from longshore.exports.shards.store import Shard, ShardResult
from longshore.exports.shards.worker import Work
from longshore.exports.snapshot import export_snapshot
from longshore.results.multipart import UnfitPieceError
from longshore.results.open import open_result
from longshore.results.store import Assembly, Store
from longshore.tasks.attempts import StaleAttemptError
from longshore.tasks.queue import Message
from longshore.telemetry import tracing

POLL_SECONDS = 0.2  # between two looks at the shards
REPORT_SECONDS = 1.0  # between two reports, and two statements on the source, which disconnects an idle session

ENCODER = msgspec.json.Encoder(decimal_format="number")


class SharedWork(msgspec.Struct, frozen=True):
    """An export that many workers write, as its coordinator sees it."""

    message: Message
    connection: Connection
    """Holds the snapshot."""
    report: Report
    ask: Callable[[], Awaitable[None]]
    """Asks the source for the control totals, on the connection."""
    add: Callable[[ShardResult], Awaitable[None]]
    """Takes the result of each shard, in order."""


class Coordinator:
    """Has exports written as shards."""

    def __init__(self, pool: Pool, store: Store, silence: timedelta) -> None:
        """`pool`: of the service's database. `silence`: until a shard without a message is offered again."""
        self._pool = pool
        self._store = store
        self._silence = silence

    async def write(self, stack: AsyncExitStack, job: ExportJob, ranges: Sequence[list[Range]]) -> WrittenResult:
        """Have the ranges of each shard written, and assemble the pieces.

        `stack`: removes the result on leaving, unless it was published. Raises LongshoreError or TransientError for a
        shard that failed, StaleAttemptError, and UnfitPieceError, after which the connection still holds the snapshot.
        """
        assembly, thread = await stack.enter_async_context(open_result(self._store.assemble, job.location))
        works = await _works(job, ranges, assembly.upload)

        async def add(result: ShardResult) -> None:
            await asyncio.get_running_loop().run_in_executor(thread, assembly.add, result.piece)

        ask = functools.partial(job.reconciler.ask, job.connection)
        results = await self.collect(SharedWork(job.message, job.connection, job.report, ask, add), works)
        job.reconciler.add_pieces([result.sums for result in results])
        return WrittenResult(assembly, thread, functools.partial(_finish, job, assembly, thread, results))

    async def collect(self, shared: "SharedWork", works: Sequence[Work]) -> list[ShardResult]:
        """Have shards written by any workers, and return their results in order. Raises as `write`."""
        try:
            await shards.send(self._pool, shared.message, [ENCODER.encode(work).decode() for work in works])
            results = await _Collector(self._pool, shared, self._silence).collect(len(works))
            await retry_until_available(shards.forget, self._pool, shared.message)
        except BaseException:
            with contextlib.suppress(*DATABASE_ERRORS):
                await shards.forget(self._pool, shared.message)
            raise
        return results


async def _works(job: ExportJob, ranges: Sequence[list[Range]], upload: str) -> list[Work]:
    snapshot = await export_snapshot(job.connection)
    request = job.query.request
    if job.query.bounds is not None:
        request = msgspec.structs.replace(request, end=job.query.bounds.end)
    common = (request, snapshot, job.query.fingerprint(job.format), job.location, upload)
    span = tracing.current()
    return [Work(*common, number, len(ranges), some, span) for number, some in enumerate(ranges)]


async def _finish(
    job: ExportJob, assembly: Assembly, thread: ThreadPoolExecutor, results: Sequence[ShardResult]
) -> CopyResult:
    """Put the assembled pieces together, and report meanwhile."""
    rows, size = sum(result.rows for result in results), sum(result.piece.size for result in results)
    finishing = asyncio.get_running_loop().run_in_executor(thread, assembly.finish)
    while not finishing.done():
        await job.report(rows, size)
        await asyncio.wait({finishing}, timeout=REPORT_SECONDS)
    return CopyResult(sum(result.sent for result in results), rows, *await finishing)


class _Collector:
    """Collects the results of shards in their order, while the source is asked for the control totals."""

    def __init__(self, pool: Pool, shared: SharedWork, silence: timedelta) -> None:
        self._pool = pool
        self._shared = shared
        self._silence = silence
        self._reported_at = time.monotonic()

    async def collect(self, count: int) -> list[ShardResult]:
        """Return the results of all shards, in order, once they are taken and the source has answered."""
        asking = asyncio.ensure_future(self._shared.ask())
        results: list[ShardResult] = []
        try:
            while len(results) < count:
                current = await self._current(len(results))
                _refuse_failed(current)
                if asking.done():
                    await asking
                await self._report(current, idle=asking.done())
                if current and (result := current[len(results)].result) is not None:
                    await self._shared.add(result)
                    results.append(result)
                else:
                    await asyncio.sleep(POLL_SECONDS)
            await asking
        except UnfitPieceError:
            await asking
            raise
        finally:
            asking.cancel()
            await asyncio.wait({asking})
        return results

    async def _current(self, taken: int) -> list[Shard]:
        """Return all shards as they are now; none while the service's database is away."""
        current: list[Shard] = []
        with ignore_outage("shards out of reach"):
            current = await shards.current(self._pool, self._shared.message, taken, self._silence)
            if not current:
                raise StaleAttemptError(self._shared.message)
            for shard in current:
                if shard.abandoned:
                    await shards.offer_again(self._pool, self._shared.message, shard)
        return current

    async def _report(self, current: Sequence[Shard], *, idle: bool) -> None:
        """Report progress once a second. `idle`: whether the connection to the source is not in use."""
        if time.monotonic() - self._reported_at < REPORT_SECONDS:
            return
        self._reported_at = time.monotonic()
        if idle:
            await self._shared.connection.fetchval("select 1")
        if current:
            await self._shared.report(sum(shard.rows for shard in current), sum(shard.bytes for shard in current))


def _refuse_failed(current: Sequence[Shard]) -> None:
    for number, shard in enumerate(current, 1):
        if shard.state == "FAILED":
            kind = TransientError if shard.transient else LongshoreError
            raise kind(f"shard {number} of {len(current)}: {shard.reason}")
