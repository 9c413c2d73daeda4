"""The console's views of tasks: a list with progress, planned runs, and the figures of a chain. Each is one statement.

As in `reads`, the chain is part of every `where` (promise 5).
"""

from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import Page, fetch_page
from longshore.tasks.model import ChainId
from longshore.tasks.reads import MEMBER
from longshore.tasks.recorded_reads import Read, decoded
from longshore.tasks.schedule import stored, times

MAX_PLANNED = 200
MAX_TIMES = 1000  # of all tasks together, because each takes time to compute

INDEX = f"""coalesce({MEMBER.format("export_index")}, (
           select string_agg(name, ', ')
           from json_array_elements_text(({MEMBER.format("export_indexes")})::json) name
       ))"""  # noqa: S608  # a constant
"""The index of a task; several of them in the order of the target."""

LIST = f"""
select t.id, t.description as desc, t.action, {INDEX} as index, t.state, t.last_run_at as last_run, t.due_at as due,
       t.reads, coalesce(r.rows, 0) as rows, r.rows_expected
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.chain_id = $1
  and ($2::text is null or t.state = $2)
  and ($3::text is null or t.action = $3)
  and ($4::text is null or $4 = any(string_to_array({INDEX}, ', ')))
  and ($5::interval is null or t.created_at > now() - $5)
order by t.id desc
limit $6 offset $7
"""  # noqa: S608  # only constants are put in

PLANNED = f"""
select t.id, t.description, {INDEX} as index, t.trigger, t.due_at, now() as now
from longshore.tasks t
where t.chain_id = $1 and t.due_at is not null and not t.paused
order by t.due_at, t.id
limit $2
"""  # noqa: S608  # only constants are put in

FIGURES = """
select
    (select count(*) from longshore.tasks where chain_id = $1 and state = 'INPROGRESS' and not parked) as running,
    waiting.tasks as waiting, extract(epoch from now() - waiting.since)::float8 as oldest,
    (select count(*) from longshore.tasks where chain_id = $1 and due_at is not null and not paused) as planned,
    day.done, day.failed, coalesce(day.rows, 0)::bigint as rows, coalesce(day.bytes, 0)::bigint as bytes,
    coalesce(day.seconds, 0)::float8 as seconds,
    kept.files, coalesce(kept.bytes, 0)::bigint as kept_bytes,
    (
        select count(distinct application_name) from pg_stat_activity
        where datname = current_database() and application_name like 'longshore worker %'
    ) as workers
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
"""


class Row(msgspec.Struct, frozen=True):
    """A task in a list."""

    id: int
    desc: str
    action: str
    index: str | None
    state: str
    last_run: datetime | None
    due: datetime | None
    rows: int
    rows_expected: int | None
    reads: list[Read]
    """Export indexes and columns that its runs have read."""

    @property
    def percent(self) -> float | None:
        """Progress of the run; at most 99 while it runs, because the expected rows may be estimated too low."""
        if self.state == "DONE":
            return 100.0
        return min(99.0, 100 * self.rows / self.rows_expected) if self.rows_expected else None


class TaskFilter(msgspec.Struct, frozen=True):
    """A filter for the list of tasks; None matches every value."""

    state: str | None = None
    action: str | None = None
    index: str | None = None
    age: timedelta | None = None
    """Maximum time since the task was created."""


class Planned(msgspec.Struct, frozen=True):
    """A planned run."""

    at: datetime
    task: int
    desc: str
    index: str | None
    repeats: bool


class Figures(msgspec.Struct, frozen=True):
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


async def rows(pool: Pool, chain: ChainId, conditions: TaskFilter, page: Page) -> tuple[list[Row], bool]:
    """Return a page of a chain's tasks, newest first, and whether more follow."""
    return await fetch_page(pool, _row, page, LIST, chain, *msgspec.structs.astuple(conditions))


async def planned(pool: Pool, chain: ChainId, within: timedelta) -> list[Planned]:
    """Return the runs of a chain that are planned within a time from now, soonest first."""
    rows = await pool.fetch(PLANNED, chain, MAX_PLANNED)
    found = []
    for row in rows:
        end = row["now"] + within
        due, repeats = _times(row["trigger"], row["due_at"], end, MAX_TIMES // len(rows))
        found += [Planned(time, row["id"], row["description"], row["index"], repeats) for time in due if time <= end]
    return sorted(found, key=lambda each: (each.at, each.task))


def _times(trigger: str, due: datetime, end: datetime, count: int) -> tuple[list[datetime], bool]:
    """Return at most so many times of a stored trigger from `due` to `end`, and whether it repeats.

    A trigger that cannot be decoded gives `due` alone; the scheduler ends that task in ERROR.
    """
    try:
        schedule = stored(trigger)
        schedule = msgspec.structs.replace(schedule, until=min(schedule.until or end, end))
        later = islice(times(schedule, due), count - 1) if schedule.repeats else ()
        return [due, *later], schedule.repeats
    except Exception:
        return [due], False


async def figures(pool: Pool, chain: ChainId) -> Figures:
    """Return the figures of a chain."""
    row = await pool.fetchrow(FIGURES, chain)
    assert row is not None
    return Figures(**row)


def _row(reads: str, **columns: Any) -> Row:
    return Row(reads=decoded(reads), **columns)
