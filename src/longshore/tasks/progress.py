"""The progress of a task: rows, speed, time left, heartbeat, position in the queue, and the next step.

It shows what the service will do and when, even if the worker is dead (promise 7).
"""

import math
from datetime import datetime, timedelta

import msgspec

from longshore.database.connect import Pool
from longshore.database.retry import MAX_FAILURES
from longshore.errors import NotFoundError
from longshore.tasks.conditions import RUNNING, SENT
from longshore.tasks.model import ChainId, NextStep, Phase, Progress, StateCode, TaskId
from longshore.tasks.reads import Read, decoded

# The job of an attempt has the time of its delivery and the last heartbeat of its worker. A parked task comes after the
# tasks of its chain that have a job and after the parked tasks before it.
PROGRESS = f"""
select r.reads, t.state as task_state, t.due_at, t.paused, t.attempt_began_at is not null as began, t.run,
       {RUNNING} as running,
       t.action, t.delivering, case when t.delivering then (
           select min(coalesce(d.due_at, now()))
           from longshore.run_deliveries d
           where d.task_id = t.id and d.state = 'pending'
       ) end as delivery_at,
       coalesce(r.attempt - r.first_attempt + 1, 0) as attempt, coalesce(r.rows, 0) as rows,
       coalesce(r.bytes, 0) as bytes, r.rows_expected, r.rows_expected_exact, coalesce(r.state, '') as state,
       coalesce(r.failures, 0) as failures,
       extract(epoch from coalesce(r.ended_at, r.progress_at) - r.attempt_began_at)::float8 as seconds,
       greatest(r.progress_at, case q.status when 'picked' then q.heartbeat end) as beat_at, now() as now,
       case when q.execute_after > now() then q.execute_after end as delivered_at,
       case when t.parked then (
           select count(*) from (
               select from longshore.tasks o
               where o.chain_id = t.chain_id and o.parked
                 and (-o.priority, o.waits_since, o.id) <= (-t.priority, t.waits_since, t.id)
               limit 10000
           ) before
       ) + (
           select count(*) from longshore.tasks o
           where o.chain_id = t.chain_id and {SENT.replace("t.", "o.")}
       ) when t.attempt_began_at is null and q.status = 'queued' and q.execute_after <= now() then (
           select count(*) from (
               select from longshore.pgqueuer o
               where o.status = 'queued' and o.execute_after <= now() and o.entrypoint = q.entrypoint
                 and (o.priority > q.priority or (o.priority = q.priority and o.id <= q.id))
               limit 10000
           ) before
       ) end as position
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = t.run
left join longshore.pgqueuer q on q.dedupe_key = t.id || ':' || t.attempt and q.status in ('queued', 'picked')
where t.id = $1 and t.chain_id = $2
"""


class NewestRun(msgspec.Struct, frozen=True):
    """The newest run of a task and the message of its newest attempt, as the statement returns them."""

    reads: str | None
    task_state: StateCode
    due_at: datetime | None
    paused: bool
    began: bool
    """Whether a worker has begun the newest attempt of the task."""
    run: int
    running: bool
    action: str
    delivering: bool
    delivery_at: datetime | None
    """When the next attempt of a delivery begins; None where the run is not being delivered."""
    attempt: int
    rows: int
    bytes: int
    rows_expected: int | None
    rows_expected_exact: bool | None
    state: str
    """Of the run; empty before the first."""
    failures: int
    seconds: float | None
    """From the start of the attempt to its end or its last progress."""
    beat_at: datetime | None
    """The last heartbeat or progress of a worker."""
    now: datetime
    delivered_at: datetime | None
    """When the message is delivered, if that is later."""
    position: int | None
    """In the queue of due runs."""


async def read(pool: Pool, chain: ChainId, task: TaskId, heartbeat_timeout: float) -> tuple[Progress, list[Read]]:
    """Return the progress of the newest run of a task, and the reads of that run. Raises NotFoundError.

    `heartbeat_timeout`: seconds without a heartbeat after which a worker counts as lost.
    """
    found = await pool.fetchrow(PROGRESS, task, chain)
    if found is None:
        raise NotFoundError("task-not-found")
    newest = NewestRun(**found)
    done, expected, seconds = newest.rows, newest.rows_expected, newest.seconds
    speed = done / seconds if seconds else None
    finished = newest.state == StateCode.DONE or newest.delivering
    exact = finished or newest.rows_expected_exact
    if finished:
        expected = done
    # An estimate may be too low, so a run that is not done has 99 % at most.
    percent = 100.0 if finished else min(99.0, 100 * done / expected) if expected else None
    left = 0.0 if finished else max(0.0, (expected - done) / speed) if expected and speed else None
    age = (newest.now - newest.beat_at).total_seconds() if newest.running and newest.beat_at else None
    progress = Progress(
        run=newest.run,
        attempt=newest.attempt,
        rows=done,
        bytes=newest.bytes,
        rows_expected=expected,
        rows_expected_is=None if expected is None else "exact" if exact else "estimate",
        rows_per_second=_rounded(speed),
        percent=_rounded(percent),
        seconds_left=None if newest.delivering else _rounded(left),
        heartbeat_age=None if age is None else _rounded(max(0.0, age)),
        queue_place=newest.position,
        phase=_phase(newest),
        paused=newest.paused,
        next=_next_step(newest, heartbeat_timeout),
    )
    return progress, decoded(newest.reads)


def _phase(newest: NewestRun) -> Phase | None:
    if newest.delivering:
        return "delivering"
    return "exporting" if newest.task_state == StateCode.INPROGRESS and newest.action == "export" else None


def _next_step(newest: NewestRun, heartbeat_timeout: float) -> NextStep | None:
    if newest.running and newest.beat_at is not None:
        lost_at = newest.beat_at + timedelta(seconds=heartbeat_timeout)
        step = "retry" if newest.failures + 1 < MAX_FAILURES else "give up"
        return NextStep(step, _whole_second_after(lost_at), if_silent=True)
    if newest.delivering:
        return NextStep("deliver", _whole_second_after(newest.delivery_at), if_silent=False)
    if newest.task_state == StateCode.INPROGRESS:
        return NextStep("retry", _whole_second_after(newest.delivered_at), if_silent=False)
    if newest.due_at is not None:
        if newest.paused:
            return None
        return NextStep("start", _whole_second_after(newest.due_at), if_silent=False)
    if not newest.began:
        return NextStep("start", _whole_second_after(newest.delivered_at), if_silent=False)
    return None


def _whole_second_after(moment: datetime | None) -> datetime | None:
    return moment and (moment + timedelta(microseconds=999_999)).replace(microsecond=0)


def _rounded(figure: float | None) -> float | None:
    return None if figure is None or not math.isfinite(figure) else round(figure, 1)
