"""The data intervals of runs that requests ask for. Those of a schedule's own runs are made by the scheduler."""

from datetime import datetime

import msgspec

from longshore.database.connect import Connection
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.schedule import Schedule, decode, is_time, preceding, times, uncomputable, utc_text
from longshore.validation import ValidationError, Violation

STATE = (
    "select trigger, schedule_ended, covered_until, now() as now from longshore.tasks where id = $1 and chain_id = $2"
)

# The newest run for a time of the trigger: with `catch_up: "one"` its interval covers several times.
RECORDED = """
select interval_start from longshore.runs
where task_id = $1 and interval_end = $2 and due_at is not null
order by run desc
limit 1
"""


class ScheduleState(msgspec.Struct, frozen=True):
    """The schedule of a task and how far its runs have come."""

    trigger: str
    schedule_ended: bool
    """Whether it was cancelled, or is invalid."""
    covered_until: datetime | None
    """The end of the schedule's newest run; None before the first."""
    now: datetime


async def schedule_state(connection: Connection, chain: ChainId, task: TaskId) -> ScheduleState:
    """Return the schedule of a task and how far its runs have come. Raises NotFoundError."""
    row = await connection.fetchrow(STATE, task, chain)
    if row is None:
        raise NotFoundError("task-not-found")
    return ScheduleState(**row)


async def until_now(connection: Connection, chain: ChainId, task: TaskId) -> Interval:
    """Return the interval of a run that begins at a request: from the end of the schedule's newest run until now.

    Without a schedule, or before its first run, it has no start. Raises NotFoundError.
    """
    state = await schedule_state(connection, chain, task)
    start, end = state.covered_until, state.now.replace(microsecond=0)
    try:
        repeats = decode(state.trigger).repeats
    except msgspec.MsgspecError:
        repeats = False
    return Interval(start if repeats and start is not None and start <= end else None, end)


async def of_time(connection: Connection, chain: ChainId, task: TaskId, end: datetime) -> Interval:
    """Return the interval of a time of a task's schedule: that of the run for it, else that of the calendar.

    Raises NotFoundError, ProblemError for a task without a schedule, and ValidationError for another time.
    """
    state = await schedule_state(connection, chain, task)
    run = await connection.fetchrow(RECORDED, task, end)
    try:
        schedule = decode(state.trigger)
        if not schedule.repeats:
            raise ProblemError("no-intervals", "The task's trigger has neither `repeat` nor `cron`.")
        if state.schedule_ended:
            raise ProblemError("no-schedule")
        return _of_calendar(schedule, end, state.now) if run is None else Interval(run["interval_start"], end)
    except ProblemError:
        raise
    except Exception as error:  # an invalid trigger, which ends its schedule
        raise ProblemError("no-intervals", f"The task has a schedule, but {uncomputable(error)}.") from error


def _of_calendar(schedule: Schedule, end: datetime, now: datetime) -> Interval:
    before = preceding(schedule, end)
    if not is_time(schedule, end):
        nearest = (before if before and is_time(schedule, before) else None, next(times(schedule, end), None))
        listed = " and ".join(utc_text(time) for time in nearest if time is not None)
        detail = f"{utc_text(end)} is not one of the times of the schedule; the nearest: {listed}"
        raise ValidationError([Violation(detail, "/interval_end")])
    if end > now:
        now = now.replace(microsecond=0)
        raise ValidationError([Violation(f"{utc_text(end)} has not come yet: it is {utc_text(now)}", "/interval_end")])
    return Interval(before, end)
