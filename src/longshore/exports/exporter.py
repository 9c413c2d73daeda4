"""The run of an export: its request is resolved, its rows are written, compared with the source and published."""

import asyncio
import functools
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import msgspec
from structlog.contextvars import bind_contextvars

from longshore.database.connect import Pool
from longshore.database.retry import ignore_outage
from longshore.errors import LongshoreError
from longshore.exports import delta_schema, export_request, rights
from longshore.exports.catalog import Catalog, Index
from longshore.exports.copy import Report
from longshore.exports.export_request import RequestResolver
from longshore.exports.increments import change_query, change_writer, transactions
from longshore.exports.increments.baseline import Baseline
from longshore.exports.increments.redelivery import reread_note
from longshore.exports.increments.start import choose_start
from longshore.exports.job import ExportJob, IndexJob, Output, expected_rows, plan_indexes
from longshore.exports.manifest import is_files
from longshore.exports.many_files import write_files
from longshore.exports.one_file import write_file
from longshore.exports.planned_result import PlannedResult
from longshore.exports.publication import publish_result
from longshore.exports.query import ExportRequest
from longshore.exports.shards import shard_rows
from longshore.exports.shards.coordinator import Coordinator
from longshore.exports.signing_keys import SigningKeys
from longshore.exports.snapshot import SourceConnections, SourceDatabases
from longshore.exports.source_limits import SourceLimits, Throttle
from longshore.exports.target import ExportTarget, ExportTrigger, read_of, result_name
from longshore.exports.target.deliver import BUNDLE, TemplateValues, new_deliveries
from longshore.results.store import AttemptFiles, Store
from longshore.tasks import attempts, run_queries
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.queue import Message
from longshore.tasks.reads import Read
from longshore.tasks.run_inputs import record
from longshore.telemetry import tracing
from longshore.vault import Vault


class ExportSettings(msgspec.Struct, frozen=True):
    """The operator's settings for exports."""

    source: SourceLimits = SourceLimits()
    shard_rows: int = sys.maxsize
    """Exports of more rows are written by many workers, in shards of about this many rows."""
    shard_silence_seconds: float = 60.0
    """Seconds after which a shard that has no message, and of which no worker reports, is offered again."""
    vault: Vault = Vault((), Path(), may_use_file=False)
    """Seals the keys that sign manifests; this one seals nothing, so a process has a key of its own."""


DEFAULT_SETTINGS = ExportSettings()


class Exporter:
    """Runs exports: from the source, by the catalog, into the store."""

    def __init__(
        self,
        pool: Pool,
        databases: SourceDatabases,
        catalog: Catalog,
        store: Store,
        settings: ExportSettings = DEFAULT_SETTINGS,
    ) -> None:
        """`pool`: of the service's database."""
        self._pool = pool
        self._databases = databases
        self._catalog = catalog
        self._store = store
        self._settings = settings
        self._keys = SigningKeys(pool, settings.vault)

    async def run(self, attempt: Attempt) -> RunResult:
        """Run one attempt of an export. Raises the errors of the database, the store and the copy."""
        target, trigger = export_request.stored_definition(attempt)
        result = await self._run(attempt, target, trigger)
        index = BUNDLE if target.export_indexes is not None else target.export_index
        facts = TemplateValues(
            attempt.chain, attempt.message.task, attempt.run, index, result.result, attempt.interval, trigger.zone
        )
        deliveries = new_deliveries(target.deliver or (), facts)
        return msgspec.structs.replace(result, deliveries=deliveries)

    async def _run(self, attempt: Attempt, target: ExportTarget, trigger: ExportTrigger) -> RunResult:
        bind_contextvars(index=",".join(target.names))
        if removed := [name for name in target.names if name not in self._catalog]:
            raise LongshoreError(f"the catalog has no index {removed[0]!r} any more")
        targets = [target.of(name) for name in target.names]
        for one in targets:
            await export_request.refuse_changed(self._pool, attempt.chain, one, self._catalog[one.export_index])
        database = self._database([self._catalog[name] for name in target.names])

        # The service's database is asked everything before the copy: it may be away while the copy runs.
        await self._remove_earlier(attempt)
        planned = await self._plan_result(attempt, target)
        start = await choose_start(self._pool, self._store, planned, target, functools.partial(self._permit, attempt))
        if isinstance(start, RunResult):
            return start
        resolver = RequestResolver(self._pool, self._catalog, attempt, start)
        requests = [await resolver.request(one, trigger, trigger.of(target, one.export_index)) for one in targets]
        await self._permit(attempt, [read_of(one.target, one.segment, self._catalog) for one in requests])
        if target.incremental:
            async with database.autocommit() as connection:
                await transactions.wait_for_open_transactions(connection)
                if start.baseline is not None:
                    await change_query.wait_for_replay(connection, start.watermark)
        result = await self._exported(planned, database, requests, start.baseline)
        return msgspec.structs.replace(result, note=reread_note(start.first_reread)) if start.first_reread else result

    def _database(self, indexes: Sequence[Index]) -> SourceConnections:
        """Return the database that all indexes lie in."""
        database = self._databases.of(indexes[0])
        if any(self._databases.of(index) is not database for index in indexes):
            raise LongshoreError("the indexes lie in two databases, which have no snapshot in common")
        return database

    async def _remove_earlier(self, attempt: Attempt) -> None:
        """Remove the shards and files that earlier attempts have left, before the attempt writes any."""
        await shard_rows.forget_earlier(self._pool, attempt.message)
        kept = await attempts.locations(self._pool, attempt.message.task)
        await asyncio.to_thread(self._store.remove_abandoned, AttemptFiles.of(attempt), kept)

    async def _plan_result(self, attempt: Attempt, target: ExportTarget) -> PlannedResult:
        """Return the name and the place of the result, and what its manifest has of the run before."""
        task = attempt.message.task
        name = result_name(target, self._catalog, task)
        location = AttemptFiles.of(attempt).location(name)
        previous = await run_queries.last_manifest_hash(self._pool, task)
        return PlannedResult(attempt, name, location, previous, await self._keys.current())

    async def _permit(self, attempt: Attempt, reads: list[Read]) -> None:
        """Record the reads of a run. Raises LongshoreError as `rights.refuse_beyond`."""
        await rights.refuse_beyond(self._pool, attempt, reads, self._catalog)
        await record(self._pool, attempt, reads)

    async def _exported(
        self,
        planned: PlannedResult,
        database: SourceConnections,
        requests: Sequence[ExportRequest],
        baseline: Baseline | None,
    ) -> RunResult:
        limits, has_files = self._settings.source, is_files(planned.name)
        async with AsyncExitStack() as stack:
            async with limits.of_snapshot(), database.snapshot() as (connection, snapshot_at):
                await limits.refuse_lagging(connection)
                wanted = [(self._catalog[one.target.export_index], one) for one in requests]
                slice_rows = self._settings.shard_rows if has_files or self._store.can_assemble else sys.maxsize
                with tracing.span("plan"):
                    indexes = await plan_indexes(database, connection, wanted, slice_rows, has_files=has_files)
                query = indexes[0].query
                delta_schema.schema_of(query)  # refuses what cannot be shared, before it is written
                changed_rows = await change_writer.begin(stack, query, baseline, self._store) if baseline else None
                report = self._report(planned.attempt.message, indexes)
                if changed_rows is not None:
                    await changed_rows.list_keys(connection, functools.partial(report, 0, 0))
                output = Output(self._store, planned.location, report, Throttle(limits.bytes_per_second))
                job = ExportJob(planned, output, connection, snapshot_at, indexes, changed_rows)
                write = write_files if has_files else write_file
                silence = timedelta(seconds=self._settings.shard_silence_seconds)
                result = await write(stack, job, Coordinator(self._pool, job, silence))
                if query.request.target.incremental:
                    await transactions.wait_until_durable(self._pool, connection)
            return await publish_result(job, result)

    def _report(self, message: Message, indexes: Sequence[IndexJob]) -> Report:
        async def report(rows: int, size: int) -> None:
            expected, exact = expected_rows(indexes)
            # A report that is lost does no harm: the state of the task is written when the copy has ended.
            with ignore_outage("progress not reported", task=message.task):
                await attempts.report(self._pool, message, rows, size, expected, exact=exact)

        return report
