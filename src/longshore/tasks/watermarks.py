"""Watermarks: up to where an incremental task has exported, and acknowledgements.

The statement that makes a run DONE (`run_ends.finish`) moves the watermark; with `on_ack`, `acknowledge` does. Both
lock the task's row, so that neither sees half of the other.
"""

from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.rows import structs
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.model import ChainId, CredentialName, Interval, StateCode, TaskId
from longshore.tasks.queue import Message
from longshore.tasks.reads import Read, decoded

# One statement, so that it sees a concurrent acknowledgement completely: the watermark with the increments after it.
# There may be many runs after it: their manifests are read one at a time, and one segment is enough.
STATE = """
select t.watermark, t.last_run_at, r.run, r.watermark_to as end, r.location, r.rows, r.bytes as size, r.sha256,
       r.snapshot_at, r.skips, r.column_types, r.interval_start, r.interval_end,
       case when r.run = min(r.run) over () then r.segment end as segment, r.reads
from longshore.tasks t
left join longshore.runs r
    on r.task_id = t.id and not r.acknowledged and r.watermark_from is not distinct from t.watermark
where t.id = $1 and t.attempt = $2
order by r.run desc
"""

# The watermark moves to the end of the run, and only if it is still at the start of the run.
ACKNOWLEDGE = """
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks
    where id = $1 and chain_id = $2
    for update
),
moved as (
    select before.*, r.watermark_from, r.watermark_to
    from before
    join longshore.runs r on r.task_id = before.id and r.run = $3
    where not r.acknowledged and r.state = 'DONE' and r.watermark_from is not distinct from before.watermark
),
task as (
    update longshore.tasks t
    set watermark = moved.watermark_to, modified_at = moved.at,
        revision = moved.revision + 1, log_length = moved.log_length + 1
    from moved
    where t.id = moved.id
),
runs as (
    update longshore.runs r
    set acknowledged = r.watermark_from is not distinct from moved.watermark_from
                       and r.watermark_to = moved.watermark_to,
        key_list_bytes = 0
    from moved
    where r.task_id = moved.id and not r.acknowledged
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select id, log_length, at, 'run ' || $3::int || ' is acknowledged' from moved
)
select id from moved
"""

OF_RUN = """
select r.run, r.state, r.acknowledged, r.watermark_to is not null as is_increment,
       case when longshore.is_decodable(t.target) then t.target ->> 'incremental' = 'on_ack' end as on_ack
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""


# Increments that wait for their acknowledgement wait no longer, so that none of them is given in place of the full run.
# A run that is delivered afterwards does not move the watermark, from which the full run would go on.
RESET = """
with task as (
    update longshore.tasks
    set watermark = null, full_after_run = run, modified_at = greatest(modified_at, now()), revision = revision + 1,
        log_length = log_length + 1
    where id = $1 and chain_id = $2 and state <> 'INPROGRESS'
    returning id, log_length, modified_at
),
runs as (
    update longshore.runs r set acknowledged = null, key_list_bytes = 0
    from task
    where r.task_id = task.id and not r.acknowledged
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, 'a full run requested by ' || $3::text from task
"""


class Increment(msgspec.Struct, frozen=True):
    """The part of the data that an incremental run exported: the rows that became visible between two watermarks."""

    start: str | None
    """None for the first run."""
    end: str
    on_ack: bool
    """Whether the watermark moves only when the client acknowledges the run."""


class PendingIncrement(msgspec.Struct, frozen=True):
    """An increment that is not acknowledged yet."""

    run: int
    end: str
    location: str
    rows: int
    size: int
    sha256: bytes
    snapshot_at: datetime
    skips: int
    """Odd values that are NULL in the result."""
    column_types: str | None
    """As the run recorded them, see `attempts.RunResult`."""
    interval: Interval
    segment: str | None
    """The stored segment as the first of the runs used it, if the task names one; None for the others."""
    reads: list[Read]
    """The reads of that run."""


class IncrementState(msgspec.Struct, frozen=True):
    """The watermark of a task and its unacknowledged increments."""

    watermark: str | None
    pending: list[PendingIncrement]
    """The runs that exported the unacknowledged increment, newest first."""
    run_began_at: datetime | None
    """When the run of the attempt began; None for a stale attempt."""


async def state(pool: Pool, message: Message) -> IncrementState:
    """Return the watermark and the unacknowledged increments when an attempt begins."""
    rows = await pool.fetch(STATE, message.task, message.attempt)
    pending = structs(_pending, [row for row in rows if row["run"] is not None])
    if not rows:  # of a stale attempt; `finish` will refuse it
        return IncrementState(None, [], None)
    return IncrementState(rows[0]["watermark"], pending, rows[0]["last_run_at"])


async def acknowledge(pool: Pool | Connection, chain: ChainId, task: TaskId, run: int) -> None:
    """Acknowledge the increment of a run, which moves the watermark; doing so twice is the same as once.

    Raises NotFoundError, and ProblemError where there is no such run or nothing to acknowledge.
    """
    if await pool.fetchval(ACKNOWLEDGE, task, chain, run) is not None:
        return
    row = await pool.fetchrow(OF_RUN, task, chain, run)
    if row is None:
        raise NotFoundError("task-not-found")
    if row["run"] is None:
        raise NotFoundError("run-not-found", f"Task {task} has no run {run}.")
    if row["acknowledged"]:
        return
    raise ProblemError("nothing-to-acknowledge", _why_not(row))


def _why_not(row: asyncpg.Record) -> str:
    """Return why a run of OF_RUN cannot be acknowledged."""
    run = f"Run {row['run']}"
    if row["state"] != StateCode.DONE:
        return f"{run} is {row['state']}; only one that is DONE can be acknowledged."
    if row["acknowledged"] is not None:
        return f"{run} waits no more: another run has moved the watermark."
    if not row["on_ack"]:
        return f"{run} is no increment that waits: the target has no `incremental: on_ack`."
    if not row["is_increment"]:
        return f"{run} is no increment: it ran before the target had `incremental`."
    return f"{run} does not wait: a full run was requested after it, or it ran without `incremental: on_ack`."


async def reset(connection: Connection, chain: ChainId, task: TaskId, by: CredentialName) -> None:
    """Remove the watermark of a task that is not running, so that its next run takes all rows.

    Runs in the connection's transaction, in which the caller has locked the task.
    """
    await connection.execute(RESET, task, chain, by)


def _pending(
    watermark: str | None,  # noqa: ARG001 (of the task)
    last_run_at: datetime,  # noqa: ARG001 (of the task)
    interval_start: datetime | None,
    interval_end: datetime,
    reads: str | None,
    **columns: Any,
) -> PendingIncrement:
    return PendingIncrement(interval=Interval(interval_start, interval_end), reads=decoded(reads), **columns)
