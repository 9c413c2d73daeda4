"""Backfills: runs of a schedule's past times that a client asks for.

The times are fixed when the backfill is created. Its runs begin oldest first and one at a time, whenever the task has
nothing else to do: the scheduler parks the next one, and `attempts.begin` counts it in the statement that begins it, so
that each time has exactly one run whatever happens to workers. A run in ERROR does not stop the backfill.
"""

import asyncio
from datetime import datetime
from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from longshore.database.connect import Connection, Pool
from longshore.database.retry import isolated
from longshore.database.rows import Page, fetch_page
from longshore.errors import ProblemError
from longshore.tasks.conditions import RUN_QUEUED
from longshore.tasks.model import Backfill, ChainId, CredentialName, Interval, NewBackfill, TaskId
from longshore.tasks.schedule import Schedule, preceding, times, utc_text
from longshore.tasks.slots import fill_slots
from longshore.tasks.withdrawal import WITHDRAW
from longshore.validation import ValidationError, Violation

MAX_RUNS = 1000
MAX_UNFINISHED = 10  # backfills of a task
BATCH_SIZE = 500  # tasks whose backfills are looked at in one step of the scheduler
MAX_ENDED_BACKFILLS = 100  # newest backfills of a task; of older ones, those that have ended are removed

# The oldest run of a time is the schedule's own.
RECORDED = """
select distinct on (interval_end) interval_end, interval_start
from longshore.runs
where task_id = $1 and due_at = any($2::timestamptz[])
order by interval_end, run
"""

UNFINISHED = "b.ended_at is null and b.begun < cardinality(b.times)"

# $2, $3: the range. $4, $5: ends and starts of the intervals. $7: the log entry without the number.
CREATE = f"""
with newest as (
    select coalesce(max(backfill), 0) as number,
           count(*) filter (where {UNFINISHED}) as unfinished
    from longshore.backfills b
    where b.task_id = $1
),
created as (
    insert into longshore.backfills (task_id, backfill, range_start, range_end, times, starts, created_by)
    select $1, number + 1, $2, $3, $4, $5, $6 from newest where unfinished < {MAX_UNFINISHED}
    returning backfill
),
removed as (
    delete from longshore.backfills b using newest
    where b.task_id = $1 and b.backfill <= newest.number - {MAX_ENDED_BACKFILLS} and not ({UNFINISHED})
),
task as (
    update longshore.tasks t
    set backfill = coalesce(t.backfill, created.backfill),
        modified_at = greatest(t.modified_at, now()), revision = t.revision + 1, log_length = t.log_length + 1
    from created
    where t.id = $1
    returning t.id, t.log_length, t.modified_at, created.backfill as number
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select id, log_length - 1, modified_at, 'backfill ' || number || $7::text from task
)
select number from task
"""

# $3: the backfill; null: all of them.
WITHDRAW_BACKFILL = f"{WITHDRAW} and t.origin = 'backfill' and ($3::integer is null or t.backfill = $3)"

# $2: the backfill; null: all of them. A run that has begun goes on.
END_BACKFILLS = f"""
with ended as (
    update longshore.backfills b
    set ended_at = now()
    where b.task_id = $1 and ($2::integer is null or b.backfill = $2) and {UNFINISHED}
    returning backfill
),
before as (
    select *, greatest(modified_at, now()) as at from longshore.tasks where id = $1 and exists (select from ended)
),
task as (
    update longshore.tasks t
    set backfill = (
            select min(b.backfill) from longshore.backfills b
            where b.task_id = $1 and {UNFINISHED} and b.backfill not in (select backfill from ended)
        ),
        modified_at = before.at, revision = before.revision + 1,
        log_length = before.log_length + (select count(*) from ended)
    from before
    where t.id = before.id
)
insert into longshore.task_logs (task_id, seq, at, msg)
select before.id, before.log_length + row_number() over (order by ended.backfill) - 1, before.at,
       'backfill ' || ended.backfill || ' is ended by ' || $3::text
from before, ended
returning task_id
"""

LIST = f"""
select b.backfill as id,
       case when {UNFINISHED} or count(*) filter (where r.state = 'INPROGRESS') > 0 then 'INPROGRESS'
            when b.ended_at is null then 'DONE' else 'CANCELLED' end as state,
       date_trunc('second', b.range_start) as start, date_trunc('second', b.range_end) as "end",
       cardinality(b.times) as runs,
       count(*) filter (where r.state = 'DONE') as done, count(*) filter (where r.state = 'ERROR') as failed,
       case when {UNFINISHED} then cardinality(b.times) - b.begun else 0 end as left,
       case when {UNFINISHED} then b.times[b.begun + 1] end as next,
       date_trunc('second', b.created_at) as created, b.created_by, date_trunc('second', b.ended_at) as ended
from longshore.backfills b
join longshore.tasks t on t.id = b.task_id and t.chain_id = $2
left join longshore.runs r on r.task_id = b.task_id and r.backfill = b.backfill
where b.task_id = $1
group by b.task_id, b.backfill
order by b.backfill desc
limit $3 offset $4
"""

EXISTS = "select from longshore.backfills where task_id = $1 and backfill = $2"

# A task that has nothing else to do. A time of the schedule that is due goes first.
IDLE = """t.backfill is not null and not t.paused and t.state <> 'INPROGRESS'
  and case when t.due_at is null then t.attempt_began_at is not null else t.due_at > now() end"""

# A queued run of a backfill, where a time of the schedule has become due meanwhile.
SCHEDULE_IS_DUE = f"t.next_due_at <= now() and not t.paused and t.origin = 'backfill' and {RUN_QUEUED}"

# At random, so that those whose run cannot be queued keep no other waiting for long.
WAITING = f"""
select id, chain_id
from (
    select t.id, t.chain_id
    from longshore.tasks t
    where {IDLE}
    union all
    select t.id, t.chain_id
    from longshore.tasks t
    where {SCHEDULE_IS_DUE}
) waiting
order by random()
limit $1
"""

# In a statement of its own, so that the snapshots of those after it show the backfills of the task as they are.
LOCK = "select from longshore.tasks where id = $1 for update"

WITHDRAW_OVERTAKEN = f"{WITHDRAW} and {SCHEDULE_IS_DUE}"

CHOOSE_NEXT = f"""
update longshore.tasks t
set backfill = (select min(b.backfill) from longshore.backfills b where b.task_id = t.id and {UNFINISHED})
where t.id = $1 and {IDLE}
"""

PARK = f"""
update longshore.tasks t
set next_due_at = t.due_at, due_at = null, attempt = t.attempt + 1, attempt_began_at = null, parked = true,
    waits_since = now(), origin = 'backfill',
    interval_start = b.starts[b.begun + 1], interval_end = b.times[b.begun + 1],
    asked_by = b.created_by, traceparent = null
from longshore.backfills b
where t.id = $1 and b.task_id = t.id and b.backfill = t.backfill and {IDLE}
"""


ABOUT_START = "The times of the schedule after this one are run, also those before `once`."
ABOUT_END = "The last time that is run, if it is one of the schedule. Times that have not come are left out."


class BackfillRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /tasks/{id}/backfill`: a range of 1,000 times of the schedule at most."""

    start: Annotated[datetime, Meta(description=ABOUT_START, examples=["2026-05-01T00:00:00Z"])]
    end: Annotated[datetime, Meta(description=ABOUT_END, examples=["2026-05-26T00:00:00Z"])]


async def create(
    connection: Connection, task: TaskId, schedule: Schedule, wanted: BackfillRange, by: CredentialName
) -> NewBackfill:
    """Create a backfill in the connection's transaction, in which the caller has locked the task.

    Raises ValidationError if the range has no time that has come or too many of them, and ProblemError if the task has
    too many unfinished backfills.
    """
    now = await connection.fetchval("select now()")
    # In a thread, as a thousand times take longer than a request may hold the event loop.
    until = min(wanted.end, now)
    try:
        intervals = await asyncio.to_thread(calendar_intervals, schedule, wanted.start, until, MAX_RUNS + 1)
    except Exception as error:  # stored by another version, or where another tzdata is installed
        raise ProblemError("no-schedule", f"The times of the schedule cannot be computed: {error}.") from error
    if not intervals:
        raise ValidationError([Violation("the schedule has no time in this range that has come", "/end")])
    if len(intervals) > MAX_RUNS:
        last = utc_text(intervals[MAX_RUNS - 1].end)
        expected = f"expected {MAX_RUNS:,} times of the schedule at most, the last of which is {last}"
        raise ValidationError([Violation(expected, "/end")])
    ends = [each.end for each in intervals]
    recorded = {row["interval_end"]: row["interval_start"] for row in await connection.fetch(RECORDED, task, ends)}
    starts = [recorded.get(each.end, each.start) for each in intervals]
    entry = f" of {len(ends)} runs requested by {by}"
    number = await connection.fetchval(CREATE, task, wanted.start, wanted.end, ends, starts, by, entry)
    if number is None:
        raise ProblemError("too-many-backfills")
    return NewBackfill(number, len(ends))


def calendar_intervals(schedule: Schedule, start: datetime, end: datetime, count: int) -> list[Interval]:
    """Return the intervals of a schedule's times after `start` and up to `end`, `count` at most, also before `once`."""
    found: list[Interval] = []
    before = None
    for time in islice(times(schedule, start, bounded=False), count):
        if time > end:
            break
        found.append(Interval(before if found else preceding(schedule, time), time))
        before = time
    return found


async def end(connection: Connection, chain: ChainId, task: TaskId, backfill: int | None, by: CredentialName) -> bool:
    """End a backfill, or all of a task, in the connection's transaction; a run that has begun finishes.

    The caller has locked the task. Returns False if there was none to end.
    """
    await connection.execute(WITHDRAW_BACKFILL, task, None, backfill)
    if await connection.fetchval(END_BACKFILLS, task, backfill, by) is None:
        return False
    await fill_slots(connection, chain)
    return True


async def exists(connection: Connection, task: TaskId, backfill: int) -> bool:
    """Return whether a task has a backfill of this number."""
    return await connection.fetchrow(EXISTS, task, backfill) is not None


async def of_task(pool: Pool, chain: ChainId, task: TaskId, page: Page) -> tuple[list[Backfill], bool]:
    """Return a page of a task's backfills, newest first, and whether more follow."""
    return await fetch_page(pool, Backfill, page, LIST, task, chain)


async def send_next(pool: Pool) -> None:
    """Queue the next run of the backfill of each task that has nothing else to do; return others to their schedule.

    An error of one task is logged; a transient error of the database is raised.
    """
    for row in await pool.fetch(WAITING, BATCH_SIZE):
        with isolated("run of a backfill not queued", task=row["id"]):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(LOCK, row["id"])
                await connection.execute(WITHDRAW_OVERTAKEN, row["id"], None)
                await connection.execute(CHOOSE_NEXT, row["id"])
                await connection.execute(PARK, row["id"])
                await fill_slots(connection, ChainId(row["chain_id"]))
