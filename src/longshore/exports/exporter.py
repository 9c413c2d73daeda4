"""The run of an export: its request is resolved, its rows are written, compared with the source and published."""

import asyncio
import functools
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from longshore.database.connect import Connection, Pool
from longshore.database.retry import ignore_outage
from longshore.errors import LongshoreError
from longshore.exports import rights, schemas
from longshore.exports.catalog import Catalog, Index, fingerprint
from longshore.exports.columns import choices, shape_of
from longshore.exports.export import TRIGGER, ExportTarget, ExportTrigger, read_of, refuse_unfit, result_name
from longshore.exports.formats import FORMATS
from longshore.exports.increments import change_rows, changes, transactions
from longshore.exports.increments.baseline import Baseline, open_baseline
from longshore.exports.increments.redelivery import redeliver, reread_note
from longshore.exports.manifest import hash_of
from longshore.exports.pieces import ExportJob, WrittenResult, write_alone
from longshore.exports.publication import ResultName, published
from longshore.exports.query import ExportQuery, Request, prepare
from longshore.exports.ranges import Plan, Range, groups, plan
from longshore.exports.reconcile import Reconciler
from longshore.exports.segments import stored
from longshore.exports.segments.rules import Segment, in_zone
from longshore.exports.shards import store as shards
from longshore.exports.shards.coordinator import Coordinator
from longshore.exports.snapshot import Sources, refuse_outdated
from longshore.exports.source_limits import Pace, SourceLimits
from longshore.results.multipart import UnfitPieceError
from longshore.results.store import Store
from longshore.tasks import attempts, watermarks
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.queue import Message
from longshore.tasks.recorded_reads import Read
from longshore.tasks.recording import record
from longshore.tasks.watermarks import IncrementState
from longshore.telemetry import tracing

log = structlog.get_logger()

PREVIOUS = """
select manifest from longshore.runs where task_id = $1 and state = 'DONE' order by run desc limit 1
"""


class ExportPolicy(msgspec.Struct, frozen=True):
    """The operator's settings for exports."""

    source: SourceLimits = SourceLimits()
    shard_rows: int = sys.maxsize
    """Exports of more rows are written by many workers, in shards of about this many rows."""
    shard_silence_seconds: float = 60.0
    """Seconds after which a shard that has no message, and of which no worker reports, is offered again."""


DEFAULT_POLICY = ExportPolicy()


class Exporter:
    """Runs exports: from the source, by the catalog, into the store."""

    def __init__(
        self, pool: Pool, sources: Sources, catalog: Catalog, store: Store, policy: ExportPolicy = DEFAULT_POLICY
    ) -> None:
        """`pool`: of the service's database."""
        self._pool = pool
        self._sources = sources
        self._catalog = catalog
        self._store = store
        self._policy = policy
        self._coordinator = Coordinator(pool, store, timedelta(seconds=policy.shard_silence_seconds))

    async def run(self, attempt: Attempt) -> RunResult:
        """Run one attempt of an export. Raises the errors of the database, the store and the copy."""
        target, trigger = _decoded(attempt)
        bind_contextvars(index=target.export_index)
        if target.export_index not in self._catalog:
            raise LongshoreError(f"the catalog has no index {target.export_index!r} any more")
        index = self._catalog[target.export_index]
        await self._refuse_changed(attempt, target, index)

        # The service's database is asked everything before the copy: it may be away while the copy runs.
        naming = await self._named(attempt, target, index)
        increments = await watermarks.standing(self._pool, attempt.message) if target.incremental else None
        pending = increments.pending if increments else []
        if increments and pending:
            await self._permit(attempt, [read for each in pending for read in each.reads])
            again = await asyncio.to_thread(
                redeliver, self._store, increments, attempt, naming.location, naming.previous
            )
            if again is not None:
                return again
        baseline = None
        if target.deletes and increments:
            baseline = await asyncio.to_thread(open_baseline, self._store, attempt, increments)
            increments, pending = msgspec.structs.replace(increments, pending=[]), []
        segment = await self._segment(attempt, trigger, increments)
        refuse_unfit(segment, target, attempt.chain, self._catalog)
        await self._permit(attempt, [read_of(target, segment, self._catalog)])
        if increments:
            async with self._sources.of(index).autocommit() as connection:
                await transactions.wait_for_open_transactions(connection)
                if baseline is not None:
                    await changes.wait_for_replay(connection, baseline.start)
        request = Request(
            attempt.chain,
            target,
            segment,
            interval=pending[-1].interval if pending else attempt.interval,
            start=baseline.start if baseline else increments.watermark if increments else None,
            end=pending[-1].end if pending else None,
        )
        result = await self._exported(index, request, naming, baseline)
        return msgspec.structs.replace(result, note=reread_note(pending)) if pending else result

    async def _refuse_changed(self, attempt: Attempt, target: ExportTarget, index: Index) -> None:
        """Raise LongshoreError where the fields are not those that the client pinned, or one is gone."""
        chosen = choices(target.fields, index)
        now = shape_of(chosen, index)
        if target.schema is not None and fingerprint(now) != target.schema:
            before = await schemas.load(self._pool, attempt.chain, target.schema)
            raise LongshoreError(schemas.difference(target.schema, before, now))
        missing = [name for name, _ in chosen if name not in index.fields]
        if missing:
            raise LongshoreError(
                f"the catalog has no field {', '.join(missing)} in index {target.export_index} any more"
            )

    async def _named(self, attempt: Attempt, target: ExportTarget, index: Index) -> ResultName:
        """Return where the result goes, after everything that earlier attempts left was removed."""
        message = attempt.message
        await shards.forget_earlier(self._pool, message)
        kept = await attempts.locations(self._pool, message.task)
        await asyncio.to_thread(self._store.remove_abandoned, attempt.chain, message.task, message.attempt, kept)
        name = result_name(target, index, message.task)
        location = self._store.location(attempt.chain, message.task, message.attempt, name)
        manifest = await self._pool.fetchval(PREVIOUS, message.task)
        return ResultName(attempt, name, location, manifest and hash_of(manifest.encode()))

    async def _permit(self, attempt: Attempt, reads: list[Read]) -> None:
        """Record the reads of a run, unless they are beyond the rights of the credential that made the task."""
        await rights.refuse_beyond(self._pool, attempt, reads, self._catalog)
        await record(self._pool, attempt, reads)

    async def _segment(
        self, attempt: Attempt, trigger: ExportTrigger, increments: IncrementState | None
    ) -> Segment | None:
        """Return the segment of this run; for an increment that is read again, that of the run that read it first."""
        segment = trigger.segment
        if trigger.segment_id is not None:
            first = increments.pending[-1].segment if increments and increments.pending else None
            if first is not None:
                segment = stored.READ.decode(first)
            else:
                segment = await stored.resolve(self._pool, attempt, trigger.segment_id)
        return None if segment is None else in_zone(segment, trigger.timezone)

    async def _exported(
        self, index: Index, request: Request, naming: ResultName, baseline: Baseline | None
    ) -> RunResult:
        limits, readers = self._policy.source, self._sources.of(index)
        async with AsyncExitStack() as stack:
            async with limits.of_snapshot(), readers.snapshot() as (connection, snapshot_at):
                await limits.refuse_lagging(connection)
                query = await prepare(connection, index, request)
                reconciler = Reconciler(query)
                form = query.format()
                with tracing.span("plan"):
                    statement = form.query(query.source.sql)
                    cut = await plan(connection, index, statement, query.source, count=not reconciler.counts)
                    await refuse_outdated(connection)
                    shard_ranges = await self._shard_ranges(connection, query, cut)
                beside = await change_rows.begin(stack, query, baseline, self._store) if baseline else None
                job = ExportJob(
                    message=naming.attempt.message,
                    location=naming.location,
                    query=query,
                    form=form,
                    plan=cut,
                    readers=readers,
                    connection=connection,
                    snapshot_at=snapshot_at,
                    reconciler=reconciler,
                    report=functools.partial(self._report, naming.attempt.message, cut, reconciler),
                    changes=beside,
                )
                if beside is not None:
                    await beside.list_keys(connection, functools.partial(job.report, 0, 0))
                result = await self._written(stack, job, shard_ranges)
                if query.request.target.incremental:
                    await transactions.wait_until_durable(self._pool, connection)
            return await published(naming, job, result)

    async def _shard_ranges(self, connection: Connection, query: ExportQuery, cut: Plan) -> list[list[Range]]:
        """Return the ranges of each shard; one or none where the export is written as one piece."""
        joins = FORMATS[query.request.target.export_format].joins
        if query.changes is not None and query.changes.start is not None:
            return []
        if not joins or not self._store.is_shared or (cut.expected or 0) <= self._policy.shard_rows:
            return []
        return await groups(connection, query.index, query.source, cut, self._policy.shard_rows)

    async def _written(self, stack: AsyncExitStack, job: ExportJob, shard_ranges: list[list[Range]]) -> WrittenResult:
        if len(shard_ranges) > 1:
            try:
                return await self._coordinator.write(stack, job, shard_ranges)
            except UnfitPieceError as error:
                log.warning("export not cut", reason=str(error))
                await stack.aclose()
        return await write_alone(stack, job, self._store, Pace(self._policy.source.bytes_per_second))

    async def _report(self, message: Message, cut: Plan, reconciler: Reconciler, rows: int, size: int) -> None:
        expected, exact = (cut.expected, cut.exact) if reconciler.rows is None else (reconciler.rows, True)
        # A report that is lost does no harm: the state of the task is written when the copy has ended.
        with ignore_outage("progress not reported", task=message.task):
            await attempts.report(self._pool, message, rows, size, expected, exact=exact)


def _decoded(attempt: Attempt) -> tuple[ExportTarget, ExportTrigger]:
    """Return target and trigger of a task. Raises LongshoreError where this version cannot read them."""
    try:
        target, trigger = msgspec.json.decode(attempt.target, type=ExportTarget), TRIGGER.decode(attempt.trigger)
    except msgspec.MsgspecError as error:
        raise LongshoreError(f"this version cannot read the target or the trigger: {error}") from error
    if target.export_format not in FORMATS:
        raise LongshoreError(f"there is no format {target.export_format!r} any more")
    return target, trigger
