"""The times at which a task runs, by the clock of its time zone. Pure functions; the scheduler acts on them.

`repeat` counts from `once` on, by the calendar: an hour that summer time leaves out is taken with the offset from
before (RFC 5545, 3.3.5), one that comes twice is taken the first time, and the 31st becomes the last day of shorter
months. `cron` follows Debian's cron, see https://github.com/cuu508/cronsim.

The cost of a time does not depend on how far `once` lies back: its number is computed, not counted up to. For `cron`,
cronsim looks at 50 years at most, by the month, which takes it two milliseconds.
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
"""The bounds of all times that a client plans. Schedules end with them, so no arithmetic leaves Python's calendar."""

MAX_CRON_CHARACTERS = 200
MISSED_AFTER = timedelta(minutes=1)
"""A run that has not begun so long after its time was missed."""

SECOND = timedelta(seconds=1)


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a task runs. Times are aware."""

    once: datetime | None = None
    """The first time, or for `cron` the earliest moment; in the past it means now."""
    repeat: Literal["daily", "weekly", "monthly"] | None = None
    cron: str | None = None
    """Minute, hour, day of month, month, day of week."""
    timezone: str = "UTC"
    """IANA name of the zone whose clock counts."""
    until: datetime | None = None
    """No run is due later, nor is one made up for after it."""
    catch_up: Literal["one", "none", "all"] = "one"
    """What becomes of runs that the service missed."""

    @property
    def repeats(self) -> bool:
        """Whether there may be more than one run."""
        return self.repeat is not None or self.cron is not None


def bounds_violation(moment: datetime) -> str | None:
    """Return what is wrong with a time that a client plans: without an offset, or out of bounds. None if nothing is."""
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
        # A day that a zone skipped gives the same moment as the next one, and cronsim gives the first of an hour that
        # comes twice also to who asks from within the second.
        if time > after and time >= begin:
            after = time
            yield time


def first(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when a new task is due: `once` as it is, be it in the past; None where no time is left."""
    if schedule.until is not None and schedule.until < now:
        return None
    if schedule.cron is None:
        return schedule.once
    return next(times(schedule, now), None)


def following(schedule: Schedule, planned: datetime) -> datetime | None:
    """Return when the run behind the one that was planned for `planned` is due, be it in the past; None for never."""
    return next(times(schedule, planned), None)


def not_missed(schedule: Schedule, due: datetime, now: datetime) -> datetime | None:
    """Return when to run what was due at `due` and has not begun by `now`.

    `due` itself means now. It is a later time where `catch_up` leaves missed runs out, and None where no time is left.
    """
    if not schedule.repeats or due > now - MISSED_AFTER:
        return due
    if schedule.catch_up == "none":
        return next(times(schedule, now - MISSED_AFTER), None)
    return None if schedule.until is not None and schedule.until < now - MISSED_AFTER else due


def preview(schedule: Schedule, now: datetime, count: int) -> list[datetime]:
    """Return the next times from `now` on, at most so many. A `once` that has passed means now."""
    due = first(schedule, now)
    if due is None:
        return []
    start = max(due, now)
    return [start, *islice(times(schedule, start), count - 1)]


def cron_violation(expression: str) -> str | None:
    """Return what is wrong with a cron expression, if anything."""
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
    # Two steps back, as a zone can repeat a day.
    for number in count(max(0, passed - 2)):
        # The first is `once` as it is, also in the second of two equal hours.
        yield schedule.once if number == 0 else (anchor + step * number).replace(tzinfo=zone).astimezone(UTC)
