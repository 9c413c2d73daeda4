"""The runs of a schedule under a clock that a test sets: the scheduler's own decisions, without a database."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.schedule import MISSED_AFTER, SECOND, Schedule, first, following, is_time, times
from longshore.tasks.scheduler import DueTask, decide

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

# Zone and year, so that each kind of change is there: by an hour, half an hour, two hours, a whole day; at midnight, a
# minute after it, twice in a month; daylight saving time that is negative, begins, or is abolished.
CHANGES = {
    "Europe/Amsterdam": 2026, "Europe/Dublin": 2026, "Europe/Istanbul": 2016, "Europe/Moscow": 2014,
    "Europe/Volgograd": 2020, "America/New_York": 2026, "America/Santiago": 2026, "America/Asuncion": 2024,
    "America/Havana": 2026, "America/Sao_Paulo": 2018, "America/Caracas": 2016, "America/St_Johns": 2010,
    "America/Nuuk": 2023, "America/Scoresbysund": 2024, "America/Godthab": 2024, "Atlantic/Azores": 2026,
    "Africa/Cairo": 2026, "Africa/Casablanca": 2026, "Africa/El_Aaiun": 2025, "Africa/Khartoum": 2017,
    "Africa/Juba": 2021, "Africa/Sao_Tome": 2018, "Africa/Windhoek": 2017, "Antarctica/Troll": 2026,
    "Antarctica/Casey": 2020, "Asia/Beirut": 2026, "Asia/Gaza": 2025, "Asia/Tehran": 2022, "Asia/Amman": 2022,
    "Asia/Pyongyang": 2018, "Asia/Kathmandu": 1985, "Asia/Almaty": 2024, "Asia/Chita": 2016, "Asia/Kolkata": 2026,
    "Australia/Lord_Howe": 2026, "Australia/Sydney": 2026, "Pacific/Apia": 2011, "Pacific/Fakaofo": 2011,
    "Pacific/Kwajalein": 1993, "Pacific/Kiritimati": 1994, "Pacific/Chatham": 2026, "Pacific/Norfolk": 2015,
    "Pacific/Auckland": 2026, "Pacific/Bougainville": 2014, "UTC": 2026,
}  # fmt: skip

CRONS = ("*/15 * * * *", "0 * * * *", "30 2 * * *", "0,30 2 * * *", "30 1-3 * * *", "0 0 * * *", "59 23 * * *")
REPEATS = ((0, 0), (0, 30), (2, 30))
"""Local times of day of daily schedules."""


def changes(zone: str, year: int) -> list[datetime]:
    """Return the hours of a year within which a zone's clock changes."""
    place, at, found = ZoneInfo(zone), datetime(year, 1, 1, tzinfo=UTC), []
    while at.year == year:
        if at.astimezone(place).utcoffset() != (at + HOUR).astimezone(place).utcoffset():
            found.append(at)
        at += HOUR
    return found


def schedules(zone: str, around: datetime, catch_ups: Iterator[Any]) -> Iterator[Schedule]:
    """Yield schedules of a zone that begin some days before a moment, each with the next of `catch_ups`."""
    begin = (around - 3 * DAY).astimezone(ZoneInfo(zone))
    for cron in CRONS:
        yield Schedule(cron=cron, timezone=zone, catch_up=next(catch_ups))
    for hour, minute in REPEATS:
        once = begin.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0).astimezone(UTC)
        yield Schedule(once=once, repeat="daily", timezone=zone, catch_up=next(catch_ups))


def intervals(schedule: Schedule, created: datetime, end: datetime, late: Iterator[timedelta]) -> list[Interval]:
    """Return the intervals of a schedule's runs up to `end`; each run is looked at so late after it was due.

    Raises AssertionError where a run is not the one that `catch_up` asks for.
    """
    found: list[Interval] = []
    trigger = msgspec.json.encode(schedule).decode()
    due, now = first(schedule, created), created
    while due is not None and (now := max(now, due) + next(late)) < end:
        covered = found[-1].end if found else None
        decision = decide(DueTask(TaskId(1), ChainId(1), trigger, due, covered, now, catch_up=None))
        if decision.later is not None:
            assert schedule.catch_up == "none"
            assert due <= now - MISSED_AFTER
            due = decision.later
            continue
        interval = decision.interval
        assert interval is not None, decision
        assert_caught_up(schedule, due, now, interval)
        found.append(interval)
        due = following(schedule, interval.end)
    return found


def assert_caught_up(schedule: Schedule, due: datetime, now: datetime, interval: Interval) -> None:
    """Raise AssertionError where a due run that is looked at now is not for the time that `catch_up` asks for."""
    after = next(times(schedule, interval.end), None)
    match schedule.catch_up:
        case "all":
            assert interval.end == due
        case "one":
            assert due <= interval.end <= now
            assert after is None or after > now
        case "none":
            assert now - MISSED_AFTER < interval.end <= now


def assert_tiles(schedule: Schedule, created: datetime, found: list[Interval]) -> None:
    """Raise AssertionError where intervals leave a hole, overlap, or end at no time of their schedule."""
    assert found[0].start is None
    for before, after in itertools.pairwise(found):
        assert after.start == before.end < after.end
    for interval in found:
        assert is_time(schedule, interval.end)
        assert interval.end.microsecond == 0
    if schedule.catch_up == "all":
        begin = found[0].end - SECOND
        listed = times(schedule, begin)
        assert [interval.end for interval in found] == [next(listed) for _ in found]
        assert begin <= created or next(times(schedule, created)) == found[0].end
