"""Pause and resume of a schedule, with their log entries.

A paused task keeps its due time; the scheduler passes it over until the task is resumed. Runs that a client asks for
with `execute` belong to no schedule and run as usual. Backfills pause with their task.
"""

from typing import Literal

import msgspec

from longshore.database.connect import Connection
from longshore.errors import ProblemError
from longshore.tasks.model import ChainId, CredentialName, TaskId
from longshore.tasks.requests import EditableTask
from longshore.tasks.schedule import Schedule, decode, following
from longshore.tasks.slots import fill_slots
from longshore.tasks.withdrawal import WITHDRAW

CatchUp = Literal["one", "none", "all"]

PAUSE = """
with task as (
    update longshore.tasks
    set paused = true, modified_at = greatest(modified_at, now()), revision = revision + 1, log_length = log_length + 1
    where id = $1 and not paused
    returning id, log_length, modified_at
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, $2 from task
returning task_id
"""

# $2: the first time after the schedule's newest run; null if it cannot be computed. A queued run may stand for several
# times, each of which `resume` may give a run of its own.
WITHDRAW_PLANNED = f"{WITHDRAW} and t.origin <> 'execute'"

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


async def pause(connection: Connection, chain: ChainId, task: TaskId, locked: EditableTask, by: CredentialName) -> bool:
    """Pause the schedule of a task, in the connection's transaction; return False if it is paused already.

    A run that has begun goes on. `locked`: the task, which the caller has locked. Raises ProblemError if the task has
    no schedule.
    """
    schedule = schedule_of(locked)
    try:
        due = following(schedule, locked.schedule_cursor)
    except Exception:  # stored by another version, or where another tzdata is installed
        due = None
    if await connection.fetchval(PAUSE, task, f"paused by {by}") is None:
        return False
    await connection.execute(WITHDRAW_PLANNED, task, due)
    await fill_slots(connection, chain)
    return True


async def resume(
    connection: Connection, task: TaskId, locked: EditableTask, by: CredentialName, catch_up: CatchUp | None
) -> bool:
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
