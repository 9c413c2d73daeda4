"""A worker's part in an export that another worker coordinates: it writes shards, each a slice of the rows.

Workers write shards beside their tasks, so that coordinators never wait for each other. The shard of a lost worker is
begun again by the worker that gets its message next.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from longshore.database.connect import Pool
from longshore.database.retry import (
    MAX_SHARD_PAUSE_SECONDS,
    MAX_SHARD_TRIALS,
    SHARD_PAUSE_SECONDS,
    ignore_outage,
    retry_until_available,
)
from longshore.exports import totals
from longshore.exports.catalog import Catalog
from longshore.exports.copy import Report, copy_rows
from longshore.exports.files.writer import write_slice
from longshore.exports.formats import PiecePosition
from longshore.exports.job import Output
from longshore.exports.query import ExportRequest
from longshore.exports.row_writer import row_writer
from longshore.exports.run_errors import describe_error, is_retryable
from longshore.exports.shards import shard_rows
from longshore.exports.shards.shard_rows import ShardTrial
from longshore.exports.slices import IndexRows, Slice, prepare_index_rows
from longshore.exports.snapshot import ExportedSnapshot, SourceDatabases, UnableWorkerError
from longshore.exports.source_limits import Throttle
from longshore.exports.written_rows import WrittenRows
from longshore.results.store import PieceNumber, Store
from longshore.tasks.attempts import StaleAttemptError
from longshore.tasks.queue import ShardMessage
from longshore.telemetry import tracing

log = structlog.get_logger()


class ShardWork(msgspec.Struct, frozen=True):
    """A shard, as any worker can write it."""

    request: ExportRequest
    snapshot: ExportedSnapshot
    fingerprint: str
    """Of the query and its values, as the coordinator makes them."""
    location: str
    """Of the result."""
    upload: str | None
    """Of the assembly that the slice is a piece of; None: the slice has files of its own."""
    count: int
    """Of all shards."""
    traceparent: str | None
    """The coordinator's span, where there is one."""
    slice: Slice


WORK = msgspec.json.Decoder(ShardWork, float_hook=Decimal)


class ShardWorker:
    """Writes shards of exports that other workers coordinate."""

    def __init__(
        self, pool: Pool, databases: SourceDatabases, catalog: Catalog, store: Store, bytes_per_second: float
    ) -> None:
        """`pool`: of the service's database. `bytes_per_second`: of a whole export; 0 is no limit."""
        self._pool = pool
        self._databases = databases
        self._catalog = catalog
        self._store = store
        self._bytes_per_second = bytes_per_second

    async def run(self, message: ShardMessage) -> float | None:
        """Write the shard of a message. Return None, or the seconds until the message of a released shard comes again.

        Raises StaleAttemptError, and CancelledError once the shard was released.
        """
        trial = await retry_until_available(shard_rows.begin, self._pool, message, uuid4())
        if trial is None:
            return None
        log.info("shard begins", trial=trial.trial)
        try:
            with _cancelled_if_stopped():
                result = await self._write(trial)
            await retry_until_available(shard_rows.finish, self._pool, trial, result)
        except StaleAttemptError:
            raise
        except asyncio.CancelledError:
            await self._release(trial, "its worker was stopped", failed=False, transient=True)
            raise
        except UnableWorkerError as error:
            failed = trial.trial >= MAX_SHARD_TRIALS
            await self._release(trial, str(error), failed=failed, transient=True)
            return min(trial.trial * SHARD_PAUSE_SECONDS, MAX_SHARD_PAUSE_SECONDS)
        except Exception as error:
            await self._release(trial, describe_error(error), failed=True, transient=is_retryable(error))
            return SHARD_PAUSE_SECONDS
        log.info("shard done", rows=result.rows, bytes=result.size)
        return None

    async def _release(self, trial: ShardTrial, reason: str, *, failed: bool, transient: bool) -> None:
        log.warning("shard released", reason=reason, failed=failed, exc_info=failed)
        await retry_until_available(shard_rows.release, self._pool, trial, reason, failed=failed, transient=transient)

    async def _write(self, trial: ShardTrial) -> WrittenRows:
        with _unable("is of another version"):
            work = WORK.decode(trial.work)
            index = self._catalog[work.request.target.export_index]
        bind_contextvars(chain=work.request.chain, index=work.request.target.export_index)
        attributes = {
            "longshore.task": trial.message.task, "longshore.shard": trial.number, "longshore.trial": trial.trial
        }  # fmt: skip
        database = self._databases.of(index)
        with tracing.span("shard", attributes, parent=work.traceparent, kind="consumer"):
            async with database.join(work.snapshot) as connection:
                with _unable("has another catalog"):
                    index_rows = await prepare_index_rows(database, connection, index, work.request)
                if index_rows.query.fingerprint() != work.fingerprint:
                    raise UnableWorkerError("a worker would write other bytes than the one that coordinates")
                pace = Throttle(self._bytes_per_second)
                output = Output(self._store, work.location, self._report(trial, pace), pace)
                if work.upload is None:  # another trial writes the same bytes to the same places
                    return await write_slice(output, index_rows, work.slice)
                number = PieceNumber(trial.number, work.count, trial.trial)
                return await _write_piece(output, index_rows, work.slice, work.upload, number)

    def _report(self, trial: ShardTrial, pace: Throttle) -> Report:
        async def report(rows: int, size: int) -> None:
            with ignore_outage("shard not reported"):
                pace.share(await shard_rows.report(self._pool, trial, rows, size))

        return report


async def _write_piece(
    output: Output, index_rows: IndexRows, slice_: Slice, upload: str, number: PieceNumber
) -> WrittenRows:
    """Write a slice as a piece of the result. `upload`: the assembly's. Raises as `copy_rows`."""
    file = await asyncio.to_thread(output.store.piece, output.location, upload, number)
    try:
        position = PiecePosition(first=number.number == 0, last=number.number == number.count - 1)
        writer, sums = row_writer(index_rows.query, file, position)
        copied = await copy_rows(index_rows.rows(slice_), writer, output.report, pace=output.pace)
        found = totals.as_list(await asyncio.to_thread(sums.end))
        return msgspec.structs.replace(copied, sums=found, piece=await asyncio.to_thread(file.end))
    finally:
        await asyncio.to_thread(file.close)


@contextlib.contextmanager
def _cancelled_if_stopped() -> Iterator[None]:
    """Raise CancelledError in place of an error that closing something raised after a cancel."""
    try:
        yield
    except Exception as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        raise


@contextlib.contextmanager
def _unable(why: str) -> Iterator[None]:
    """Raise UnableWorkerError for an error that other workers may not meet; transient errors are raised unchanged."""
    try:
        yield
    except Exception as error:
        if is_retryable(error):
            raise
        raise UnableWorkerError(f"a worker {why}: {error!r}") from error
