"""One export over many workers: a coordinator cuts it, any worker writes shards of it, the coordinator gathers them.

All read the snapshot that the coordinator holds (promise 4). Each worker writes one shard at a time, beside its tasks,
so that coordinators never wait for each other. What a lost worker had is begun again by whoever gets its message next;
a lost coordinator takes the snapshot with it, and its task's next attempt begins anew.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

import asyncpg
import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from longshore import tracing
from longshore.database.connect import Connection, Pool, is_passing
from longshore.database.patience import surely
from longshore.errors import LongshoreError, PassingError
from longshore.exports import shards
from longshore.exports.care import Pace
from longshore.exports.catalog import Catalog, Index
from longshore.exports.control import Control
from longshore.exports.copy import Copied, Readers, Report, SnapshotGoneError, copy_rows
from longshore.exports.formats import Place
from longshore.exports.plan import Plan, Range, clauses
from longshore.exports.request import Prepared, Request, prepare
from longshore.exports.shards import Left, Standing, Trial
from longshore.failures import explain, may_pass
from longshore.results.open import Store, piece
from longshore.results.pieces import Gathering
from longshore.tasks.lifecycle import StaleAttemptError
from longshore.tasks.queue import Message, ShardMessage

log = structlog.get_logger()

LOOK = 0.2  # seconds between two looks at how the shards stand
BEAT = 1.0  # seconds between two reports, and two signs of life to the source, which ends what is idle for long

ENCODER = msgspec.json.Encoder(decimal_format="number")


class ShardError(LongshoreError):
    """A shard failed for good, and with it the export."""


class ShardLostError(PassingError):
    """A shard failed several times, and the export may do better."""


class OtherVersionError(PassingError):
    """A worker would write the rows otherwise than the one that coordinates."""


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
        """`rate`: bytes a second of an export, 0 for any. `silence`: after which a shard is begun again in any case."""
        self._state = state
        self._readers_of = readers_of
        self._catalog = catalog
        self._store = store
        self._rate = rate
        self._silence = silence
        self._busy = False

    async def run(self, message: ShardMessage) -> None:
        """Do the shard that a message is about, or see to it that others do.

        A shard is read with as many connections as there are cores, so that a worker does one at a time: others may
        have none. Raises StaleAttemptError, and CancelledError once the shard was given back.
        """
        if self._busy:
            await surely(shards.offer, self._state, message)
            return
        self._busy = True
        try:
            await self._run(message)
        finally:
            self._busy = False

    async def _run(self, message: ShardMessage) -> None:
        trial = await surely(shards.begin, self._state, message)
        if trial is None:
            return
        work = WORK.decode(trial.work)
        bind_contextvars(chain=work.request.chain, trial=trial.trial)
        about = {"longshore.task": message.task, "longshore.shard": message.number, "longshore.trial": trial.trial}
        log.info("shard begins")
        try:
            with tracing.span("shard", about, of=work.traceparent, kind="consumer"):
                left = await self._joined(trial, work)
                await surely(shards.finish, self._state, trial, left)
        except StaleAttemptError:
            raise
        except asyncio.CancelledError:
            await self._give_back(message, trial, "its worker is shutting down", failed=False, passing=True)
            raise
        except (OtherVersionError, SnapshotGoneError) as error:
            # Versions are being replaced, or this worker reads another replica: others can do it.
            log.warning("shard left to others", reason=str(error))
            await self._give_back(message, trial, str(error), failed=False, passing=True)
        except Exception as error:
            log.warning("shard failed", reason=explain(error), exc_info=error)
            await self._give_back(message, trial, explain(error), failed=True, passing=may_pass(error))
        else:
            log.info("shard done", rows=left.rows, bytes=left.piece.size)

    async def _give_back(self, message: ShardMessage, trial: Trial, why: str, *, failed: bool, passing: bool) -> None:
        await surely(shards.give_back, self._state, trial, why, failed=failed, passing=passing)
        await surely(shards.offer, self._state, message)

    async def _joined(self, trial: Trial, work: Work) -> Left:
        index = self._catalog.get(work.request.target.export_index)
        if index is None:
            raise OtherVersionError(f"this worker's catalog has no {work.request.target.export_index}")
        readers = self._readers_of(index)
        async with readers.joining(work.snapshot) as connection:
            ready = await prepare(connection, index, work.request)
            return await self._write(trial, work, ready, readers, connection)

    async def _write(self, trial: Trial, work: Work, ready: Prepared, readers: Readers, connection: Connection) -> Left:
        control = Control(ready.counted, ready.layout)
        place = Place(first=work.number == 0, last=work.number == work.count - 1)
        form = ready.format(control.read, place)
        if ready.fingerprint(form) != work.fingerprint:
            raise OtherVersionError("this worker's version or catalog is not the coordinator's")
        pace = Pace(self._rate)

        async def report(rows: int, size: int) -> None:
            with _unless_away(trial.of):
                pace.share(await shards.report(self._state, trial, rows, size))

        file = await asyncio.to_thread(
            piece, self._store, work.location, work.upload, work.number, work.count, trial.trial
        )
        try:
            cut = Plan(None, False, clauses(ready.index, ready.source, work.ranges), [])
            copied = await copy_rows(readers, connection, cut, ready.source, form, file, report, pace=pace, place=place)
            return Left(await asyncio.to_thread(file.end), copied.sent, copied.rows, control.written)
        finally:
            await asyncio.to_thread(file.close)

    async def coordinate(
        self,
        of: Message,
        ready: Prepared,
        groups: Sequence[list[Range]],
        location: str,
        gathering: Gathering,
        connection: Connection,
        control: Control,
        report: Report,
    ) -> Copied:
        """Have all shards of an export written, and gather them; what is left is to publish.

        `connection`: holds the snapshot. Raises ShardError, ShardLostError, TooSmallError, StaleAttemptError.
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
            await control.ask(connection, ready.source)
            left = await self._gathered(of, len(works), gathering, connection, report)
        finally:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await shards.forget(self._state, of)
        control.gather([part.sums for part in left])
        size, digest = await asyncio.to_thread(gathering.finish)
        return Copied(sum(part.sent for part in left), sum(part.rows for part in left), size, digest)

    async def _gathered(
        self, of: Message, count: int, gathering: Gathering, connection: Connection, report: Report
    ) -> list[Left]:
        left: list[Left] = []
        told = time.monotonic()
        while len(left) < count:
            await asyncio.sleep(LOOK)
            found: list[Standing] = []
            with _unless_away(of):
                found = await shards.standing(self._state, of, len(left), self._silence)
                if not found:
                    raise StaleAttemptError(of)
                await self._see_to_silent(of, found)
            _refuse_failed(found)
            while len(left) < len(found) and found[len(left)].state == "DONE":
                part = shards.outcome(found[len(left)])
                await asyncio.to_thread(gathering.add, part.piece)
                left.append(part)
            if time.monotonic() - told >= BEAT:
                told = time.monotonic()
                await connection.fetchval("select 1")
                if found:
                    await report(sum(one.rows for one in found), sum(one.bytes for one in found))
        return left

    async def _see_to_silent(self, of: Message, found: Sequence[Standing]) -> None:
        """Offer again what nobody else would: where a worker is lost, its message comes again by itself."""
        for one in found:
            if one.silent:
                with contextlib.suppress(StaleAttemptError):
                    await shards.lost(self._state, Trial(of, one.number, one.trial))


def _refuse_failed(found: Sequence[Standing]) -> None:
    for number, one in enumerate(found):
        if one.state == "FAILED":
            kind = ShardLostError if one.passing else ShardError
            raise kind(f"shard {number + 1} of {len(found)}: {one.reason}")


@contextlib.contextmanager
def _unless_away(of: Message) -> Iterator[None]:
    """Go on where the service's database is away: what counts is written once it is back."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if not is_passing(error):
            raise
        log.warning("shards out of reach", task=of.task, attempt=of.attempt, error=str(error))
