"""Marks: up to where a task's increments reach, and what an acknowledgement does.

A run that counts moves the mark in the statement that makes it DONE (`lifecycle.finish`), or, where the client wants to
confirm, leaves it to `acknowledge`. Both lock the task's row, so that they never see half of each other.
"""

from datetime import datetime

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message
from longshore.tasks.reads import TaskNotFoundError
from longshore.tasks.recorded_reads import OF_RUN, Read, decoded

# One statement, so that an acknowledgement that comes meanwhile is seen whole: the mark with the increments behind it.
STANDING = f"""
select t.mark, r.run, r.mark_to, r.location, r.rows, r.bytes, r.sha256, r.snapshot_at, r.began_at,
       r.manifest, r.segment, {OF_RUN} as reads
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and not r.acknowledged and r.mark_from is not distinct from t.mark
where t.id = $1 and t.attempt = $2
order by r.run desc
"""  # noqa: S608  # only a constant is put in

# The mark moves from where the run began to where it ended, and only if it still stands there.
ACKNOWLEDGE = """
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks
    where id = $1 and chain_id = $2
    for update
),
moved as (
    select before.*, r.mark_from, r.mark_to
    from before
    join longshore.runs r on r.task_id = before.id and r.run = $3
    where not r.acknowledged and r.mark_from is not distinct from before.mark
),
task as (
    update longshore.tasks t
    set mark = moved.mark_to, modified_at = moved.at,
        revision = moved.revision + 1, log_length = moved.log_length + 1
    from moved
    where t.id = moved.id
),
runs as (
    update longshore.runs r
    set acknowledged = true
    from moved
    where r.task_id = moved.id and not r.acknowledged
      and r.mark_from is not distinct from moved.mark_from and r.mark_to = moved.mark_to
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select id, log_length, at, 'run ' || $3::int || ' is acknowledged' from moved
)
select id from moved
"""

OF_RUN = """
select r.run, r.state, r.acknowledged
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""


class RunNotFoundError(Exception):
    """The task has no run of this number."""

    def __init__(self, run: int) -> None:
        super().__init__(f"the task has no run {run}")


class NothingToAcknowledgeError(Exception):
    """The run left no increment that could be confirmed; the message says why."""


class Increment(msgspec.Struct, frozen=True):
    """What part of the data a run gave: what became visible from one mark to the other."""

    start: str | None
    """None: from the beginning."""
    end: str
    on_ack: bool
    """Whether the mark waits for the client."""


class Pending(msgspec.Struct, frozen=True):
    """An increment that was given and not acknowledged."""

    run: int
    end: str
    location: str
    rows: int
    size: int
    sha256: bytes
    snapshot_at: datetime
    began_at: datetime
    manifest: str
    segment: str | None
    """The stored segment as it was for that run, where the task names one."""
    reads: list[Read]
    """What that run has read."""


class IncrementState(msgspec.Struct, frozen=True):
    """Where a task's increments stand."""

    mark: str | None
    pending: list[Pending]
    """The runs that gave the increment that waits, newest first."""


async def standing(pool: Pool, message: Message) -> IncrementState:
    """Where the increments stand as an attempt begins its work."""
    rows = await pool.fetch(STANDING, message.task, message.attempt)
    pending = [
        Pending(
            run=row["run"],
            end=row["mark_to"],
            location=row["location"],
            rows=row["rows"],
            size=row["bytes"],
            sha256=row["sha256"],
            snapshot_at=row["snapshot_at"],
            began_at=row["began_at"],
            manifest=row["manifest"],
            segment=row["segment"],
            reads=decoded(row["reads"]),
        )
        for row in rows
        if row["run"] is not None
    ]
    # An outdated attempt finds no row. What it reads then does not matter: `finish` will refuse it.
    return IncrementState(rows[0]["mark"] if rows else None, pending)


async def acknowledge(pool: Pool | Connection, chain: ChainId, task: TaskId, run: int) -> None:
    """Move the mark of a task behind the increment that a run gave; doing so twice is the same as once.

    Raises TaskNotFoundError, RunNotFoundError and NothingToAcknowledgeError.
    """
    if await pool.fetchval(ACKNOWLEDGE, task, chain, run) is not None:
        return
    row = await pool.fetchrow(OF_RUN, task, chain, run)
    if row is None:
        raise TaskNotFoundError
    if row["run"] is None:
        raise RunNotFoundError(run)
    if row["acknowledged"]:
        return
    if row["state"] != "DONE":
        raise NothingToAcknowledgeError(f"Run {run} is {row['state']}; only one that is DONE can be acknowledged.")
    raise NothingToAcknowledgeError(f"Run {run} is no increment that waits: the target has no `incremental: on_ack`.")
