"""The next run of a schedule: planned in the transaction that ends the run before it."""

from datetime import datetime

import msgspec

from longshore.database.connect import Connection
from longshore.tasks import schedule
from longshore.tasks.attempts import storable
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.slots import fill_slots

# The next run has a trace of its own: with one for all of them it would have no end.
PLAN_NEXT = """
update longshore.tasks
set attempt = attempt + 1, attempt_began_at = null, due_at = $2, asked_by = null,
    traceparent = null, follows = coalesce(follows, traceparent)
where id = $1
"""

# $2: the log entry.
END_SCHEDULE = """
with task as (
    update longshore.tasks
    set schedule_ended = true, paused = false, revision = revision + 1, log_length = log_length + 1
    where id = $1
    returning id, log_length, modified_at
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, $2 from task
"""

ENDED_COLUMNS = "id as task, chain_id as chain, trigger, schedule_cursor, schedule_ended, action"
"""The columns of a task that make an EndedRun."""


class EndedRun(msgspec.Struct, frozen=True):
    """A run that has ended, with the schedule of its task."""

    task: TaskId
    chain: ChainId
    trigger: str
    schedule_cursor: datetime
    schedule_ended: bool
    action: str


async def plan_next_run(connection: Connection, ended: EndedRun) -> None:
    """Set when a task whose run has ended is due again, and give the chain's slot to the next task."""
    if not ended.schedule_ended:
        try:
            due = schedule.following(schedule.decode(ended.trigger), ended.schedule_cursor)
        except Exception as error:  # an invalid trigger ends the schedule; the end of the run stands
            await connection.execute(
                END_SCHEDULE, ended.task, storable(f"the schedule has ended: {schedule.uncomputable(error)}")
            )
        else:
            if due is not None:
                await connection.execute(PLAN_NEXT, ended.task, due)
    await fill_slots(connection, ended.chain)
