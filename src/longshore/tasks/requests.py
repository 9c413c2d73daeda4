"""Changes and deletion of a task between its runs. Each is one statement, with its log entry."""

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks import reads as read
from longshore.tasks.attempts import NEVER_DUE, NewTask
from longshore.tasks.model import ChainId, Code, TaskId
from longshore.tasks.recorded_reads import Read, decoded
from longshore.tasks.schedule import first
from longshore.tasks.slots import admit
from longshore.telemetry import tracing
from longshore.validation import ValidationError

WHOLE = """
select description as desc, trigger, target, debug, revision, schedule_ended, defined_by, reads
from longshore.tasks
where id = $1 and chain_id = $2
"""

# A new time makes a new attempt, so the message of the old one becomes stale. `$9` is null if no time has changed.
CHANGE = """
with before as (
    select *, greatest(modified_at, now()) as at, $9::timestamptz is not null as planned
    from longshore.tasks
    where id = $1 and chain_id = $2 and state <> 'INPROGRESS' and revision = $3
    for update
),
task as (
    update longshore.tasks t
    set description = $4, action = $5, trigger = $6, target = $7, debug = $8, priority = $10,
        due_at = case when before.planned then case when $9 > now() then $9 end else before.due_at end,
        parked = case when before.planned then $9 <= now() else before.parked end,
        planned_at = case when before.planned then now() else before.planned_at end,
        waits_since = case when before.planned then now() else before.waits_since end,
        traceparent = case when before.planned then $12 else before.traceparent end,
        follows = case when before.planned then null else before.follows end,
        schedule_ended = before.schedule_ended and not before.planned,
        attempt = before.attempt + before.planned::int,
        attempt_began_at = case when before.planned then null else before.attempt_began_at end,
        defined_by = coalesce($13, before.defined_by),
        asked_by = case when not before.planned then before.asked_by when not $14 then $13 end,
        modified_at = before.at, revision = before.revision + 1, log_length = before.log_length + 1
    from before
    where t.id = before.id
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select before.id, before.log_length, before.at, $11 from before
)
select id from before
"""

DELETE = """
delete from longshore.tasks
where id = $1 and chain_id = $2 and state <> 'INPROGRESS'
returning id
"""


class ChangedMeanwhileError(ProblemError):
    """The task is no longer at the revision that the change was made for."""

    def __init__(self) -> None:
        super().__init__("changed-meanwhile")


class EditableTask(msgspec.Struct, frozen=True):
    """The editable fields of a task, as stored, and the revision they were read at."""

    desc: str
    trigger: str
    target: str
    debug: str
    revision: int
    schedule_ended: bool
    defined_by: str | None
    """Kind and id of the credential that set target or trigger last, such as `user 7`."""
    reads: list[Read]
    """The reads of all its runs."""


async def whole(connection: Connection | Pool, chain: ChainId, task: TaskId) -> EditableTask:
    """Return the editable fields of a task. Raises NotFoundError."""
    row = await connection.fetchrow(WHOLE, task, chain)
    if row is None:
        raise NotFoundError("task-not-found")
    return EditableTask(**{**row, "reads": decoded(row["reads"])})


async def change(  # noqa: PLR0913 (the columns of the statement)
    connection: Connection,
    task: TaskId,
    revision: int,
    new: NewTask,
    why: str,
    *,
    planned_anew: bool,
    defined_by: str | None,
) -> None:
    """Replace the editable fields of a task that is not running, in the connection's transaction.

    `why`: the entry of its log. `planned_anew`: whether its schedule starts from now, as that of a new task.
    `defined_by`: kind and id of the credential that sets target or trigger, such as `user 7`; None if neither changes.
    Raises ProblemError, ChangedMeanwhileError, ValidationError and NotFoundError.
    """
    due = None
    if planned_anew:
        due = first(new.schedule, await connection.fetchval("select now()"))
        if due is None:
            raise ValidationError([NEVER_DUE])
    changed = await connection.fetchval(
        CHANGE,
        task,
        new.chain,
        revision,
        new.desc,
        new.action,
        new.trigger,
        new.target,
        new.debug,
        due,
        new.priority,
        why,
        tracing.current(),
        defined_by,
        new.schedule.repeats,
    )
    if changed is None:
        standing = await read.standing(connection, new.chain, task)
        raise ProblemError("task-running") if standing.state.code == Code.INPROGRESS else ChangedMeanwhileError()
    await admit(connection, new.chain)


async def delete(connection: Connection, chain: ChainId, task: TaskId) -> None:
    """Delete a task that is not running, with its log and runs, in the connection's transaction.

    The caller removes its files afterwards. Raises ProblemError and NotFoundError.
    """
    if await connection.fetchval(DELETE, task, chain) is None:
        await read.standing(connection, chain, task)
        raise ProblemError("task-running")
    await admit(connection, chain)
