"""Coordination of an export that many workers write: each slice of it is a shard.

All workers read the snapshot that the coordinator holds (promise 4). The snapshot of a lost coordinator is lost with
it, and its task's next attempt begins anew.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import msgspec

from longshore.database.connect import Pool
from longshore.database.retry import DATABASE_ERRORS, ignore_outage, retry_until_available
from longshore.errors import LongshoreError, TransientError
from longshore.exports.job import ExportJob
from longshore.exports.shards import shard_rows
from longshore.exports.shards.shard_rows import Shard
from longshore.exports.shards.worker import ShardWork
from longshore.exports.snapshot import export_snapshot
from longshore.exports.written_rows import WrittenRows
from longshore.results.s3_assembly import UnfitPieceError
from longshore.tasks.attempts import StaleAttemptError
from longshore.telemetry import tracing

POLL_SECONDS = 0.2  # between two looks at the shards
REPORT_SECONDS = 1.0  # between two reports, and two statements on the source, which disconnects an idle session

ENCODER = msgspec.json.Encoder(decimal_format="number")


Add = Callable[[WrittenRows], Awaitable[None]]
"""Takes the result of the next shard."""


class Coordinator:
    """Has the slices of an export written by any workers, each as a shard, while the totals of the source are read."""

    def __init__(self, pool: Pool, job: ExportJob, silence: timedelta) -> None:
        """`pool`: of the service's database. `silence`: until a shard without a message is offered again."""
        self._pool = pool
        self._job = job
        self._message = job.planned.attempt.message
        self._silence = silence
        self._reported_at = time.monotonic()

    async def collect(self, add: Add, upload: str | None = None) -> None:
        """Have all slices written, and `add` their results in order.

        `upload`: of the assembly, where the result is one file. Raises LongshoreError or TransientError for a shard
        that failed, StaleAttemptError, and the errors of `add`.
        """
        works = await _works(self._job, upload)
        try:
            await shard_rows.create_shards(self._pool, self._message, [ENCODER.encode(work).decode() for work in works])
            await self._collect(len(works), add)
            await retry_until_available(shard_rows.forget, self._pool, self._message)
        except BaseException:
            with contextlib.suppress(*DATABASE_ERRORS):
                await shard_rows.forget(self._pool, self._message)
            raise

    async def _collect(self, count: int, add: Add) -> None:
        reading = asyncio.ensure_future(self._job.read_totals())
        taken = 0
        try:
            while taken < count:
                current = await self._current(taken)
                _refuse_failed(current)
                if reading.done():
                    await reading
                await self._report(current, idle=reading.done())
                if current and (result := current[taken].result) is not None:
                    await add(result)
                    taken += 1
                else:
                    await asyncio.sleep(POLL_SECONDS)
            await reading
        except UnfitPieceError:
            await reading
            raise
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _current(self, taken: int) -> list[Shard]:
        """Return all shards as they are now; none while the service's database is away."""
        current: list[Shard] = []
        with ignore_outage("shards out of reach"):
            current = await shard_rows.current(self._pool, self._message, taken, self._silence)
            if not current:
                raise StaleAttemptError(self._message)
            for shard in current:
                if shard.is_lost:
                    await shard_rows.offer_again(self._pool, self._message, shard)
        return current

    async def _report(self, current: Sequence[Shard], *, idle: bool) -> None:
        """Report progress once a second. `idle`: whether the connection to the source is not in use."""
        if time.monotonic() - self._reported_at < REPORT_SECONDS:
            return
        self._reported_at = time.monotonic()
        if idle:
            await self._job.connection.fetchval("select 1")
        if current:
            rows, size = sum(shard.rows for shard in current), sum(shard.bytes for shard in current)
            await self._job.output.report(rows, size)


async def _works(job: ExportJob, upload: str | None) -> list[ShardWork]:
    snapshot, span = await export_snapshot(job.connection), tracing.current()
    count = sum(len(index.slices) for index in job.indexes)
    works = []
    for index in job.indexes:
        query, request = index.query, index.query.request
        if query.bounds is not None:
            request = msgspec.structs.replace(request, end=query.bounds.end)
        common = (request, snapshot, query.fingerprint(), job.planned.location, upload, count, span)
        works += [ShardWork(*common, slice_) for slice_ in index.slices]
    return works


def _refuse_failed(current: Sequence[Shard]) -> None:
    for number, shard in enumerate(current, 1):
        if shard.state == "FAILED":
            kind = TransientError if shard.transient else LongshoreError
            raise kind(f"shard {number} of {len(current)}: {shard.reason}")
