"""The end of an export: the result is compared with the source, described by its manifest, and published."""

import asyncio
from datetime import datetime
from typing import Any

import msgspec

from longshore.exports import table_files
from longshore.exports.catalog import fingerprint, shape
from longshore.exports.copy import CopyResult
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.increments import changes, keys
from longshore.exports.manifest import IndexEntry, Manifest, ManifestField, beside
from longshore.exports.pieces import ExportJob, WrittenResult
from longshore.exports.query import ExportQuery
from longshore.exports.segments import sql
from longshore.exports.signatures import SigningKey
from longshore.exports.totals import Totals
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.watermarks import Increment
from longshore.telemetry import tracing


class ResultName(msgspec.Struct, frozen=True):
    """The name and the place of an attempt's result."""

    attempt: Attempt
    name: str
    location: str
    previous: str | None
    """Hash of the manifest before."""
    key: SigningKey
    """The key that its manifest is signed with."""


async def published(naming: ResultName, job: ExportJob, result: WrittenResult) -> RunResult:
    """Complete a result, compare it with the source and publish it. Return the result of the run."""
    copied = await result.finish()
    manifest = _manifest(naming, job, copied)
    change_rows = job.changes
    if change_rows is not None:
        manifest = change_rows.described(manifest)
    totals = await job.reconciler.check(result.file.open, manifest)
    text = msgspec.structs.replace(manifest, totals=totals).encoded()
    signature = naming.key.sign(text)
    with tracing.span("publish"):
        files = beside(text, signature)
        await asyncio.get_running_loop().run_in_executor(result.thread, result.file.publish, files)
        # Last, as a list that no watermark names looks like one of a run that a restore has undone.
        if change_rows is not None:
            await change_rows.publish()
    return RunResult(
        result=naming.name,
        location=naming.location,
        total=copied.sent,
        success=copied.rows,
        size=copied.size,
        sha256=copied.sha256,
        snapshot_at=job.snapshot_at,
        manifest=text.decode(),
        signature=signature,
        skips=job.reconciler.skips,
        increment=_increment(job),
        note=None if change_rows is None else change_rows.note,
        column_types=msgspec.json.encode({column.name: column.declared_type for column in job.query.columns}).decode(),
        table_schema=table_files.schema_of(job.query),
        table_stats=[table_files.statistics(job.format.footer)] if job.query.request.target.share_as else [],
    )


def _increment(job: ExportJob) -> Increment | None:
    bounds, on_ack = job.query.bounds, job.query.request.target.incremental == "on_ack"
    if job.changes is not None:
        return Increment(job.changes.before, job.changes.watermark, on_ack)
    return None if bounds is None else Increment(bounds.start, bounds.end, on_ack)


def _manifest(naming: ResultName, job: ExportJob, copied: CopyResult) -> Manifest:
    """Return the manifest of a result, without control totals."""
    entry = index_entry(job.query, copied.rows, None)
    return Manifest(
        **of_run(naming, job.query, job.snapshot_at),
        rows=copied.rows,
        size=copied.size,
        file=naming.name,
        sha256=copied.sha256.hex(),
        index=entry.index,
        fields=entry.fields,
        schema=entry.schema,
        key=entry.key,
        segment=entry.segment,
    )


def of_run(naming: ResultName, query: ExportQuery, snapshot_at: datetime) -> dict[str, Any]:
    """Return the members of a manifest that say which run it is of. `query`: of any of its indexes."""
    attempt, target = naming.attempt, query.request.target
    return {
        "chain": attempt.chain,
        "task": attempt.message.task,
        "run": attempt.run,
        "due": attempt.due,
        "interval": attempt.interval,
        "format": target.export_format,
        "snapshot": snapshot_at,
        "previous": naming.previous,
        "csv": target.csv or CsvOptions(),
    }


def index_entry(query: ExportQuery, rows: int, totals: Totals | None) -> IndexEntry:
    """Return the description of the rows of one index."""
    request, columns = query.request, query.columns
    plain = columns if query.changes is None else changes.plain_columns(columns)
    key = keys.key_of(query.index, plain, request.target.export_format)
    return IndexEntry(
        index=request.target.export_index,
        rows=rows,
        fields=[ManifestField(column.name, column.field.type) for column in columns],
        schema=fingerprint(shape((column.name, column.field) for column in plain)),
        key=[column.name for column in key.columns] if key else [],
        segment=request.segment and sql.resolved(request.segment, request.interval),
        totals=totals,
    )
