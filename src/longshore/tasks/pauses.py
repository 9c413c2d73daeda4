"""Pause and resume of a schedule. Each is one statement, with its log entry.

A paused task keeps its due time; the scheduler passes it over until the task is resumed. Runs that a client asks for
with `execute` belong to no schedule and run as usual. Backfills pause with their task.
"""

from typing import Literal

import msgspec

from longshore.database.connect import Connection
from longshore.errors import ProblemError
from longshore.tasks.conditions import RUN_QUEUED
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.requests import EditableTask
from longshore.tasks.schedule import Schedule, decode, following
from longshore.tasks.slots import fill_slots

CatchUp = Literal["one", "none", "all"]

# A queued run of the schedule is due again, and one of a backfill waits; its message finds itself outdated.
# $3: the first time after the schedule's newest run; null if it cannot be computed. A queued run may stand for several
# times, each of which `resume` may give a run of its own.
PAUSE = f"""
with before as (
    select *, greatest(modified_at, now()) as at,
           {RUN_QUEUED} and t.origin <> 'execute' as withdrawn
    from longshore.tasks t
    where t.id = $1 and not t.paused
),
task as (
    update longshore.tasks t
    set paused = true,
        due_at = case when not before.withdrawn then before.due_at
                      when before.origin = 'schedule' then least($3, before.interval_end)
                      else before.next_due_at end,
        next_due_at = null,
        parked = before.parked and not before.withdrawn,
        attempt = before.attempt + before.withdrawn::int,
        asked_by = case when not before.withdrawn then before.asked_by end,
        attempt_began_at = case when before.withdrawn and before.origin = 'backfill' and before.next_due_at is null
                                then before.at else before.attempt_began_at end,
        modified_at = before.at, revision = before.revision + 1, log_length = before.log_length + 1
    from before
    where t.id = before.id
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length, at, $2 from before
returning task_id
"""

RESUME = """
with task as (
    update longshore.tasks
    set paused = false, resumed_at = now(), resume_catch_up = $3,
        modified_at = greatest(modified_at, now()), revision = revision + 1, log_length = log_length + 1
    where id = $1 and paused
    returning id, log_length, modified_at
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, $2 from task
returning task_id
"""


async def pause(connection: Connection, chain: ChainId, task: TaskId, locked: EditableTask, by: str) -> bool:
    """Pause the schedule of a task, in the connection's transaction; return False if it is paused already.

    A run that has begun goes on. `locked`: the task, which the caller has locked. Raises ProblemError if the task has
    no schedule.
    """
    schedule = schedule_of(locked)
    try:
        due = following(schedule, locked.schedule_cursor)
    except Exception:  # stored by another version, or where another tzdata is installed
        due = None
    if await connection.fetchval(PAUSE, task, f"paused by {by}", due) is None:
        return False
    await fill_slots(connection, chain)
    return True


async def resume(connection: Connection, task: TaskId, locked: EditableTask, by: str, catch_up: CatchUp | None) -> bool:
    """Resume the schedule of a task, in the connection's transaction; return False if it is not paused.

    `locked`: as for `pause`. `catch_up`: the treatment of the runs missed until now; None for the trigger's. Raises
    ProblemError if the task has no schedule.
    """
    schedule_of(locked)
    entry = f"resumed by {by}, catch_up {catch_up}" if catch_up else f"resumed by {by}"
    return await connection.fetchval(RESUME, task, entry, catch_up) is not None


def schedule_of(task: EditableTask) -> Schedule:
    """Return the schedule of a task; raise ProblemError if its trigger does not repeat, or has ended for good."""
    try:
        schedule = decode(task.trigger)
    except msgspec.MsgspecError:
        raise ProblemError("no-schedule") from None
    if task.schedule_ended or not schedule.repeats:
        raise ProblemError("no-schedule")
    return schedule
