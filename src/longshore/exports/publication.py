"""The end of an export: the result is compared with the source, described by its manifest, and published."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from longshore.exports import delta_schema
from longshore.exports.catalog import fingerprint, shape
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.increments import change_query, keys
from longshore.exports.job import ExportJob, IndexJob, WrittenResult
from longshore.exports.manifest import FilesManifest, IndexEntry, Manifest, ManifestField, is_files
from longshore.exports.segments import sql
from longshore.exports.written_rows import WrittenRows
from longshore.tasks.attempts import RunResult
from longshore.tasks.watermarks import Increment
from longshore.telemetry import tracing


async def publish_result(job: ExportJob, result: WrittenResult) -> RunResult:
    """Complete a result, compare it with the source and publish it. Return the result of the run."""
    done = await result.finish()
    manifest = await asyncio.to_thread(_manifest, job, done)
    text = manifest.encoded()
    signature = job.planned.key.sign(text)
    with tracing.span("publish"):
        await result.publish(text, signature)
        # Last, as a list that no watermark names looks like one of a run that a restore has undone.
        if job.changes is not None:
            await job.changes.publish()
    query, has_files = job.indexes[0].query, isinstance(manifest, FilesManifest)
    types = {column.name: column.declared_type for column in query.columns}
    return RunResult(
        result=job.planned.name,
        location=job.planned.location,
        total=sum(index.sent for index in done),
        success=manifest.rows,
        size=manifest.size,
        sha256=hashlib.sha256(text).digest() if has_files else done[0].sha256,
        snapshot_at=job.snapshot_at,
        manifest=text.decode(),
        signature=signature,
        skips=sum(index.reconciler.skips for index in job.indexes),
        increment=_increment(job),
        note=None if job.changes is None else job.changes.note,
        column_types=None if has_files else msgspec.json.encode(types).decode(),
        table_schema=delta_schema.schema_of(query),
        table_stats=done[0].stats,
    )


def _increment(job: ExportJob) -> Increment | None:
    query = job.indexes[0].query
    on_ack = query.request.target.incremental == "on_ack"
    if job.changes is not None:
        return Increment(job.changes.task_watermark, job.changes.watermark, on_ack)
    return None if query.bounds is None else Increment(query.request.start, query.bounds.end, on_ack)


def _manifest(job: ExportJob, done: Sequence[WrittenRows]) -> Manifest | FilesManifest:
    """Return the manifest of a result. Raises LongshoreError where the source has other control totals."""
    attempt, target = job.planned.attempt, job.indexes[0].query.request.target
    entries = [_entry(*each) for each in zip(job.indexes, done, strict=True)]
    of_run: dict[str, Any] = {
        "rows": sum(index.rows for index in done),
        "size": sum(index.size for index in done),
        "chain": attempt.chain,
        "task": attempt.message.task,
        "run": attempt.run,
        "due": attempt.due,
        "interval": attempt.interval,
        "format": target.export_format,
        "snapshot": job.snapshot_at,
        "previous": job.planned.previous,
        "csv": target.csv or CsvOptions(),
    }
    if is_files(job.planned.name):
        return FilesManifest(**of_run, indexes=entries, files=[file for index in done for file in index.files])
    of_file = {"file": job.planned.name, "sha256": done[0].sha256.hex()}
    manifest = Manifest(**{**of_run, **of_file, **msgspec.structs.asdict(entries[0])})
    return manifest if job.changes is None else job.changes.described(manifest)


def _entry(job: IndexJob, done: WrittenRows) -> IndexEntry:
    """Return the description of the rows of one index. Raises LongshoreError where the source has other totals."""
    query, request = job.query, job.query.request
    plain = query.columns if query.changes is None else change_query.plain_columns(query.columns)
    key = keys.key_of(query.index, plain, request.target.export_format)
    return IndexEntry(
        index=request.target.export_index,
        rows=done.rows,
        fields=[ManifestField(column.name, column.field.type) for column in query.columns],
        schema=fingerprint(shape((column.name, column.field) for column in plain)),
        key=[column.name for column in key.columns] if key else [],
        segment=request.segment and sql.resolved(request.segment, request.interval),
        totals=job.reconciler.check(done.sums),
    )
