"""Schedules: at which times a task runs, by the clock of its time zone. Pure computation; the clock acts on it.

`repeat` counts from `once` on, by the calendar: an hour that summer time leaves out is taken with the offset from
before (RFC 5545, 3.3.5), one that comes twice is taken the first time, and the 31st becomes the last day of shorter
months. `cron` follows Debian's cron, see https://github.com/cuu508/cronsim.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice, takewhile
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError
from dateutil.relativedelta import relativedelta

SECOND = timedelta(seconds=1)
STEPS = {
    "daily": relativedelta(days=1),
    "weekly": relativedelta(weeks=1),
    "monthly": relativedelta(months=1),
}
SHORTEST = {"daily": timedelta(hours=23), "weekly": timedelta(days=6, hours=23), "monthly": timedelta(days=27)}


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
    """No run begins later."""
    catch_up: Literal["one", "none", "all"] = "one"
    """What becomes of runs that the service missed."""

    @property
    def repeats(self) -> bool:
        """Whether there may be more than one run."""
        return self.repeat is not None or self.cron is not None


def times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The times of a schedule later than `after`, in order and in UTC."""
    if schedule.cron is not None:
        found = _by_cron(schedule, after)
    elif schedule.once is None:
        return
    elif schedule.repeat is not None:
        found = (time for time in _repeated(schedule, after) if time > after)
    else:
        found = iter([schedule.once] if schedule.once > after else [])
    until = schedule.until
    yield from found if until is None else takewhile(lambda time: time <= until, found)


def first(schedule: Schedule, now: datetime) -> datetime | None:
    """When a new task is due: `once` as it is, be it in the past; None where no time is left."""
    if schedule.cron is None:
        return schedule.once
    return next(times(schedule, now), None)


def following(schedule: Schedule, planned: datetime, now: datetime) -> datetime | None:
    """When the run behind the one that was planned for `planned` is due, or None where there is none.

    What came due while that one ran is due now: one run stands for all of it, unless `catch_up` wants each.
    """
    if not schedule.repeats:
        return None
    found = next(times(schedule, planned), None)
    return now if found is not None and found <= now and schedule.catch_up != "all" else found


def preview(schedule: Schedule, now: datetime, most: int) -> list[datetime]:
    """The next times from `now` on, at most so many. A `once` that has passed means now."""
    late = schedule.once is not None and schedule.cron is None and schedule.once <= now
    return ([now] if late else []) + list(islice(times(schedule, now), most - late))


def cron_fault(expression: str) -> str | None:
    """What is wrong with a cron expression, if anything."""
    if len(expression.split()) != 5:
        return "expected five fields: minute, hour, day of month, month, day of week"
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        return f"no cron expression: {str(error).lower()}"
    return None


def _by_cron(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    assert schedule.cron is not None
    begin = after if schedule.once is None else max(after, schedule.once - SECOND)
    # What lies within the minute of `begin` is later than it only if `begin` is not yet there; cronsim never gives it.
    return (time.astimezone(UTC) for time in CronSim(schedule.cron, begin.astimezone(ZoneInfo(schedule.timezone))))


def _repeated(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    assert schedule.once is not None
    assert schedule.repeat is not None
    zone = ZoneInfo(schedule.timezone)
    anchor = schedule.once.astimezone(zone).replace(tzinfo=None)
    # So many steps cannot lead beyond `after`; a month has at most 31 days and a few hours.
    longest = SHORTEST[schedule.repeat] + timedelta(days=5 if schedule.repeat == "monthly" else 0, hours=3)
    for number in count(max(0, (after - schedule.once) // longest)):
        try:
            local = anchor + STEPS[schedule.repeat] * number
            yield local.replace(tzinfo=zone, fold=0).astimezone(UTC)
        except (OverflowError, ValueError):  # beyond the year 9999
            return
