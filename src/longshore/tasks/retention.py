"""Retention: the results and tasks whose time is over, and the statements that forget and delete them."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import structs
from longshore.tasks.conditions import SETTLED
from longshore.tasks.model import ChainId, TaskId

# A task whose newest result is kept for as long as it is shared as a table.
SHARED = "(shared_as is not null and target -> 'result_days' is null)"

# $3: seconds for which addresses of a table's files are valid. Its version of so long ago is kept too.
EXPIRED = f"""
select task_id as task, run, location
from longshore.runs r
where expires_at <= now() and not exists (
    select from longshore.run_deliveries d where d.task_id = r.task_id and d.run = r.run and d.state = 'pending'
)
and not exists (
    select
    from longshore.tasks t, (values (now()), (now() - $3 * interval '1 second')) as moments (at)
    where t.id = r.task_id and r.table_schema is not null and {SHARED} and r.run = (
        select n.run
        from longshore.runs n
        where n.task_id = t.id and n.state = 'DONE' and n.ended_at <= moments.at
        order by n.interval_end desc, n.run desc
        limit 1
    )
)
order by expires_at, task_id, run
limit $1 offset $2
"""

FORGET_RESULT = """
with files as (delete from longshore.run_files where task_id = $1 and run = $2)
update longshore.runs set expires_at = null where task_id = $1 and run = $2
"""

IS_OLD = f"""
{SETTLED} and t.modified_at < now() - $1::interval and t.chain_id <> 0
and not ({SHARED} and exists (
    select from longshore.runs r where r.task_id = t.id and r.table_schema is not null and r.expires_at is not null
))
"""

OLD_TASKS = f"""
select id, chain_id as chain from longshore.tasks t where {IS_OLD} order by modified_at, id limit $2 offset $3
"""

DELETE = f"delete from longshore.tasks t where id = $2 and {IS_OLD} returning id"

# Files that are in use: those of a result, those that the newest attempt of a task writes, and key lists, of
# which the task's next attempt removes what no watermark names. $3: the prefixes of their locations, which end in '/';
# '0' is the next character, so that each is a range of the index of locations.
IN_USE = """
select files.number
from unnest($1::bigint[], $2::bigint[], $3::text[]) with ordinality as files (task, attempt, prefix, number)
join longshore.tasks t on t.id = files.task
where files.attempt is null
   or (t.state = 'INPROGRESS' and t.attempt = files.attempt)
   or exists (
       select from longshore.runs r
       where r.location >= files.prefix collate "C" and r.location < (left(files.prefix, -1) || '0') collate "C"
   )
"""


class ExpiredResult(msgspec.Struct, frozen=True):
    """A result that is no longer kept."""

    task: TaskId
    run: int
    location: str


class StoredFiles(msgspec.Struct, frozen=True):
    """Files of a task in a store: those of one attempt, or its key lists."""

    task: TaskId
    attempt: int | None
    """The attempt that wrote them; None for key lists."""
    prefix: str
    """Of their locations, with a slash at the end."""


class OldTask(msgspec.Struct, frozen=True):
    """A task that is no longer kept."""

    id: TaskId
    chain: ChainId


async def expired_results(pool: Pool, address_seconds: float, limit: int, skipped: int) -> list[ExpiredResult]:
    """Return expired results, oldest first, after so many skipped ones.

    `address_seconds`: for how long the address of a file is valid after it was given out.
    """
    return structs(ExpiredResult, await pool.fetch(EXPIRED, limit, skipped, address_seconds))


async def forget_result(pool: Pool, result: ExpiredResult) -> None:
    """Record that the files of a result are removed."""
    await pool.execute(FORGET_RESULT, result.task, result.run)


async def old_tasks(pool: Pool, age: timedelta, limit: int, skipped: int) -> list[OldTask]:
    """Return tasks that ended and last changed longer ago than `age`, oldest first, after so many skipped ones."""
    return structs(OldTask, await pool.fetch(OLD_TASKS, age, limit, skipped))


async def delete_old(pool: Pool, age: timedelta, task: OldTask) -> bool:
    """Delete a task if it is still old; return whether it was."""
    return await pool.fetchval(DELETE, age, task.id) is not None


async def files_in_use(pool: Pool, files: Sequence[StoredFiles]) -> set[StoredFiles]:
    """Return those of the files in a store that a task needs."""
    tasks, attempts = [each.task for each in files], [each.attempt for each in files]
    rows = await pool.fetch(IN_USE, tasks, attempts, [each.prefix for each in files])
    return {files[row["number"] - 1] for row in rows}
