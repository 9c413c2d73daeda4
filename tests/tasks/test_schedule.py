"""At which times a schedule runs a task, by a calendar's plain reading."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.tasks.schedule import Schedule, cron_fault, first, following, preview, times

AMSTERDAM = "Europe/Amsterdam"
ZONES = [AMSTERDAM, "UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def shown(schedule: Schedule, after: str, count: int) -> list[str]:
    zone = ZoneInfo(schedule.timezone)
    return [f"{time.astimezone(zone):%Y-%m-%d %H:%M%z}" for time in islice(times(schedule, at(after)), count)]


def test_three_in_the_morning_stays_three_in_the_morning_through_summer_time() -> None:
    daily = Schedule(once=at("2026-03-28T03:00+01:00"), repeat="daily", timezone=AMSTERDAM)
    assert shown(daily, "2026-03-27T00:00Z", 3) == [
        "2026-03-28 03:00+0100", "2026-03-29 03:00+0200", "2026-03-30 03:00+0200",
    ]  # fmt: skip


def test_the_hour_that_is_missing_is_taken_with_the_offset_from_before() -> None:
    daily = Schedule(once=at("2026-03-28T02:30+01:00"), repeat="daily", timezone=AMSTERDAM)
    assert shown(daily, "2026-03-28T12:00Z", 2) == ["2026-03-29 03:30+0200", "2026-03-30 02:30+0200"]
    cron = Schedule(cron="30 2 * * *", timezone=AMSTERDAM)
    assert shown(cron, "2026-03-28T12:00Z", 2) == ["2026-03-29 03:00+0200", "2026-03-30 02:30+0200"]


def test_the_hour_that_comes_twice_is_taken_once() -> None:
    for schedule in (
        Schedule(once=at("2026-10-24T02:30+02:00"), repeat="daily", timezone=AMSTERDAM),
        Schedule(cron="30 2 * * *", timezone=AMSTERDAM),
    ):
        assert shown(schedule, "2026-10-24T12:00Z", 2) == ["2026-10-25 02:30+0200", "2026-10-26 02:30+0100"]


def test_the_31st_becomes_the_last_day_of_shorter_months_and_comes_back() -> None:
    monthly = Schedule(once=at("2026-01-31T06:00Z"), repeat="monthly")
    assert [text[:10] for text in shown(monthly, "2026-01-01T00:00Z", 5)] == [
        "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31",
    ]  # fmt: skip


def test_nothing_runs_after_until() -> None:
    daily = Schedule(once=at("2026-01-01T06:00Z"), repeat="daily", until=at("2026-01-03T06:00Z"))
    assert len(list(times(daily, at("2025-01-01T00:00Z")))) == 3
    assert first(Schedule(cron="0 0 * * *", until=at("2026-01-01T00:00Z")), at("2026-06-01T00:00Z")) is None


@given(
    repeat=st.sampled_from(["daily", "weekly", "monthly"]),
    zone=st.sampled_from(ZONES),
    once=st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),
    later=st.integers(-1000, 20_000),
)
def test_repeated_times_are_those_of_the_calendar(repeat: Any, zone: str, once: datetime, later: int) -> None:
    schedule = Schedule(once=once.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC), repeat=repeat, timezone=zone)
    assert schedule.once is not None
    after = schedule.once + timedelta(days=later, minutes=later)
    found = list(islice(times(schedule, after), 5))
    assert found == sorted(set(found))
    assert all(time > after for time in found)
    start = schedule.once.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    expected: list[datetime] = []
    day = max(start.date(), after.date() - timedelta(days=40))
    while len(expected) < 5:
        if _is_day_of(repeat, start.date(), day):
            time = datetime.combine(day, start.time(), ZoneInfo(zone)).astimezone(UTC)
            expected += [time] if time > after else []
        day += timedelta(days=1)
    assert found == expected


def _is_day_of(repeat: str, start: date, day: date) -> bool:
    if repeat == "monthly":
        return day.day == start.day or (day.day < start.day and (day + timedelta(days=1)).day == 1)
    return (day - start).days % (1 if repeat == "daily" else 7) == 0


def test_what_came_due_meanwhile_is_run_once_or_each_time() -> None:
    planned, now = at("2026-01-01T06:00Z"), at("2026-01-04T07:00Z")
    daily: dict[str, Any] = {"once": planned, "repeat": "daily"}
    assert following(Schedule(**daily), planned, now) == now
    assert following(Schedule(**daily, catch_up="all"), planned, now) == at("2026-01-02T06:00Z")
    assert following(Schedule(**daily), now, now) == at("2026-01-05T06:00Z")
    assert following(Schedule(once=planned), planned, now) is None


def test_a_preview_begins_with_now_where_once_has_passed() -> None:
    now = at("2026-01-04T07:00Z")
    assert preview(Schedule(once=at("2026-01-01T06:00Z")), now, 10) == [now]
    daily = preview(Schedule(once=at("2026-01-01T06:00Z"), repeat="daily"), now, 10)
    assert (len(daily), daily[:2]) == (10, [now, at("2026-01-05T06:00Z")])


@pytest.mark.parametrize("text", ["* * * *", "@daily", "0 0 * * * *", "61 * * * *", "0 0 30 2 *", "a b c d e"])
def test_what_is_no_cron_expression_is_told(text: str) -> None:
    assert cron_fault(text)
