"""Tables: the results of tasks with `share_as`, each `DONE` run a version. Every statement has the chain (promise 5).

The version of a table is the number of the `DONE` run with the greatest end of its interval. A run whose result was
removed, or is no table, is no version: then there is none, rather than an older one that would pass for it.
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime

import asyncpg
import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import structs
from longshore.errors import ProblemError
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.reads import Read, decoded
from longshore.tasks.result_queries import LATEST_RUN

# $2: names after this one, in lower case.
TABLES = f"""
select t.id as task, t.target ->> 'share_as' as name, t.shared_as as key, t.created_at as created, r.reads
from longshore.tasks t
cross join lateral ({LATEST_RUN}) r
where t.chain_id = $1 and t.shared_as > $2 and r.table_schema is not null and r.expires_at is not null
order by t.shared_as
limit $3
"""

# $3: the number of a run, or null. $4: a moment that it was the version of, or null. Without both: the version now.
VERSION = """
select t.id as task, t.target ->> 'share_as' as name, t.created_at as created, t.description, r.run, r.reads,
       r.table_schema as schema, r.ended_at as ended, r.location, r.rows, r.bytes as size,
       (r.summary ->> 'files')::int as files
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.state = 'DONE' and r.run = coalesce($3::bigint, (
    -- From the index alone: of a moment long ago, all newer runs are passed over.
    select run
    from longshore.runs
    where task_id = t.id and state = 'DONE' and ($4::timestamptz is null or ended_at <= $4)
    order by interval_end desc, run desc
    limit 1
))
where t.chain_id = $1 and t.shared_as = $2 and r.table_schema is not null and r.expires_at is not null
"""

# $3: a moment. A run that ended after one of a later interval never was the version. This passes once over the runs of
# the task, in the index alone: a condition that compares each run with all others takes seconds for a task of 10,000.
FIRST_VERSION_FROM = """
with ended as (
    select n.task_id, n.run, n.ended_at,
           n.interval_end = max(n.interval_end) over (order by n.ended_at, n.run) as is_version
    from longshore.runs n
    where n.state = 'DONE' and n.task_id = (select id from longshore.tasks where chain_id = $1 and shared_as = $2)
)
select r.run
from ended
join longshore.runs r on r.task_id = ended.task_id and r.run = ended.run
where ended.is_version and ended.ended_at >= $3 and r.table_schema is not null and r.expires_at is not null
order by ended.ended_at, ended.run
limit 1
"""

# A result of one file is the only one itself. $3, $4: offset and limit.
FILES = """
select number, path, rows, bytes as size, sha256, table_stats as stats
from longshore.run_files
where task_id = $1 and run = $2 and number > $3::bigint and number <= $3::bigint + $4::bigint
union all
select 1, r.result, r.rows, r.bytes, r.sha256, r.table_stats
from longshore.runs r
where r.task_id = $1 and r.run = $2 and r.summary ->> 'files' is null and $3 = 0
order by number
"""


class Table(msgspec.Struct, frozen=True):
    """A table of a chain that has a version."""

    task: TaskId
    name: str
    key: str
    """The name in lower case."""
    created: datetime
    reads: list[Read]
    """Of the run that is its version."""


class TableVersion(msgspec.Struct, frozen=True):
    """A version of a table."""

    task: TaskId
    name: str
    created: datetime
    """When the task was created."""
    description: str
    run: int
    reads: list[Read]
    schema: str
    """JSON text of Delta Lake."""
    ended: datetime
    location: str
    rows: int
    size: int
    """Bytes."""
    files: int | None
    """None: the result is one file."""


class TableFile(msgspec.Struct, frozen=True):
    """A file of a version."""

    number: int
    path: str
    """Relative to the folder of the result."""
    rows: int
    size: int
    """Bytes."""
    sha256: bytes
    stats: str | None
    """JSON text of Delta Lake; None where the run began before the table was shared."""


@contextlib.contextmanager
def refuse_taken_name() -> Iterator[None]:
    """Raise ProblemError where a statement gives a task the name of another task's table."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "tasks_shared":
            raise
        raise ProblemError("share-name-taken") from None


async def tables(pool: Pool, chain: ChainId, after: str, limit: int) -> list[Table]:
    """Return the tables of a chain whose names, in lower case, come after a text, in their order."""
    rows = await pool.fetch(TABLES, chain, after, limit)
    return [Table(**{**row, "reads": decoded(row["reads"])}) for row in rows]


async def version(
    pool: Pool, chain: ChainId, name: str, run: int | None = None, moment: datetime | None = None
) -> TableVersion | None:
    """Return a version of a table: of a number, of a moment, or that of now; None where there is none."""
    row = await pool.fetchrow(VERSION, chain, name.lower(), run, moment)
    return None if row is None else TableVersion(**{**row, "reads": decoded(row["reads"])})


async def first_version_from(pool: Pool, chain: ChainId, name: str, moment: datetime) -> int | None:
    """Return the number of the earliest version that ended at a moment or later; None where there is none."""
    found: int | None = await pool.fetchval(FIRST_VERSION_FROM, chain, name.lower(), moment)
    return found


async def files(pool: Pool, task: TaskId, run: int, offset: int, limit: int) -> list[TableFile]:
    """Return a page of the files of a run, in the order of its manifest."""
    return structs(TableFile, await pool.fetch(FILES, task, run, offset, limit))
