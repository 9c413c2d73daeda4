"""Queries of the results of runs: where their files are stored, and what the runs have read. Each is one statement.

As in `queries`, the chain is part of every `where` (promise 5), except by location, where a signature is the right.
"""

import re

import asyncpg
import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import Page
from longshore.errors import NotFoundError
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.reads import Read, decoded

LATEST_RUN = """
select *
from longshore.runs
where task_id = t.id and state = 'DONE'
order by interval_end desc, run desc
limit 1
"""
"""The run that `latest` names, of the task `t` of a statement: of equal intervals the later one."""

OF_TASK = f"""
select t.id as task, t.state, t.action, r.reads, r.run, r.location, r.result
from longshore.tasks t
left join lateral ({LATEST_RUN}) r on true
where t.id = $1 and t.chain_id = $2
"""

# A run that is being delivered, or could not be, has its result.
OF_RUN_COLUMNS = """
t.id as task, case when r.result is not null then 'DONE' else r.state end as state, t.action, r.reads, r.run, r.result
"""

OF_RUN = f"""
select {OF_RUN_COLUMNS}, r.location
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

# $4, $5: offset and limit. A result of one file is the only one itself.
FILES = f"""
select {OF_RUN_COLUMNS}, case when r.expires_at is not null then r.location end as location,
       array(
           select json_build_object('path', path, 'index', index, 'partition', partition, 'rows', rows, 'bytes', bytes,
                                    'sha256', encode(sha256, 'hex'))::text
           from (
               select number, path, index, partition, rows, bytes, sha256
               from longshore.run_files
               where task_id = r.task_id and run = r.run
               union all
               select 1, r.result, coalesce(r.summary ->> 'index', ''), '{{}}', r.rows, r.bytes, r.sha256
               where r.summary ->> 'files' is null
           ) files
           where number > $4 and number <= $4::bigint + $5
           order by number
       ) as files
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

AT_LOCATION = """
select t.chain_id as chain, r.task_id as task, r.run, r.result as name, r.rows, r.sha256
from longshore.runs r
join longshore.tasks t on t.id = r.task_id
where r.location = $1
"""

# $1: the folder of an attempt, $2: the path of one of its files. '0' is the character after '/'.
IN_FOLDER = """
select t.chain_id as chain, r.task_id as task, r.run, regexp_replace(f.path, '^.*/', '') as name, f.rows, f.sha256
from longshore.runs r
join longshore.tasks t on t.id = r.task_id
join longshore.run_files f on f.task_id = r.task_id and f.run = r.run and f.path = $2
where r.location > $1::text || '/' and r.location < $1::text || '0'
"""

LOCATION = re.compile(r"([0-9]{1,18}/[0-9]{1,18}/[0-9]{1,9})/(.+)")


class StoredResult(msgspec.Struct, frozen=True):
    """The result of a run, if it has one."""

    task: TaskId
    state: str
    """Of the task, where its latest run was asked for; else of the run: `DONE` once it has a result."""
    action: str
    reads: list[Read]
    run: int | None
    """None: no run of the task is DONE."""
    location: str | None
    """None where it was removed, or there never was one."""
    result: str | None
    """The name of the file, or of the manifest of many files."""


class StoredFile(msgspec.Struct, frozen=True):
    """A file of a run that can be downloaded."""

    chain: int
    task: int
    run: int
    name: str
    rows: int
    sha256: bytes


async def of_task(pool: Pool, chain: ChainId, task: TaskId) -> StoredResult:
    """Return the result of a task's latest run. Raises NotFoundError."""
    row = await pool.fetchrow(OF_TASK, task, chain)
    if row is None:
        raise NotFoundError("task-not-found")
    return _result(row)


async def of_run(pool: Pool, chain: ChainId, task: TaskId, run: int) -> StoredResult:
    """Return the result of a run. Raises NotFoundError."""
    return _of_run(await pool.fetchrow(OF_RUN, task, chain, run), task, run)


async def files(pool: Pool, chain: ChainId, task: TaskId, run: int, page: Page) -> tuple[StoredResult, list[str], bool]:
    """Return the result of a run, a page of its files as JSON texts, and whether more follow. Raises NotFoundError."""
    row = await pool.fetchrow(FILES, task, chain, run, page.offset, page.limit + 1)
    listed = row["files"] if row else []
    return _of_run(row, task, run), listed[: page.limit], len(listed) > page.limit


async def at_location(pool: Pool, location: str) -> StoredFile | None:
    """Return the file at a location; None where no run names it."""
    row = await pool.fetchrow(AT_LOCATION, location)
    if row is None and (match := LOCATION.fullmatch(location)):
        row = await pool.fetchrow(IN_FOLDER, match[1], match[2])
    return None if row is None else StoredFile(**row)


def _of_run(row: asyncpg.Record | None, task: TaskId, run: int) -> StoredResult:
    if row is None:
        raise NotFoundError("task-not-found")
    if row["state"] is None:
        raise NotFoundError("run-not-found", f"Task {task} has no run {run}.")
    return _result(row)


def _result(row: asyncpg.Record) -> StoredResult:
    columns = {name: row[name] for name in StoredResult.__struct_fields__}
    return StoredResult(**{**columns, "reads": decoded(row["reads"])})
