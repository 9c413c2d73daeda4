"""One export over many workers: a coordinator cuts it, any worker writes shards of it, the coordinator gathers them.

All read the snapshot that the coordinator holds (promise 4). Workers write shards beside their tasks, so that
coordinators never wait for each other. What a lost worker had is begun again by whoever gets its message next; a lost
coordinator takes the snapshot with it, and its task's next attempt begins anew.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg
import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from longshore.database.connect import Connection, Pool
from longshore.database.retry import ignore_outage, retry_until_available
from longshore.errors import LongshoreError, TransientError
from longshore.exports.catalog import Catalog, Index
from longshore.exports.copy import Copied, Report, copy_rows
from longshore.exports.formats import Place
from longshore.exports.query import ExportQuery, Request, prepare
from longshore.exports.ranges import Plan, Range, clauses
from longshore.exports.reconcile import Reconciler
from longshore.exports.run_errors import explain, is_retryable
from longshore.exports.shards import store as shards
from longshore.exports.shards.store import Shard, ShardAttempt, ShardResult
from longshore.exports.snapshot import Readers, SnapshotGoneError
from longshore.exports.source_limits import Pace
from longshore.results.multipart import UnfitPieceError
from longshore.results.open import Store, piece
from longshore.results.pieces import Gathering
from longshore.tasks.attempts import StaleAttemptError
from longshore.tasks.queue import Message, ShardMessage
from longshore.telemetry import tracing

log = structlog.get_logger()

LOOK = 0.2  # seconds between two looks at how the shards stand
BEAT = 1.0  # seconds between two reports, and two signs of life to the source, which ends what is idle for long

LEFT_FOR = 0.3  # seconds until a shard that was given back is offered again, the first time
LEFT_FOR_MOST = 5.0  # seconds, later
MOST_TRIALS = 100  # before also what a worker is unable to do counts as failed: seven minutes

ENCODER = msgspec.json.Encoder(decimal_format="number")


class ShardError(LongshoreError):
    """A shard failed for good, and with it the export."""


class ShardLostError(TransientError):
    """A shard failed several times, and the export may do better."""


class UnableError(TransientError):
    """A worker cannot do a shard that others may: versions are being replaced, or it has another catalog."""


class RetryLaterError(Exception):
    """The shard's message has to come again, after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"the shard is offered again in {delay:g} s")
        self.delay = delay


class Work(msgspec.Struct, frozen=True):
    """A shard as another worker can do it."""

    request: Request
    snapshot: str
    fingerprint: str
    """Of the query and its values, as the coordinator makes them."""
    location: str
    upload: str
    number: int
    count: int
    ranges: list[Range]
    traceparent: str | None
    """The coordinator's span, where there is one."""


WORK = msgspec.json.Decoder(Work, float_hook=Decimal)


class Shards:
    """Cuts exports into shards, and does those of others."""

    def __init__(
        self,
        state: Pool,
        readers_of: Callable[[Index], Readers],
        catalog: Catalog,
        store: Store,
        rate: float,
        silence: timedelta,
    ) -> None:
        """`rate`: bytes a second of an export, 0 for any. `silence`: until one without a message is offered again."""
        self._state = state
        self._readers_of = readers_of
        self._catalog = catalog
        self._store = store
        self._rate = rate
        self._silence = silence

    async def run(self, message: ShardMessage) -> None:
        """Do the shard that a message is about.

        Raises StaleAttemptError; and RetryLaterError, or CancelledError, once the shard was given back.
        """
        trial = await retry_until_available(shards.begin, self._state, message, uuid4())
        if trial is None:
            return
        log.info("shard begins", trial=trial.trial)
        try:
            left = await self._done(trial)
            await retry_until_available(shards.finish, self._state, trial, left)
        except StaleAttemptError:
            raise
        except asyncio.CancelledError:
            await self._give_back(trial, "its worker was told to let it be", failed=False, passing=True)
            raise
        except (UnableError, SnapshotGoneError) as error:
            failed = trial.trial >= MOST_TRIALS
            await self._give_back(trial, str(error), failed=failed, passing=True)
            raise RetryLaterError(min(trial.trial * LEFT_FOR, LEFT_FOR_MOST)) from error
        except Exception as error:
            await self._give_back(trial, explain(error), failed=True, passing=is_retryable(error))
            raise RetryLaterError(LEFT_FOR) from error
        log.info("shard done", rows=left.rows, bytes=left.piece.size)

    async def _give_back(self, trial: ShardAttempt, why: str, *, failed: bool, passing: bool) -> None:
        log.warning("shard given back", reason=why, failed=failed, exc_info=failed)
        await retry_until_available(shards.give_back, self._state, trial, why, failed=failed, passing=passing)

    async def _done(self, trial: ShardAttempt) -> ShardResult:
        with _unable("is of another version"):
            work = WORK.decode(trial.work)
            index = self._catalog[work.request.target.export_index]
        bind_contextvars(chain=work.request.chain)
        about = {"longshore.task": trial.of.task, "longshore.shard": trial.number, "longshore.trial": trial.trial}
        readers = self._readers_of(index)
        with tracing.span("shard", about, of=work.traceparent, kind="consumer"):
            async with readers.joining(work.snapshot) as connection:
                with _unable("has another catalog"):
                    ready = await prepare(connection, index, work.request)
                return await self._write(trial, work, ready, readers, connection)

    async def _write(
        self, trial: ShardAttempt, work: Work, ready: ExportQuery, readers: Readers, connection: Connection
    ) -> ShardResult:
        control = Reconciler(ready.counted, ready.layout)
        place = Place(first=work.number == 0, last=work.number == work.count - 1)
        form = ready.format(control.read, place)
        if ready.fingerprint(form) != work.fingerprint:
            raise UnableError("a worker would write the rows otherwise than the one that coordinates")
        pace = Pace(self._rate)

        async def report(rows: int, size: int) -> None:
            with ignore_outage("shard not reported"):
                pace.share(await shards.report(self._state, trial, rows, size))

        file = await asyncio.to_thread(
            piece, self._store, work.location, work.upload, work.number, work.count, trial.trial
        )
        try:
            cut = Plan(None, False, clauses(ready.index, ready.source, work.ranges), [])
            copied = await copy_rows(readers, connection, cut, ready.source, form, file, report, pace=pace, place=place)
            return ShardResult(await asyncio.to_thread(file.end), copied.sent, copied.rows, control.written)
        finally:
            await asyncio.to_thread(file.close)

    async def coordinate(
        self,
        of: Message,
        ready: ExportQuery,
        groups: Sequence[list[Range]],
        location: str,
        gathering: Gathering,
        thread: ThreadPoolExecutor,
        connection: Connection,
        control: Reconciler,
        report: Report,
    ) -> Sequence[ShardResult]:
        """Have all shards of an export written and gathered, and tell what they left; then `finish` is due.

        `connection`: holds the snapshot. `thread`: for what is asked of `gathering`. Raises ShardError, ShardLostError,
        StaleAttemptError, and UnfitPieceError, after which the connection still holds the snapshot.
        """
        form = ready.format(lambda form: form)
        snapshot = await connection.fetchval("select pg_catalog.pg_export_snapshot()")
        request = ready.request
        if ready.bounds is not None:
            request = msgspec.structs.replace(request, end=ready.bounds.end)
        common = (request, snapshot, ready.fingerprint(form), location, gathering.upload)
        here = tracing.current()
        works = [Work(*common, number, len(groups), ranges, here) for number, ranges in enumerate(groups)]
        try:
            await shards.send(self._state, of, [ENCODER.encode(work).decode() for work in works])
            asking = asyncio.create_task(control.ask(connection, ready))
            try:
                left = await self._gathered(of, len(works), gathering, thread, connection, asking, report)
                await asking
            except UnfitPieceError:
                await asking
                raise
            finally:
                asking.cancel()
                await asyncio.wait({asking})
            await retry_until_available(shards.forget, self._state, of)
        except BaseException:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await shards.forget(self._state, of)
            raise
        control.gather([part.sums for part in left])
        return left

    async def finish(
        self, gathering: Gathering, thread: ThreadPoolExecutor, left: Sequence[ShardResult], report: Report
    ) -> Copied:
        """Put a gathered result together, however long the store takes for it; the snapshot is needed no more."""
        rows, size = sum(part.rows for part in left), sum(part.piece.size for part in left)
        finishing = asyncio.get_running_loop().run_in_executor(thread, gathering.finish)
        while not finishing.done():
            await report(rows, size)
            await asyncio.wait({finishing}, timeout=BEAT)
        return Copied(sum(part.sent for part in left), rows, *await finishing)

    async def _gathered(
        self,
        of: Message,
        count: int,
        gathering: Gathering,
        thread: ThreadPoolExecutor,
        connection: Connection,
        asking: asyncio.Task[None],
        report: Report,
    ) -> list[ShardResult]:
        left: list[ShardResult] = []
        told = time.monotonic()
        while len(left) < count:
            found: list[Shard] = []
            with ignore_outage("shards out of reach"):
                found = await shards.standing(self._state, of, len(left), self._silence)
                if not found:
                    raise StaleAttemptError(of)
                for one in found:
                    if one.left_behind:
                        await shards.offer_again(self._state, of, one)
            _refuse_failed(found)
            if asking.done():
                await asking
            if time.monotonic() - told >= BEAT:
                told = time.monotonic()
                if asking.done():  # else the connection is in use
                    await connection.fetchval("select 1")
                if found:
                    await report(sum(one.rows for one in found), sum(one.bytes for one in found))
            if found and found[len(left)].state == "DONE":
                part = shards.outcome(found[len(left)])
                await asyncio.get_running_loop().run_in_executor(thread, gathering.add, part.piece)
                left.append(part)
            else:
                await asyncio.sleep(LOOK)
        return left


def _refuse_failed(found: Sequence[Shard]) -> None:
    for number, one in enumerate(found):
        if one.state == "FAILED":
            kind = ShardLostError if one.passing else ShardError
            raise kind(f"shard {number + 1} of {len(found)}: {one.reason}")


@contextlib.contextmanager
def _unable(why: str) -> Iterator[None]:
    """Raise UnableError for what this worker cannot do and others may; what passes is raised as it is."""
    try:
        yield
    except Exception as error:
        if is_retryable(error):
            raise
        raise UnableError(f"a worker {why}: {error!r}") from error
