"""The times at which a task runs, by the clock of its time zone. Pure functions, used by the scheduler.

`repeat` counts from `once` on, by the calendar: a time that a change of clocks skips is taken with the offset
from before (RFC 5545, 3.3.5), one that is repeated is taken the first time, and the 31st becomes the last day of
shorter months. `cron` follows Debian's cron, see https://github.com/cuu508/cronsim.

The cost of a time does not depend on how long ago `once` was: the number of the repetition is computed. For `cron`,
at most 50 years are searched, by the month, in two milliseconds; in 40 where a zone skips all times of those years.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import merge
from itertools import count, islice, tee
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
MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MAX_SEARCH = timedelta(days=50 * 366)  # for the next time of a cron expression; cronsim searches no further either


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """The schedule of a task. Times have an offset."""

    once: datetime | None = None
    """The first time; for `cron`, the earliest. Where it has passed, the first run begins at once."""
    repeat: Literal["daily", "weekly", "monthly"] | None = None
    cron: str | None = None
    """Minute, hour, day of month, month, day of week."""
    timezone: str = "UTC"
    """IANA name of the zone whose clock `repeat`, `cron` and date rules without a zone of their own follow."""
    until: datetime | None = None
    """No run is due after this time, and no missed run is caught up after it."""
    catch_up: Literal["one", "none", "all"] = "one"
    """Treatment of missed runs: one run for all of them, no run, or a run for each."""

    @property
    def repeats(self) -> bool:
        """Whether there may be more than one run."""
        return self.repeat is not None or self.cron is not None


DECODER = msgspec.json.Decoder(Schedule)


def decode(trigger: str | bytes) -> Schedule:
    """Return the schedule of a stored trigger. Raises msgspec.MsgspecError if this version cannot read it."""
    return DECODER.decode(trigger)


def same_times(one: str, other: str) -> bool:
    """Return whether two stored triggers have the same schedule; False if one of them cannot be decoded."""
    try:
        return decode(one) == decode(other)
    except msgspec.MsgspecError:
        return False


def uncomputable(error: Exception) -> str:
    """Return a log entry that says why a stored trigger has no times, and what to do."""
    return f"its times cannot be computed ({type(error).__name__}: {error}); change the trigger to begin a new one"


def bounds_violation(moment: datetime) -> str | None:
    """Return why a client may not plan a time: no offset, or out of bounds. None if it may."""
    if moment.tzinfo is None:
        return "expected an offset, such as Z or +02:00"
    if not EARLIEST <= moment <= LATEST:
        return f"expected a time in the years {EARLIEST.year} to {LATEST.year}"
    return None


def times(schedule: Schedule, after: datetime, *, bounded: bool = True) -> Iterator[datetime]:
    """Yield the times of a schedule that are later than `after`, in order and in UTC.

    `bounded`: whether `once` is the earliest of them; else the calendar of `repeat` and `cron` also reaches back.
    Raises ZoneInfoNotFoundError and CronSimError where the schedule cannot be computed on this machine.
    """
    begin, end = _bounds(schedule, bounded=bounded)
    if schedule.cron is not None:
        candidates = _cron_times(schedule, max(after, begin - SECOND))
    elif schedule.once is None:
        return
    elif schedule.repeat is not None:
        candidates = _repeated_times(schedule, after, bounded=bounded)
    else:
        candidates = iter([schedule.once])
    for time in candidates:
        if time > end:
            return
        # A day that a zone skipped gives the same moment as the next day.
        if time > after and time >= begin:
            after = time
            yield time


def first(schedule: Schedule, now: datetime, covered_until: datetime | None = None) -> datetime | None:
    """Return when a new trigger is first due, which is at once where that is in the past; None if no time is left.

    Where the `once` of a schedule has passed, it is the newest time before `now`, unless the runs of the trigger before
    have covered that time: `covered_until`.
    """
    if schedule.until is not None and schedule.until < now:
        return None
    if not schedule.repeats:
        return schedule.once
    if _has_begun(schedule, now):
        due = latest_time(schedule, schedule.once or EARLIEST, now)
        if covered_until is None or due > covered_until:
            return due
    return next(times(schedule, now if covered_until is None else max(now, covered_until)), None)


def following(schedule: Schedule, cursor: datetime) -> datetime | None:
    """Return when the run after the one due at `cursor` is due, even in the past; None if there is none."""
    return next(times(schedule, cursor), None)


def latest_time(schedule: Schedule, after: datetime, now: datetime, *, bounded: bool = True) -> datetime:
    """Return the newest time of a schedule up to `now`; `after` where there is none between the two.

    The cost does not depend on the number of times between. `bounded`: as for `times`.
    """
    begin, end = _bounds(schedule, bounded=bounded)
    high = min(now, end)
    if schedule.cron is not None:
        found = next((time for time in _cron_times(schedule, high, newest_first=True) if time <= high), after)
        return max(found, after) if found >= begin else after
    low, middle = after, after
    while high - low >= SECOND:
        time = next(times(schedule, middle, bounded=bounded), None)
        if time is not None and time <= high:
            low = time
        else:
            high = middle
        middle = low + (high - low) / 2
    time = next(times(schedule, low, bounded=bounded), None)  # of the last second, too
    return low if time is None or time > high else time


def preceding(schedule: Schedule, time: datetime) -> datetime | None:
    """Return the time before a time by the calendar of a schedule, even before `once`; None if there is none."""
    found = latest_time(schedule, EARLIEST, time - MICROSECOND, bounded=False)
    return None if found == EARLIEST else found


def is_time(schedule: Schedule, moment: datetime) -> bool:
    """Return whether a moment is one of the times of a schedule."""
    return next(times(schedule, moment - SECOND), None) == moment


def begin_time(schedule: Schedule, due: datetime, now: datetime) -> datetime | None:
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
    if schedule.until is not None and schedule.until < now:
        return []
    if _has_begun(schedule, now):
        return [now, *islice(times(schedule, now), count - 1)]
    return list(islice(times(schedule, now), count))


def utc_text(moment: datetime) -> str:
    """Return a time in UTC, as answers and log entries show it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


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


def _has_begun(schedule: Schedule, now: datetime) -> bool:
    """Return whether a schedule has a `once`, and a time since then that has passed."""
    if schedule.once is None:
        return False
    time = next(times(schedule, schedule.once - SECOND), None)
    return time is not None and time <= now


def _bounds(schedule: Schedule, *, bounded: bool) -> tuple[datetime, datetime]:
    """Return the earliest and the latest time that a schedule may have. `bounded`: as for `times`."""
    begin = schedule.once if bounded and schedule.once is not None else EARLIEST
    return begin, LATEST if schedule.until is None else min(schedule.until, LATEST)


def _cron_times(schedule: Schedule, start: datetime, *, newest_first: bool = False) -> Iterator[datetime]:
    """Yield the times of `cron` after a moment, or newest first up to it; some on its other side may come before.

    Given a zone, cronsim may search for ever where the clock goes back over midnight, such as for `5 */2 * * 0` in
    America/St_Johns on 27 October 2002. So it knows the clock alone, which this moves over changes.
    """
    assert schedule.cron is not None
    zone = ZoneInfo(schedule.timezone)
    if newest_first:
        begin, step = max(_local(start, zone), _local(start - DAY, zone) + DAY) + MINUTE, -MINUTE
    else:
        begin, step = min(_local(start, zone), _local(start + DAY, zone) - DAY), MINUTE
    if not any(field.startswith("*") for field in schedule.cron.split()[:2]):
        # At fixed times of a day: one that the clock skips is taken after the change, a repeated one the first time.
        return (_moment(time, zone) for time in CronSim(schedule.cron, begin, reverse=newest_first))
    passes = enumerate(tee(_shown_times(schedule.cron, begin, step, zone)))
    return merge(*(map(partial(_moment, zone=zone, fold=fold), shown) for fold, shown in passes), reverse=newest_first)


def _shown_times(cron: str, begin: datetime, step: timedelta, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the local times of a cron expression that the clock of a zone does not skip, until none comes for long."""
    newest, found = begin, CronSim(cron, begin, reverse=step < timedelta())
    while (time := next(found, None)) is not None and abs(time - newest) < MAX_SEARCH:
        if _is_shown(time, zone):
            newest = time
            yield time
        else:  # on from the end of the gap, as each minute of each year's gap may be a time
            while not _is_shown(time + step, zone):
                time += step
            found = CronSim(cron, time, reverse=step < timedelta())


def _moment(time: datetime, zone: ZoneInfo, fold: int = 0) -> datetime:
    """Return when the clock of a zone shows a time; for one that it skips, when it shows the next minute after that.

    `fold`: 1 for the second pass of a repeated hour.
    """
    while not _is_shown(time, zone):
        time += MINUTE
    return time.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _is_shown(time: datetime, zone: ZoneInfo) -> bool:
    return _local(time.replace(tzinfo=zone).astimezone(UTC), zone) == time


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return what the clock of a zone shows."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _repeated_times(schedule: Schedule, after: datetime, *, bounded: bool) -> Iterator[datetime]:
    """Yield the times of `repeat` from one or more before `after` on."""
    assert schedule.once is not None
    zone = ZoneInfo(schedule.timezone)
    anchor = _local(schedule.once, zone)
    local = (max(after, schedule.once) if bounded else after).astimezone(zone)
    days = (local.date() - anchor.date()).days
    match schedule.repeat:
        case "daily":
            step, passed = relativedelta(days=1), days
        case "weekly":
            step, passed = relativedelta(weeks=1), days // 7
        case _:
            step, passed = relativedelta(months=1), (local.year - anchor.year) * 12 + local.month - anchor.month
    # Two steps back, because a zone can repeat a day.
    for number in count(max(0, passed - 2) if bounded else passed - 2):
        # The first time is `once` itself, even in the second pass of a repeated hour.
        yield schedule.once if number == 0 else (anchor + step * number).replace(tzinfo=zone).astimezone(UTC)
