"""The figures of a chain: what runs and waits now, and its runs of the last two weeks, by day. Each is one statement.

As in `reads`, the chain is part of every `where` (promise 5).
"""

from datetime import date

import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import structs
from longshore.tasks.model import ChainId
from longshore.tasks.queue_metrics import WORKERS

DAYS = 14

FIGURES = f"""
select
    (select count(*) from longshore.tasks where chain_id = $1 and state = 'INPROGRESS' and not parked) as running,
    waiting.tasks as waiting, extract(epoch from now() - waiting.since)::float8 as oldest,
    (select count(*) from longshore.tasks where chain_id = $1 and due_at is not null and not paused) as planned,
    day.done, day.failed, coalesce(day.rows, 0)::bigint as rows, coalesce(day.bytes, 0)::bigint as bytes,
    coalesce(day.seconds, 0)::float8 as seconds,
    kept.files, coalesce(kept.bytes, 0)::bigint as kept_bytes,
    ({WORKERS}) as workers
from (
    select count(*) as tasks, min(modified_at) as since from longshore.tasks
    where chain_id = $1 and attempt_began_at is null and due_at is null
) waiting,
(
    select count(*) filter (where t.state = 'DONE') as done, count(*) filter (where t.state = 'ERROR') as failed,
           sum(r.rows) as rows, sum(r.bytes) as bytes, sum(extract(epoch from r.ended_at - r.began_at)) as seconds
    from longshore.tasks t
    left join longshore.runs r on r.task_id = t.id and r.run = t.run and r.state = 'DONE'
    where t.chain_id = $1 and t.state in ('DONE', 'ERROR') and t.modified_at > now() - interval '24 hours'
) day,
(
    select count(*) as files, sum(r.bytes) as bytes
    from longshore.runs r
    join longshore.tasks t on t.id = r.task_id
    where t.chain_id = $1 and r.expires_at is not null
) kept
"""  # noqa: S608  # a constant

# $2: the zone whose days are meant, $3: their number.
BY_DAY = """
with days as (
    select day::date as day
    from generate_series(
        (now() at time zone $2)::date - ($3::int - 1), (now() at time zone $2)::date, interval '1 day'
    ) day
),
recent as (
    select (r.began_at at time zone $2)::date as day, r.state, r.rows, r.bytes,
           extract(epoch from r.ended_at - r.began_at)::float8 as seconds,
           extract(epoch from r.began_at - greatest(r.due_at, t.created_at))::float8 as waited, r.expires_at
    from longshore.tasks t
    join longshore.runs r on r.task_id = t.id
    where t.chain_id = $1 and r.began_at >= (((now() at time zone $2)::date - ($3::int - 1))::timestamp at time zone $2)
)
select days.day,
       count(*) filter (where r.state = 'DONE') as done,
       count(*) filter (where r.state = 'ERROR') as failed,
       coalesce(sum(r.rows) filter (where r.state = 'DONE'), 0)::bigint as rows,
       coalesce(sum(r.bytes) filter (where r.state = 'DONE'), 0)::bigint as bytes,
       coalesce(percentile_cont(0.5) within group (order by r.seconds), 0)::float8 as usual_seconds,
       coalesce(max(r.seconds), 0)::float8 as longest_seconds,
       coalesce(max(r.waited), 0)::float8 as longest_wait,
       coalesce(sum(r.seconds), 0)::float8 as busy_seconds,
       coalesce(sum(r.bytes) filter (where r.expires_at is not null), 0)::bigint as kept_bytes
from days
left join recent r on r.day = days.day
group by days.day
order by days.day
"""


class ChainFigures(msgspec.Struct, frozen=True):
    """The figures of a chain; sums are over the tasks that ended within 24 hours."""

    running: int
    waiting: int
    oldest: float | None
    """Seconds that the oldest waiting task has waited."""
    planned: int
    done: int
    failed: int
    rows: int
    bytes: int
    seconds: float
    """Duration of their runs."""
    files: int
    """Stored results."""
    kept_bytes: int
    workers: int
    """Workers of the whole service."""


class DayFigures(msgspec.Struct, frozen=True):
    """The runs of a chain that began on one day."""

    day: date
    done: int
    failed: int
    rows: int
    bytes: int
    usual_seconds: float
    """The median of the durations of the runs that have ended."""
    longest_seconds: float
    longest_wait: float
    """Seconds between the due time of a run, or the creation of its task after that, and its start."""
    busy_seconds: float
    """Durations of all its runs together: the time of workers that they took."""
    kept_bytes: int
    """Of results that are still stored."""


async def figures(pool: Pool, chain: ChainId) -> ChainFigures:
    """Return the figures of a chain."""
    row = await pool.fetchrow(FIGURES, chain)
    assert row is not None
    return ChainFigures(**row)


async def by_day(pool: Pool, chain: ChainId, zone: str) -> list[DayFigures]:
    """Return the figures of a chain for each of the last DAYS days of a time zone, oldest first."""
    return structs(DayFigures, await pool.fetch(BY_DAY, chain, zone, DAYS))
