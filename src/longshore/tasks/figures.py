"""The figures of a chain: what runs and waits now, and its runs of the last two weeks, by day. Each is one statement.

As in `queries`, the chain is part of every `where` (promise 5).
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import structs
from longshore.tasks.conditions import QUEUED
from longshore.tasks.model import ChainId
from longshore.tasks.queue_metrics import WORKERS

DAYS = 14

FIGURES = f"""
select
    (
        select count(*) from longshore.tasks
        where chain_id = $1 and state = 'INPROGRESS' and attempt_began_at is not null
    ) as running,
    waiting.tasks as waiting, waiting.oldest,
    (select count(*) from longshore.tasks where chain_id = $1 and due_at is not null and not paused) as scheduled,
    day.done, day.failed, coalesce(day.rows, 0)::bigint as rows, coalesce(day.bytes, 0)::bigint as bytes,
    coalesce(day.seconds, 0)::float8 as seconds,
    ({WORKERS}) as workers
from (
    -- The next attempt of a run that is retried waits from when its pause is over.
    select count(*) as tasks, extract(epoch from max(greatest(now() - waits_since, interval '0')))::float8 as oldest
    from longshore.tasks t
    where t.chain_id = $1 and {QUEUED}
) waiting,
(
    select count(*) filter (where r.state = 'DONE') as done, count(*) filter (where r.state = 'ERROR') as failed,
           sum(r.rows) filter (where r.state = 'DONE') as rows, sum(r.bytes) filter (where r.state = 'DONE') as bytes,
           sum(extract(epoch from r.ended_at - r.began_at)) filter (where r.state = 'DONE') as seconds
    from longshore.tasks t
    cross join lateral (
        select * from longshore.runs where task_id = t.id and began_at > now() - interval '24 hours' offset 0
    ) r
    where t.chain_id = $1 and t.last_run_at > now() - interval '24 hours'
) day
"""

KEPT_RESULTS = """
select count(*) as files, coalesce(sum(r.bytes), 0)::bigint as bytes
from longshore.runs r
join longshore.tasks t on t.id = r.task_id
where t.chain_id = $1 and r.expires_at is not null
"""

# $2, $3: the days and their starts, in order: Python knows zones that the server may not know. The tasks that ran in
# these days are read by their last run, and the runs of each by its index: `offset 0` keeps PostgreSQL from reading the
# runs of all chains instead.
BY_DAY = """
with days as (
    select * from unnest($2::date[], $3::timestamptz[]) with ordinality as given (day, start, number)
),
span as (
    select min(start) as start, array_agg(start order by start) as starts from days
),
recent as (
    select width_bucket(r.began_at, span.starts) as number, r.state, r.rows, r.bytes, r.expires_at,
           extract(epoch from r.ended_at - r.began_at)::float8 as seconds,
           case when r.backfill is null
                then extract(epoch from r.began_at - greatest(r.due_at, t.created_at))::float8 end as waited
    from span
    join longshore.tasks t on t.chain_id = $1 and t.last_run_at >= span.start
    cross join lateral (
        select * from longshore.runs where task_id = t.id and began_at >= span.start offset 0
    ) r
),
by_number as (
    select number,
           count(*) filter (where state = 'DONE') as done,
           count(*) filter (where state = 'ERROR') as failed,
           sum(rows) filter (where state = 'DONE') as rows,
           sum(bytes) filter (where state = 'DONE') as bytes,
           percentile_cont(0.5) within group (order by seconds) as median_seconds,
           max(seconds) as longest_seconds,
           max(waited) as longest_wait,
           sum(seconds) as busy_seconds,
           sum(bytes) filter (where expires_at is not null) as kept_bytes
    from recent
    group by number
)
select days.day, coalesce(done, 0) as done, coalesce(failed, 0) as failed, coalesce(rows, 0)::bigint as rows,
       coalesce(bytes, 0)::bigint as bytes, coalesce(median_seconds, 0)::float8 as median_seconds,
       coalesce(longest_seconds, 0)::float8 as longest_seconds, coalesce(longest_wait, 0)::float8 as longest_wait,
       coalesce(busy_seconds, 0)::float8 as busy_seconds, coalesce(kept_bytes, 0)::bigint as kept_bytes
from days
left join by_number using (number)
order by days.day
"""


class ChainFigures(msgspec.Struct, frozen=True):
    """The figures of a chain; sums are over the runs that began within 24 hours."""

    running: int
    waiting: int
    oldest: float | None
    """Seconds that the oldest waiting task has waited."""
    scheduled: int
    done: int
    failed: int
    rows: int
    bytes: int
    seconds: float
    """Duration of their runs."""
    workers: int
    """Workers of the whole service."""


class KeptResults(msgspec.Struct, frozen=True):
    """The stored results of a chain."""

    files: int
    bytes: int


class DayFigures(msgspec.Struct, frozen=True):
    """The runs of a chain that began on one day."""

    day: date
    done: int
    failed: int
    rows: int
    bytes: int
    median_seconds: float
    """The median of the durations of the runs that have ended."""
    longest_seconds: float
    longest_wait: float
    """Seconds between the due time of a run, or the creation of its task after that, and its start; no backfills."""
    busy_seconds: float
    """Durations of all its runs together: the time of workers that they took."""
    kept_bytes: int
    """Of results that are still stored."""


async def of_chain(pool: Pool, chain: ChainId) -> ChainFigures:
    """Return the figures of a chain."""
    row = await pool.fetchrow(FIGURES, chain)
    assert row is not None
    return ChainFigures(**row)


async def kept_results(pool: Pool, chain: ChainId) -> KeptResults:
    """Return the stored results of a chain, of which each is read."""
    row = await pool.fetchrow(KEPT_RESULTS, chain)
    assert row is not None
    return KeptResults(**row)


async def by_day(pool: Pool, chain: ChainId, zone: str) -> list[DayFigures]:
    """Return the figures of a chain for each of the last DAYS days of a time zone, oldest first."""
    days, starts = last_days(await pool.fetchval("select now()"), ZoneInfo(zone))
    return structs(DayFigures, await pool.fetch(BY_DAY, chain, days, starts))


def last_days(now: datetime, zone: ZoneInfo) -> tuple[list[date], list[datetime]]:
    """Return the last DAYS days of a time zone, oldest first, and when they began."""
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    return days, [datetime.combine(day, time(), zone).astimezone(UTC) for day in days]
