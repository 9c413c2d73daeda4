"""Queries of the runs of a task: as a list, alone, their manifests, and what they have read. Each is one statement.

As in `queries`, the chain is part of every `where` (promise 5).
"""

from typing import Any

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page
from longshore.errors import NotFoundError
from longshore.tasks.model import ChainId, Interval, Run, RunField, RunIncrement, TaskId
from longshore.tasks.queries import status
from longshore.tasks.reads import Read, decoded
from longshore.tasks.result_queries import LATEST_RUN

# A watermark counts the transactions of the whole source, those of other chains too, so clients see a hash of it.
RUNS = """
select r.run, r.state, r.attempt - r.first_attempt + 1 as attempts, r.due_at as due, r.backfill,
       row(r.interval_start, r.interval_end) as interval,
       date_trunc('second', r.began_at) as began, date_trunc('second', r.ended_at) as ended,
       extract(epoch from r.ended_at - r.began_at)::float8 as seconds,
       r.rows, r.bytes, r.snapshot_at as snapshot, encode(r.sha256, 'hex') as sha256, r.result,
       r.summary, r.reads, case when r.state = 'ERROR' then r.reason end as reason,
       case when r.watermark_to is not null then row(
           left(encode(sha256(convert_to(r.watermark_from, 'UTF8')), 'hex'), 16),
           left(encode(sha256(convert_to(r.watermark_to, 'UTF8')), 'hex'), 16),
           r.acknowledged
       ) end as increment
from longshore.tasks t
join longshore.runs r on r.task_id = t.id
where t.id = $1 and t.chain_id = $2 and ($3::int is null or r.run = $3)
order by r.run desc
limit $4 offset $5
"""

MANIFEST = """
select r.manifest, r.reads
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

LAST_MANIFEST_HASH = """
select encode(sha256(convert_to(manifest, 'UTF8')), 'hex')
from longshore.runs
where task_id = $1 and manifest is not null
order by run desc
limit 1
"""

SIGNATURE = MANIFEST.replace("r.manifest", "r.signature")

# The manifest of many files may have megabytes, nearly all of them its `files`.
DESCRIBED = """
select case when r.expires_at is not null then r.location end as location, r.result, r.reads,
       (r.manifest::jsonb - 'files')::text as manifest,
       (
           select f.path from longshore.run_files f where f.task_id = t.id and f.run = r.run and f.number = 1
       ) as first_file
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

LATEST = f"""
select (select run from ({LATEST_RUN}) latest) as run
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""


class ManifestSummary(msgspec.Struct, frozen=True):
    """The parts of a manifest that a run shows."""

    fields: list[RunField] | None = None
    segment: msgspec.Raw = msgspec.Raw(b"null")  # its numbers keep their digits
    full: bool | None = None


class RunWithReads(msgspec.Struct, frozen=True):
    """A run, with its reads."""

    run: Run
    reads: list[Read]
    reason: str | None = None
    """Why it ended in ERROR; None in other states."""


class DescribedResult(msgspec.Struct, frozen=True):
    """The result of a run, as its manifest describes it."""

    location: str | None
    """None where it was removed, or there never was one."""
    result: str | None
    manifest: str | None
    """As JSON text, without `files`."""
    first_file: str | None
    """The path of the first file of many, relative to the manifest; None for a result of one file."""
    reads: list[Read]


async def runs(pool: Pool, chain: ChainId, task: TaskId, page: Page) -> tuple[list[RunWithReads], bool]:
    """Return a page of the runs of a task, newest first, and whether more follow. Raises NotFoundError."""
    found, more = await fetch_page(pool, _run, page, RUNS, task, chain, None)
    if not found:
        await status(pool, chain, task)
    return found, more


async def one_run(pool: Pool, chain: ChainId, task: TaskId, run: int) -> RunWithReads | None:
    """Return one run of a task, None if there is none. Raises NotFoundError."""
    if (row := await pool.fetchrow(RUNS, task, chain, run, 1, 0)) is not None:
        return _run(**row)
    await status(pool, chain, task)
    return None


async def described(pool: Pool, chain: ChainId, task: TaskId, run: int) -> DescribedResult:
    """Return the result of a run with its manifest. Raises NotFoundError."""
    row = await pool.fetchrow(DESCRIBED, task, chain, run)
    if row is None:
        raise NotFoundError("run-not-found", f"Task {task} has no run {run}.")
    return DescribedResult(**{**row, "reads": decoded(row["reads"])})


async def latest_run(pool: Pool | Connection, chain: ChainId, task: TaskId) -> int | None:
    """Return the number of the DONE run with the greatest end of its interval, None if there is none.

    Raises NotFoundError.
    """
    row = await pool.fetchrow(LATEST, task, chain)
    if row is None:
        raise NotFoundError("task-not-found")
    number: int | None = row["run"]
    return number


async def manifest(pool: Pool, chain: ChainId, task: TaskId, run: int) -> tuple[str | None, list[Read]]:
    """Return the manifest of a run, None if it has none, and the reads of the run. Raises NotFoundError."""
    return await _text(pool, MANIFEST, chain, task, run)


async def last_manifest_hash(pool: Pool, task: TaskId) -> str | None:
    """Return the SHA-256, hexadecimal, of the manifest of a task's newest run that has one; None if none has."""
    found: str | None = await pool.fetchval(LAST_MANIFEST_HASH, task)
    return found


async def signature(pool: Pool, chain: ChainId, task: TaskId, run: int) -> tuple[str | None, list[Read]]:
    """Return the signature of a run's manifest, None if it has none, and the reads of the run. Raises NotFoundError."""
    return await _text(pool, SIGNATURE, chain, task, run)


async def _text(pool: Pool, query: str, chain: ChainId, task: TaskId, run: int) -> tuple[str | None, list[Read]]:
    row = await pool.fetchrow(query, task, chain, run)
    if row is None:
        raise NotFoundError("task-not-found")
    text, reads = row
    return text, decoded(reads)


def _run(
    summary: str | None,
    reads: str | None,
    reason: str | None,
    interval: asyncpg.Record,
    increment: asyncpg.Record | None,
    **columns: Any,
) -> RunWithReads:
    written = msgspec.json.decode(summary or "{}", type=ManifestSummary)
    run = Run(
        interval=Interval(*interval),
        increment=None if increment is None else RunIncrement(*increment),
        fields=written.fields,
        segment=written.segment,
        full=written.full,
        **columns,
    )
    return RunWithReads(run, decoded(reads), reason)
