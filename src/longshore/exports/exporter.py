"""How a run of an export goes: its request is settled, its rows copied by one worker or many, checked and published."""

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import msgspec
import structlog

from longshore.database.connect import Connection, Pool
from longshore.database.retry import ignore_outage
from longshore.errors import LongshoreError
from longshore.exports import rights, schemas
from longshore.exports.catalog import Catalog, Index, Shape, fingerprint, shape
from longshore.exports.columns import choices
from longshore.exports.copy import Copied, copy_rows
from longshore.exports.export import TRIGGER, ExportTarget, ExportTrigger, check_segment, read_by, result_name
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.increments import transactions
from longshore.exports.increments.redelivery import give_again, read_again
from longshore.exports.manifest import SUFFIX, Manifest, ManifestField, hash_of
from longshore.exports.query import ExportQuery, Request, prepare
from longshore.exports.ranges import Plan, Range, groups, plan
from longshore.exports.reconcile import Reconciler
from longshore.exports.segments import sql, stored
from longshore.exports.segments.rules import Segment, in_zone
from longshore.exports.shards import store as shards
from longshore.exports.shards.coordinator import Shards
from longshore.exports.snapshot import Readers, refuse_outdated
from longshore.exports.source_limits import Pace, SourceLimits
from longshore.results.multipart import UnfitPieceError
from longshore.results.open import File, Store, gathered_aside, gathers, written_aside
from longshore.results.pieces import Gathering
from longshore.tasks import attempts, watermarks
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.queue import Message, ShardMessage
from longshore.tasks.recorded_reads import Read
from longshore.tasks.recording import record
from longshore.tasks.watermarks import Increment, IncrementState
from longshore.telemetry import tracing

log = structlog.get_logger()

NONE = SourceLimits()

PREVIOUS = """
select manifest from longshore.runs where task_id = $1 and state = 'DONE' order by run desc limit 1
"""


class ShardPolicy(msgspec.Struct, frozen=True):
    """When exports are cut into shards for many workers."""

    rows: int = sys.maxsize
    """Exports of more rows than this are, into shards of about so many."""
    silence: float = 60.0
    """Seconds after which a shard that has no message, and that nothing is heard of, is offered again."""


UNCUT = ShardPolicy()


class ResultName(msgspec.Struct, frozen=True):
    """What the result of an attempt is called, and where it belongs."""

    begun: Attempt
    name: str
    location: str
    previous: str | None
    """Hash of the manifest before."""


class SchemaChangedError(LongshoreError):
    """The fields are not those that the client pinned."""


class SegmentUnfitError(LongshoreError):
    """The segment was good when it was taken in, and the catalog has changed since."""


class Exporter:
    """Runs exports: from the source, by the catalog, into the store."""

    def __init__(
        self,
        state: Pool,
        readers: Readers,
        catalog: Catalog,
        store: Store,
        own: Readers | None = None,
        care: SourceLimits = NONE,
        cutting: ShardPolicy = UNCUT,
    ) -> None:
        self._state = state
        self._readers = readers
        self._own = own or readers  # for what lies in the service's own database
        self._catalog = catalog
        self._store = store
        self._care = care
        self._cut_above = cutting.rows
        silence = timedelta(seconds=cutting.silence)
        self._shards = Shards(state, self._readers_of, catalog, store, care.bytes_per_second, silence)

    async def run_shard(self, message: ShardMessage) -> None:
        """Do a shard of an export that some worker coordinates; see `Shards.run`."""
        await self._shards.run(message)

    async def run(self, begun: Attempt) -> RunResult:
        """Run one attempt of an export. Raises whatever the database, the disk and the copy raise."""
        target, trigger = _read(begun)
        if target.export_index not in self._catalog:
            raise LongshoreError(f"the catalog has no index {target.export_index!r} any more")
        index = self._catalog[target.export_index]
        chosen = choices(target.fields, index)
        before = await schemas.remembered(self._state, begun.chain, target.schema) if target.schema else None
        _refuse_changed(target, index, chosen, before)
        message = begun.message
        await shards.forget_earlier(self._state, message)
        kept = await attempts.locations(self._state, message.task)
        await asyncio.to_thread(self._store.remove_abandoned, begun.chain, message.task, message.attempt, kept)
        name = result_name(target, index, message.task)
        location = self._store.location(begun.chain, message.task, message.attempt, name)

        # All that is asked of the state comes before the copy: it may be away while the copy goes on.
        text = await self._state.fetchval(PREVIOUS, message.task)
        previous = text and hash_of(text.encode())
        standing = await watermarks.standing(self._state, message) if target.incremental else None
        if standing is not None and standing.pending:
            await self._permit(begun, [read for pending in standing.pending for read in pending.reads])
            again = await asyncio.to_thread(give_again, self._store, standing, begun, location, previous)
            if again is not None:
                return again
        segment = await self._segment(begun, trigger, standing)
        _refuse_unfit(segment, target, begun.chain, self._catalog)
        await self._permit(begun, [read_by(target, segment, self._catalog)])
        if standing is not None:
            async with self._readers_of(index).watching() as connection:
                await transactions.settle(connection)
        waits = standing.pending if standing is not None else []
        counted_from = waits[-1].began_at if waits else begun.run_began_at
        mark, end = (standing.mark if standing else None), (waits[-1].end if waits else None)
        request = Request(begun.chain, target, segment, counted_from, mark, end)
        outcome = await self._copied(index, request, ResultName(begun, name, location, previous))
        return msgspec.structs.replace(outcome, note=read_again(waits)) if waits else outcome

    async def _permit(self, begun: Attempt, reads: list[Read]) -> None:
        """Record what is about to be read, unless it is beyond the rights of whoever made the task."""
        await rights.refuse_beyond(self._state, begun, reads, self._catalog)
        await record(self._state, begun, reads)

    async def _segment(self, begun: Attempt, trigger: ExportTrigger, standing: IncrementState | None) -> Segment | None:
        """The segment of this run; for an increment that is read again, as it was for the run that gave it first."""
        segment = trigger.segment
        if trigger.segment_id is not None:
            first = standing.pending[-1].segment if standing and standing.pending else None
            if first is not None:
                segment = stored.READ.decode(first)
            else:
                segment = await stored.settled(self._state, begun, trigger.segment_id)
        return None if segment is None else in_zone(segment, trigger.timezone)

    async def _copied(self, index: Index, request: Request, naming: ResultName) -> RunResult:
        of, location = naming.begun.message, naming.location
        readers = self._readers_of(index)
        async with AsyncExitStack() as files:
            finish: Callable[[], Awaitable[Copied]]
            file: File | Gathering
            async with self._care.of_snapshot(), readers.snapshot() as (connection, snapshot_at):
                await self._care.refuse_lagging(connection)
                ready = await prepare(connection, index, request)
                control = Reconciler(ready.counted, ready.layout)
                form = ready.format(control.read)
                with tracing.span("plan"):
                    query = form.query(ready.source.sql)
                    cut = await plan(connection, index, query, ready.source, count=not control.counts)
                    await refuse_outdated(connection)
                    parts = await self._parts(connection, ready, cut)
                report = functools.partial(self._report, of, cut, control)
                left = None
                if len(parts) > 1:
                    gathering, thread = await files.enter_async_context(gathered_aside(self._store, location))
                    try:
                        left = await self._shards.coordinate(
                            of, ready, parts, location, gathering, thread, connection, control, report
                        )
                        finish = functools.partial(self._shards.finish, gathering, thread, left, report)
                        file = gathering
                    except UnfitPieceError as error:
                        log.warning("export not cut", reason=str(error))
                        await files.aclose()
                if left is None:
                    whole, thread = await files.enter_async_context(written_aside(self._store, location))
                    first = functools.partial(control.ask, connection, ready)
                    pace = Pace(self._care.bytes_per_second)
                    copied = await copy_rows(readers, connection, cut, ready.source, form, whole, report, first, pace)
                    finish = functools.partial(_finished, whole, thread, copied)
                    file = whole
                if ready.bounds is not None:
                    await transactions.make_safe(self._state, connection)
            return await self._published(naming, ready, snapshot_at, control, file, thread, await finish())

    async def _parts(self, connection: Connection, ready: ExportQuery, cut: Plan) -> list[list[Range]]:
        """The shards that an export is cut into; one or none where it is not."""
        kind = FORMATS[ready.request.target.export_format]
        if not kind.joins or not gathers(self._store) or (cut.expected or 0) <= self._cut_above:
            return []
        return await groups(connection, ready.index, ready.source, cut, self._cut_above)

    async def _report(self, of: Message, cut: Plan, control: Reconciler, rows: int, size: int) -> None:
        expected, exact = (cut.expected, cut.exact) if control.rows is None else (control.rows, True)
        # The copy is well; what counts is written once it has ended, however long that takes.
        with ignore_outage("progress not reported", task=of.task):
            await attempts.report(self._state, of, rows, size, expected, exact=exact)

    async def _published(
        self,
        naming: ResultName,
        ready: ExportQuery,
        snapshot_at: datetime,
        control: Reconciler,
        file: File | Gathering,
        thread: ThreadPoolExecutor,
        copied: Copied,
    ) -> RunResult:
        bounds, request = ready.bounds, ready.request
        described = _described(naming, ready, copied, snapshot_at)
        described = msgspec.structs.replace(described, totals=await control.checked(file.open, described))
        manifest = described.encoded()
        with tracing.span("publish"):
            await asyncio.get_running_loop().run_in_executor(thread, file.publish, SUFFIX, manifest)
        on_ack = request.target.incremental == "on_ack"
        return RunResult(
            result=naming.name,
            location=naming.location,
            total=copied.sent,
            success=copied.rows,
            size=copied.size,
            sha256=copied.sha256,
            snapshot_at=snapshot_at,
            manifest=manifest.decode(),
            skips=control.skips,
            increment=None if bounds is None else Increment(bounds.start, bounds.end, on_ack),
        )

    def _readers_of(self, index: Index) -> Readers:
        return self._own if index.own else self._readers


def _read(begun: Attempt) -> tuple[ExportTarget, ExportTrigger]:
    """Return what a task asks for. Raises LongshoreError where this version does not understand it."""
    try:
        target, trigger = msgspec.json.decode(begun.target, type=ExportTarget), TRIGGER.decode(begun.trigger)
    except msgspec.MsgspecError as error:
        raise LongshoreError(f"this version cannot read the target or the trigger: {error}") from error
    if target.export_format not in FORMATS:
        raise LongshoreError(f"there is no format {target.export_format!r} any more")
    return target, trigger


async def _finished(file: File, thread: ThreadPoolExecutor, copied: Copied) -> Copied:
    await asyncio.get_running_loop().run_in_executor(thread, file.finish)
    return copied


def _described(naming: ResultName, ready: ExportQuery, copied: Copied, snapshot_at: datetime) -> Manifest:
    target, segment = ready.request.target, ready.request.segment
    return Manifest(
        file=naming.name,
        size=copied.size,
        sha256=copied.sha256.hex(),
        rows=copied.rows,
        chain=naming.begun.chain,
        task=naming.begun.message.task,
        run=naming.begun.run,
        index=target.export_index,
        format=target.export_format,
        fields=[ManifestField(column.name, column.field.type) for column in ready.columns],
        schema=fingerprint(shape((column.name, column.field) for column in ready.columns)),
        segment=segment and sql.resolved(segment, ready.request.counted_from),
        snapshot=snapshot_at,
        previous=naming.previous,
        csv=target.csv or CsvOptions(),
    )


def _refuse_changed(target: ExportTarget, index: Index, chosen: list[tuple[str, str]], before: Shape | None) -> None:
    now = shape((shown, index.fields[name]) for name, shown in chosen if name in index.fields)
    if target.schema is not None and fingerprint(now) != target.schema:
        raise SchemaChangedError(schemas.difference(target.schema, before, now))
    missing = [name for name, _ in chosen if name not in index.fields]
    if missing:
        raise SchemaChangedError(f"the catalog has no field {', '.join(missing)} any more")


def _refuse_unfit(segment: Segment | None, target: ExportTarget, chain: int, catalog: Catalog) -> None:
    violations = [] if segment is None else check_segment(segment, target.export_index, chain, catalog, "")
    if violations:
        raise SegmentUnfitError(
            f"the segment does not fit the catalog any more: {violations[0].pointer} {violations[0].detail}"
        )
