"""The progress of a task: rows, speed, time left, heartbeat, position in the queue, and the next step.

It shows what the service will do and when, even if the worker is dead (promise 7).
"""

import math
from datetime import datetime, timedelta

import asyncpg

from longshore.database.connect import Pool
from longshore.database.retry import MAX_FAILURES
from longshore.errors import NotFoundError
from longshore.tasks.model import ChainId, Code, Next, Phase, Progress, TaskId
from longshore.tasks.recorded_reads import Read, decoded

# The job of an attempt has the time of its delivery and the last heartbeat of its worker. A parked task comes after the
# tasks of its chain that have a job and after the parked tasks before it.
PROGRESS = """
select r.reads, t.state as task_state, t.due_at, t.paused, t.attempt_began_at is not null as began, t.run,
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
           where o.chain_id = t.chain_id and not o.parked and o.attempt_began_at is null and o.due_at is null
       ) when t.attempt_began_at is null and q.status = 'queued' and q.execute_after <= now() then (
           select count(*) from (
               select from longshore.pgqueuer o
               where o.status = 'queued' and o.execute_after <= now() and o.entrypoint = q.entrypoint
                 and (o.priority > q.priority or (o.priority = q.priority and o.id <= q.id))
               limit 10000
           ) before
       ) end as place
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = t.run
left join longshore.pgqueuer q on q.dedupe_key = t.id || ':' || t.attempt and q.status in ('queued', 'picked')
where t.id = $1 and t.chain_id = $2
"""


async def read(pool: Pool, chain: ChainId, task: TaskId, heartbeat_timeout: float) -> tuple[Progress, list[Read]]:
    """Return the progress of the newest run of a task, and the reads of that run. Raises NotFoundError.

    `heartbeat_timeout`: seconds without a heartbeat after which a worker counts as lost.
    """
    row = await pool.fetchrow(PROGRESS, task, chain)
    if row is None:
        raise NotFoundError("task-not-found")
    done, expected, seconds = row["rows"], row["rows_expected"], row["seconds"]
    speed = done / seconds if seconds else None
    finished = row["state"] == Code.DONE or row["delivering"]
    exact = finished or row["rows_expected_exact"]
    if finished:
        expected = done
    # An estimate may be too low, so a run that is not done has 99 % at most.
    percent = 100.0 if finished else min(99.0, 100 * done / expected) if expected else None
    left = 0.0 if finished else max(0.0, (expected - done) / speed) if expected and speed else None
    running = row["task_state"] == Code.INPROGRESS and row["began"] and not row["delivering"]
    progress = Progress(
        run=row["run"],
        attempt=row["attempt"],
        rows=done,
        bytes=row["bytes"],
        rows_expected=expected,
        rows_expected_is=None if expected is None else "exact" if exact else "estimate",
        rows_per_second=_rounded(speed),
        percent=_rounded(percent),
        seconds_left=None if row["delivering"] else _rounded(left),
        heartbeat_age=_rounded(max(0.0, (row["now"] - row["beat_at"]).total_seconds())) if running else None,
        queue_place=row["place"],
        phase=_phase(row),
        paused=row["paused"],
        next=_next(row, running, heartbeat_timeout),
    )
    return progress, decoded(row["reads"])


def _phase(row: asyncpg.Record) -> Phase | None:
    if row["delivering"]:
        return "delivering"
    return "exporting" if row["task_state"] == Code.INPROGRESS and row["action"] == "export" else None


def _next(row: asyncpg.Record, running: bool, heartbeat_timeout: float) -> Next | None:
    if running:
        lost_at = row["beat_at"] + timedelta(seconds=heartbeat_timeout)
        step = "retry" if row["failures"] + 1 < MAX_FAILURES else "give up"
        return Next(step, _whole_second_after(lost_at), if_silent=True)
    if row["delivering"]:
        return Next("deliver", _whole_second_after(row["delivery_at"]), if_silent=False)
    if row["task_state"] == Code.INPROGRESS:
        return Next("retry", _whole_second_after(row["delivered_at"]), if_silent=False)
    if row["due_at"] is not None:
        if row["paused"]:
            return None
        return Next("start", _whole_second_after(row["due_at"]), if_silent=False)
    if not row["began"]:
        return Next("start", _whole_second_after(row["delivered_at"]), if_silent=False)
    return None


def _whole_second_after(moment: datetime | None) -> datetime | None:
    return moment and (moment + timedelta(microseconds=999_999)).replace(microsecond=0)


def _rounded(figure: float | None) -> float | None:
    return None if figure is None or not math.isfinite(figure) else round(figure, 1)
