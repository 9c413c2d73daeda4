"""The tasks of a chain that run later or again, with the times of their next runs."""

from datetime import datetime
from itertools import chain as chained
from itertools import islice, takewhile
from typing import Any

import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import Page, fetch_page
from longshore.tasks.model import ChainId
from longshore.tasks.schedule import Schedule, decode, times

# A task whose run is queued or in progress is due at no time until that has ended, but its schedule goes on.
UPCOMING = """
select t.id, t.description as desc, longshore.indexes_of(t.target) as indexes, t.state, t.paused, t.trigger,
       t.due_at as due, t.schedule_cursor, t.last_run_at as last_run, r.state as last_state, now() as now
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.chain_id = $1
  and (t.due_at is not null or (t.state = 'INPROGRESS' or t.attempt_began_at is null) and not t.schedule_ended)
  and (t.due_at is not null or t.trigger::text ~ '"(repeat|cron)" *:')
order by coalesce(t.due_at, t.modified_at), t.id
limit $2 offset $3
"""


class UpcomingTask(msgspec.Struct, frozen=True):
    """A task that runs later or again."""

    id: int
    desc: str
    indexes: list[str]
    state: str
    paused: bool
    schedule: Schedule | None
    """None if this version cannot read it; the scheduler ends the task in ERROR."""
    due: datetime | None
    """Null while a run is queued or in progress."""
    schedule_cursor: datetime
    """The schedule computes its next time from here."""
    last_run: datetime | None
    last_state: str | None
    now: datetime

    def times(self, end: datetime, count: int) -> list[datetime]:
        """Return the next times of its runs until `end`, at most so many."""
        if self.schedule is None or not self.schedule.repeats:
            return [self.due] if self.due is not None and self.due < end else []
        # A paused task keeps the time at which it was due; the scheduler sends nothing for it.
        first = [self.due] if self.due is not None and (self.due >= self.now or not self.paused) else []
        try:
            later = times(self.schedule, max(self.due or self.schedule_cursor, self.now))
            return list(takewhile(lambda time: time < end, chained(first, islice(later, count - len(first)))))
        except Exception:  # such as a zone that this machine does not know; the scheduler says so in the task's log
            return first


async def upcoming(pool: Pool, chain: ChainId, page: Page) -> tuple[list[UpcomingTask], bool]:
    """Return a page of the tasks of a chain that run later or again, soonest first, and whether more follow."""
    return await fetch_page(pool, _task, page, UPCOMING, chain)


def _task(trigger: str, **columns: Any) -> UpcomingTask:
    try:
        schedule = decode(trigger)
    except msgspec.MsgspecError:
        schedule = None
    return UpcomingTask(schedule=schedule, **columns)
