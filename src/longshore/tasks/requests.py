"""Requests for a task: create it, and between its runs change, execute or delete it. Each is one statement."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks import intervals, queries
from longshore.tasks.conditions import RUN_QUEUED
from longshore.tasks.model import ChainId, CredentialName, Interval, StateCode, TaskId
from longshore.tasks.reads import Read, decoded
from longshore.tasks.schedule import Schedule, first, utc_text
from longshore.tasks.shared_tables import refuse_taken_name
from longshore.tasks.slots import fill_slots
from longshore.telemetry import tracing
from longshore.validation import ValidationError, Violation

CREATE = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, priority, due_at, parked,
                             traceparent, created_by, defined_by, asked_by, schedule_cursor, interval_end)
values ($1, $2, $3, $4, $5, $6, $7, case when $8::timestamptz > now() then $8 end, $8 <= now(), $9, $10, $10, $11,
        case when $12 then least(now(), $8 - interval '1 second') else now() end,
        date_trunc('second', case when $12 then $8 else greatest($8, now()) end))
returning id, parked
"""

EDITABLE = """
select description as desc, trigger, target, debug, revision, schedule_ended, schedule_cursor, defined_by, reads
from longshore.tasks
where id = $1 and chain_id = $2
"""

# $12: whether the schedule repeats. $13: whether nothing changes that a run reads while it is being delivered.
CHANGE = """
with task as (
    update longshore.tasks
    set description = $4, action = $5, trigger = $6, target = $7, debug = $8, priority = $9, paused = paused and $12,
        defined_by = coalesce($11, defined_by), modified_at = greatest(modified_at, now()), revision = revision + 1,
        log_length = log_length + 1
    where id = $1 and chain_id = $2 and (state <> 'INPROGRESS' or (delivering and $13)) and revision = $3
    returning id, log_length, modified_at
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, $10 from task
returning task_id
"""

# $2: when the new schedule is first due. $3: whether it repeats. A new time makes a new attempt, so the message of the
# old one is outdated.
REPLAN = """
update longshore.tasks
set due_at = case when $2 > now() or paused then $2 end, parked = $2 <= now() and not paused, next_due_at = null,
    schedule_cursor = case when $3 then least(now(), $2 - interval '1 second') else now() end, schedule_ended = false,
    origin = 'schedule', interval_start = case when $3 then covered_until end,
    interval_end = date_trunc('second', case when $3 then $2 else greatest($2, now()) end),
    attempt = attempt + 1, attempt_began_at = null, waits_since = now(), traceparent = $4, follows = null,
    asked_by = case when not $3 then $5 end
where id = $1
"""

# `execute` without an interval stores the second in which it was asked for as the end of its interval.
QUEUED_EXECUTE = f"""
select run, interval_start as start, interval_end as end,
       interval_end = date_trunc('second', waits_since) as until_now
from longshore.tasks t
where t.id = $1 and t.chain_id = $2 and t.origin = 'execute' and {RUN_QUEUED}
"""

# The one thing that a new run needs is a new attempt: the message of the old one finds itself outdated. The state stays
# until the run begins, so the new revision and the log entry are how clients see that a run is to come. The time of a
# queued run of the schedule is due again after this one, as `schedule_cursor` moves only when a run begins; by then it
# may be a missed one.
EXECUTE = """
with task as (
    update longshore.tasks
    set attempt = attempt + 1, attempt_began_at = null, due_at = null, parked = true, waits_since = now(),
        traceparent = $3, asked_by = $4, origin = 'execute', interval_start = $5, interval_end = $6, next_due_at = null,
        modified_at = greatest(modified_at, now()), revision = revision + 1, log_length = log_length + 1
    where id = $1 and chain_id = $2 and state <> 'INPROGRESS'
    returning id, run, log_length, modified_at
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select id, log_length - 1, modified_at, 'run requested by ' || coalesce($4, 'the service') from task
)
select run from task
"""

DELETE = """
delete from longshore.tasks t
where id = $1 and chain_id = $2 and state <> 'INPROGRESS'
  and not exists (select from longshore.run_deliveries d where d.task_id = t.id and d.state = 'pending')
returning id
"""


NEVER_DUE = Violation("leaves no time to run at", "/trigger/until")


class ChangedMeanwhileError(ProblemError):
    """The task is no longer at the revision that the change was made for."""

    def __init__(self) -> None:
        super().__init__("changed-meanwhile")


class NewTask(msgspec.Struct, frozen=True):
    """A validated task, ready to be stored. `trigger` and `target` are JSON text as clients see it."""

    chain: ChainId
    desc: str
    action: str
    trigger: str
    target: str
    debug: str
    schedule: Schedule
    priority: int = 0
    secrets: Mapping[str, Mapping[str, str | None]] = {}
    """Secrets of the target, in which they are null, by field and name; null keeps the value that is stored."""


class EditableTask(msgspec.Struct, frozen=True):
    """The editable fields of a task, as stored, and the revision they were read at."""

    desc: str
    trigger: str
    target: str
    debug: str
    revision: int
    schedule_ended: bool
    schedule_cursor: datetime
    """The schedule computes its next time from here."""
    defined_by: str | None
    """Kind and id of the credential that set target or trigger last, such as `user 7`."""
    reads: list[Read]
    """The reads of all its runs."""


async def create(connection: Connection, new: NewTask, by: CredentialName | None = None) -> TaskId:
    """Create a task in the connection's transaction and return its id. Raises ValidationError.

    `by`: None for the service itself. If the task is due, its message is sent as soon as its chain has a free slot.
    """
    due = new.schedule.once
    if new.schedule.repeats:
        due = first(new.schedule, await connection.fetchval("select now()"))
    if due is None:
        raise ValidationError([NEVER_DUE])
    with refuse_taken_name():
        row = await connection.fetchrow(
            CREATE,
            new.chain,
            new.desc,
            new.action,
            new.trigger,
            new.target,
            new.debug,
            new.priority,
            due,
            tracing.current(),
            by,
            None if new.schedule.repeats else by,
            new.schedule.repeats,
        )
    assert row is not None
    if row["parked"]:
        await fill_slots(connection, new.chain)
    return TaskId(row["id"])


async def editable(connection: Connection | Pool, chain: ChainId, task: TaskId) -> EditableTask:
    """Return the editable fields of a task. Raises NotFoundError."""
    row = await connection.fetchrow(EDITABLE, task, chain)
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
    replans: bool,
    only_deliver: bool,
    defined_by: str | None,
) -> None:
    """Replace the editable fields of a task that is not running, in the connection's transaction.

    `revision`: of the task that the change was made for. `why`: the entry of its log. `replans`: whether its
    schedule starts from now, as that of a new task. `only_deliver`: whether the trigger stays, and of the target all
    but `deliver`; then a run may be on its way to destinations meanwhile. `defined_by`: the credential that sets
    target or trigger; None if neither changes.
    Raises ProblemError, ChangedMeanwhileError, ValidationError and NotFoundError.
    """
    due = await _first_due(connection, task, new) if replans else None
    with refuse_taken_name():
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
            new.priority,
            why,
            defined_by,
            new.schedule.repeats,
            only_deliver,
        )
    if changed is None:
        status = await queries.status(connection, new.chain, task)
        refused = status.state.code == StateCode.INPROGRESS and not (status.delivering and only_deliver)
        raise ProblemError("task-running") if refused else ChangedMeanwhileError()
    if due is not None:
        await connection.execute(REPLAN, task, due, new.schedule.repeats, tracing.current(), defined_by)
    await fill_slots(connection, new.chain)


async def _first_due(connection: Connection, task: TaskId, new: NewTask) -> datetime:
    """Return when the new schedule of a task is first due.

    Raises NotFoundError, ValidationError where it has no time, and ProblemError where it is due at once while a run of
    `execute` is queued, as that run would be replaced.
    """
    state = await intervals.schedule_state(connection, new.chain, task)
    due = first(new.schedule, state.now, state.covered_until)
    if due is None:
        raise ValidationError([NEVER_DUE])
    if due <= state.now and await connection.fetchrow(QUEUED_EXECUTE, task, new.chain) is not None:
        raise ProblemError("run-queued", "A run that `execute` asked for waits to start; the trigger is due at once.")
    return due


async def execute(
    connection: Connection,
    chain: ChainId,
    task: TaskId,
    by: CredentialName | None = None,
    interval_end: datetime | None = None,
) -> int:
    """Queue a run of a task, to begin as soon as its chain has a free slot; return the number that the run will have.

    Runs in the connection's transaction, in which the caller has locked the task. `by`: None for the service
    itself. `interval_end`: the time of the schedule whose interval the run is for; by default it reaches until now. A
    request for the interval of a queued `execute` joins it: nothing changes. Raises ProblemError, also where that is
    another interval, ValidationError and NotFoundError.
    """
    if interval_end is None:
        interval = await intervals.until_now(connection, chain, task)
    else:
        interval = await intervals.of_time(connection, chain, task, interval_end)
    queued = await connection.fetchrow(QUEUED_EXECUTE, task, chain)
    if queued is not None:
        same = queued["until_now"] if interval_end is None else Interval(queued["start"], queued["end"]) == interval
        if not same:
            detail = f"A run for the interval that ends at {utc_text(queued['end'])} waits to start."
            raise ProblemError("run-queued", detail)
        return int(queued["run"]) + 1
    traceparent = tracing.current()
    row = await connection.fetchrow(EXECUTE, task, chain, traceparent, by, interval.start, interval.end)
    if row is None:
        raise ProblemError("task-running")
    await fill_slots(connection, chain)
    return int(row["run"]) + 1


async def delete(connection: Connection, chain: ChainId, task: TaskId) -> None:
    """Delete a task that neither runs nor delivers, with its log and runs, in the connection's transaction.

    The caller removes its files afterwards. Raises ProblemError and NotFoundError.
    """
    if await connection.fetchval(DELETE, task, chain) is None:
        status = await queries.status(connection, chain, task)
        raise ProblemError("task-running" if status.state.code == StateCode.INPROGRESS else "run-delivering")
    await fill_slots(connection, chain)
