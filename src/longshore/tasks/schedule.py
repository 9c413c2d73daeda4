"""The times at which a task runs, by the clock of its time zone. Pure functions, used by the scheduler.

`repeat` counts from `once` on, by the calendar: a time that a change of clocks skips is taken with the offset
from before (RFC 5545, 3.3.5), one that is repeated is taken the first time, and the 31st becomes the last day of
shorter months. `cron` follows Debian's cron, see https://github.com/cuu508/cronsim.

The cost of a time does not depend on how long ago `once` was: the number of the repetition is computed. For `cron`,
cronsim searches at most 50 years, by the month, in two milliseconds.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError
from dateutil.relativedelta import relativedelta

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""The bounds of all times that a client plans, so that no arithmetic leaves Python's calendar."""

MAX_CRON_CHARACTERS = 200
MISSED_AFTER = timedelta(minutes=1)
"""A run that has not begun this long after its time is missed."""

SECOND = timedelta(seconds=1)


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """The schedule of a task. Times have an offset."""

    once: datetime | None = None
    """The first time; for `cron`, the earliest. A time in the past means now."""
    repeat: Literal["daily", "weekly", "monthly"] | None = None
    cron: str | None = None
    """Minute, hour, day of month, month, day of week."""
    timezone: str = "UTC"
    """IANA name of the time zone that `repeat` and `cron` follow."""
    until: datetime | None = None
    """No run is due after this time, and no missed run is caught up after it."""
    catch_up: Literal["one", "none", "all"] = "one"
    """Treatment of missed runs: one run for all of them, no run, or a run for each."""

    @property
    def repeats(self) -> bool:
        """Whether there may be more than one run."""
        return self.repeat is not None or self.cron is not None


def bounds_violation(moment: datetime) -> str | None:
    """Return why a client may not plan a time: no offset, or out of bounds. None if it may."""
    if moment.tzinfo is None:
        return "expected an offset, such as Z or +02:00"
    if not EARLIEST <= moment <= LATEST:
        return f"expected a time in the years {EARLIEST.year} to {LATEST.year}"
    return None


def times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the times of a schedule that are later than `after`, in order and in UTC.

    Raises ZoneInfoNotFoundError and CronSimError where the schedule cannot be computed on this machine.
    """
    if schedule.cron is not None:
        candidates = _cron_times(schedule, after)
    elif schedule.once is None:
        return
    elif schedule.repeat is not None:
        candidates = _repeated_times(schedule, after)
    else:
        candidates = iter([schedule.once])
    begin = schedule.once or EARLIEST
    end = LATEST if schedule.until is None else min(schedule.until, LATEST)
    for time in candidates:
        if time > end:
            return
        # A day that a zone skipped gives the same moment as the next day. In a repeated hour, cronsim may return a time
        # of the first hour for a start in the second.
        if time > after and time >= begin:
            after = time
            yield time


def first(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when a new task is due, which may be a `once` in the past; None if no time is left."""
    if schedule.until is not None and schedule.until < now:
        return None
    if schedule.cron is None:
        return schedule.once
    return next(times(schedule, now), None)


def following(schedule: Schedule, planned: datetime) -> datetime | None:
    """Return when the run after the one planned for `planned` is due, even in the past; None if there is none."""
    return next(times(schedule, planned), None)


def not_missed(schedule: Schedule, due: datetime, now: datetime) -> datetime | None:
    """Return when a run that was due at `due` and has not begun by `now` is to begin.

    Return `due` for at once, a later time if `catch_up` skips missed runs, and None if no time is left.
    """
    if not schedule.repeats or due > now - MISSED_AFTER:
        return due
    if schedule.catch_up == "none":
        return next(times(schedule, now - MISSED_AFTER), None)
    return None if schedule.until is not None and schedule.until < now - MISSED_AFTER else due


def preview(schedule: Schedule, now: datetime, count: int) -> list[datetime]:
    """Return the next `count` times from `now` on at most. A `once` that has passed means now."""
    due = first(schedule, now)
    if due is None:
        return []
    start = max(due, now)
    return [start, *islice(times(schedule, start), count - 1)]


def cron_violation(expression: str) -> str | None:
    """Return why a cron expression is invalid; None if it is valid."""
    if len(expression) > MAX_CRON_CHARACTERS:
        return f"expected at most {MAX_CRON_CHARACTERS} characters"
    if len(expression.split()) != 5:
        return "expected five fields: minute, hour, day of month, month, day of week"
    try:
        CronSim(expression, EARLIEST)
    except CronSimError as error:
        return f"no cron expression: {str(error).lower()}"
    return None


def _cron_times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    assert schedule.cron is not None
    begin = max(EARLIEST, after if schedule.once is None else max(after, schedule.once - SECOND))
    return (time.astimezone(UTC) for time in CronSim(schedule.cron, begin.astimezone(ZoneInfo(schedule.timezone))))


def _repeated_times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the times of `repeat` from one or more before `after` on."""
    assert schedule.once is not None
    zone = ZoneInfo(schedule.timezone)
    anchor = schedule.once.astimezone(zone).replace(tzinfo=None, fold=0)
    local = max(after, schedule.once).astimezone(zone)
    days = (local.date() - anchor.date()).days
    match schedule.repeat:
        case "daily":
            step, passed = relativedelta(days=1), days
        case "weekly":
            step, passed = relativedelta(weeks=1), days // 7
        case _:
            step, passed = relativedelta(months=1), (local.year - anchor.year) * 12 + local.month - anchor.month
    # Two steps back, because a zone can repeat a day.
    for number in count(max(0, passed - 2)):
        # The first time is `once` itself, even in the second pass of a repeated hour.
        yield schedule.once if number == 0 else (anchor + step * number).replace(tzinfo=zone).astimezone(UTC)
