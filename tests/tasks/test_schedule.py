"""At which times a schedule runs a task, by a calendar's plain reading."""

import time
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.tasks.schedule import (
    EARLIEST,
    Schedule,
    begin_time,
    bounds_violation,
    cron_violation,
    first,
    following,
    latest_time,
    preview,
    times,
)

AMSTERDAM = "Europe/Amsterdam"
ZONES = [AMSTERDAM, "UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def shown(schedule: Schedule, after: str, count: int) -> list[str]:
    zone = ZoneInfo(schedule.timezone)
    return [f"{time.astimezone(zone):%Y-%m-%d %H:%M%z}" for time in islice(times(schedule, at(after)), count)]


def test_daily_run_stays_at_its_hour_of_the_clock_through_summer_time() -> None:
    daily = Schedule(once=at("2026-03-28T03:00+01:00"), repeat="daily", timezone=AMSTERDAM)
    assert shown(daily, "2026-03-27T00:00Z", 3) == [
        "2026-03-28 03:00+0100", "2026-03-29 03:00+0200", "2026-03-30 03:00+0200",
    ]  # fmt: skip


def test_repeat_takes_a_skipped_time_with_the_offset_from_before() -> None:
    daily = Schedule(once=at("2026-03-28T02:30+01:00"), repeat="daily", timezone=AMSTERDAM)
    assert shown(daily, "2026-03-28T12:00Z", 2) == ["2026-03-29 03:30+0200", "2026-03-30 02:30+0200"]
    cron = Schedule(cron="30 2 * * *", timezone=AMSTERDAM)
    assert shown(cron, "2026-03-28T12:00Z", 2) == ["2026-03-29 03:00+0200", "2026-03-30 02:30+0200"]


@pytest.mark.timeout(20)
def test_search_for_a_time_ends_where_the_clock_goes_back_over_midnight() -> None:
    cron = Schedule(cron="5 */2 * * 0", timezone="America/St_Johns", once=at("2002-10-26T12:00Z"))
    assert shown(cron, "2002-10-26T12:00Z", 2) == ["2002-10-27 00:05-0330", "2002-10-27 02:05-0330"]
    assert first(cron, at("2002-10-27T06:00Z")) == at("2002-10-27T05:35Z")


def test_change_of_clocks_by_half_an_hour_leaves_out_no_time_of_a_cron_expression() -> None:
    cron = Schedule(cron="0 */3 * * *", timezone="Australia/Lord_Howe")
    assert shown(cron, "2023-09-30T13:00Z", 3) == [
        "2023-10-01 00:00+1030", "2023-10-01 03:00+1100", "2023-10-01 06:00+1100",
    ]  # fmt: skip


def test_newest_time_of_a_rare_cron_expression_since_1900_takes_a_few_milliseconds() -> None:
    cron = Schedule(cron="0 0 29 2 */7", timezone="America/New_York", once=at("1900-01-01T00:00Z"))
    began = time.process_time()
    assert first(cron, at("2026-11-27T00:00Z")) == at("2004-02-29T05:00Z")
    assert time.process_time() - began < 0.03


@pytest.mark.timeout(20)
@pytest.mark.parametrize("cron", ["*/10 2 * 3 0L", "* 2 * 3 0L", "*/10 2 * 3 0#5"])
def test_cron_expression_whose_times_a_zone_always_skips_has_no_time_and_is_soon_found_to_have_none(cron: str) -> None:
    schedule = Schedule(cron=cron, timezone="Europe/Berlin")
    began = time.process_time()
    assert first(schedule, at("2026-11-27T00:00Z")) is None
    assert time.process_time() - began < 0.2


def test_times_of_a_cron_expression_go_on_after_ten_years_in_which_the_clock_skips_them() -> None:
    cron = Schedule(cron="*/30 2 * 4 0L", timezone="America/New_York")  # the change of clocks there until 1986
    assert shown(cron, "1976-12-01T00:00Z", 2) == ["1987-04-26 02:00-0400", "1987-04-26 02:30-0400"]
    assert latest_time(cron, at("1950-01-01T00:00Z"), at("1986-12-01T00:00Z")) == at("1975-04-27T06:30Z")


@pytest.mark.parametrize("cron", ["0 0 29 2 */7", "*/5 0 29 2 */7"])
def test_newest_time_of_a_rare_cron_expression_that_ended_long_ago_takes_a_few_milliseconds(cron: str) -> None:
    schedule = Schedule(cron=cron, timezone="Europe/Berlin", until=at("1990-01-01T00:00Z"))
    began = time.process_time()
    newest = latest_time(schedule, EARLIEST, at("2026-11-27T00:00Z"))
    assert newest.astimezone(ZoneInfo("Europe/Berlin")).date() == date(1976, 2, 29)
    assert time.process_time() - began < 0.03


def test_schedule_takes_a_repeated_time_once() -> None:
    for schedule in (
        Schedule(once=at("2026-10-24T02:30+02:00"), repeat="daily", timezone=AMSTERDAM),
        Schedule(cron="30 2 * * *", timezone=AMSTERDAM),
    ):
        assert shown(schedule, "2026-10-24T12:00Z", 2) == ["2026-10-25 02:30+0200", "2026-10-26 02:30+0100"]


@pytest.mark.parametrize(
    ("cron", "skipped", "repeated"),
    [
        (
            "*/15 2 * * *", [],
            [f"02:{minute:02}+{offset}" for offset in ("0200", "0100") for minute in (0, 15, 30, 45)],
        ),
        ("30 */2 * * *", [], ["02:30+0200", "02:30+0100"]),
        ("0 * * * *", ["01:00+0100", "03:00+0200"], ["01:00+0200", "02:00+0200", "02:00+0100", "03:00+0100"]),
        ("30 2 * * *", ["03:00+0200"], ["02:30+0200"]),
        ("0,30 2 * * *", ["03:00+0200"], ["02:00+0200", "02:30+0200"]),
        ("30 1-3 * * *", ["01:30+0100", "03:00+0200", "03:30+0200"], ["01:30+0200", "02:30+0200", "03:30+0100"]),
    ],
)  # fmt: skip
def test_cron_follows_the_wall_clock_only_where_minute_or_hour_begins_with_a_star(
    cron: str, skipped: list[str], repeated: list[str]
) -> None:
    schedule = Schedule(cron=cron, timezone=AMSTERDAM)
    for day, expected in (("2026-03-29", skipped), ("2026-10-25", repeated)):
        found = [text for text in shown(schedule, f"{day}T00:00+02:00", 12) if f"{day} 01" <= text < f"{day} 04"]
        assert [text[11:] for text in found] == expected


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 6 13 * FRI", ["02", "09", "13", "16", "23", "30"]),
        ("0 6 */2 * MON", ["05", "19"]),
        ("0 6 * * MON", ["05", "12", "19", "26"]),
        ("0 6 L * *", ["31"]),
        ("0 6 LW * *", ["30"]),
        ("0 6 * * 5L", ["30"]),
        ("0 6 * * 1#2", ["12"]),
        ("0 6 * * 7", ["04", "11", "18", "25"]),
    ],
)
def test_cron_joins_the_two_days_by_or_and_by_and_where_one_begins_with_a_star(cron: str, days: list[str]) -> None:
    found = shown(Schedule(cron=cron), "2026-01-01T00:00Z", 10)
    assert [text[8:10] for text in found if text.startswith("2026-01")] == days


def test_the_31st_becomes_the_last_day_of_shorter_months_and_comes_back() -> None:
    monthly = Schedule(once=at("2026-01-31T06:00Z"), repeat="monthly")
    assert [text[:10] for text in shown(monthly, "2026-01-01T00:00Z", 5)] == [
        "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31",
    ]  # fmt: skip


def test_schedule_has_no_time_after_until() -> None:
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


def test_run_that_was_missed_is_run_or_left_out_as_catch_up_says() -> None:
    planned, now = at("2026-01-01T06:00Z"), at("2026-01-04T07:00Z")
    daily: dict[str, Any] = {"once": planned, "repeat": "daily"}
    due = at("2026-01-02T06:00Z")
    assert following(Schedule(**daily), planned) == due
    assert following(Schedule(**daily), now) == at("2026-01-05T06:00Z")
    assert begin_time(Schedule(**daily), due, now) == due
    assert begin_time(Schedule(**daily, catch_up="all"), due, now) == due
    assert begin_time(Schedule(**daily, catch_up="none"), due, now) == at("2026-01-05T06:00Z")
    assert begin_time(Schedule(**daily, catch_up="none"), due, due + timedelta(seconds=59)) == due
    assert begin_time(Schedule(**daily, catch_up="none"), due, at("2026-01-04T06:00:30Z")) == at("2026-01-04T06:00Z")


@pytest.mark.parametrize("catch_up", ["one", "none", "all"])
def test_missed_run_is_not_caught_up_after_until(catch_up: Any) -> None:
    until = at("2026-01-03T06:00Z")
    daily = Schedule(once=at("2026-01-01T06:00Z"), repeat="daily", until=until, catch_up=catch_up)
    assert begin_time(daily, until, until + timedelta(seconds=59)) == until
    assert begin_time(daily, at("2026-01-02T06:00Z"), until + timedelta(hours=1)) is None
    assert begin_time(daily, until, until + timedelta(days=2)) is None


def test_once_follows_a_run_that_was_executed_before_its_time() -> None:
    once = at("2026-01-02T06:00Z")
    assert following(Schedule(once=once), at("2026-01-01T06:00Z")) == once
    assert following(Schedule(once=once), once) is None


def test_schedule_whose_until_has_passed_has_no_first_time() -> None:
    over = Schedule(once=at("2020-01-01T00:00Z"), repeat="daily", until=at("2021-01-01T00:00Z"))
    assert first(over, at("2026-01-01T00:00Z")) is None
    assert preview(over, at("2026-01-01T00:00Z"), 10) == []


def test_schedule_whose_once_has_passed_begins_with_its_newest_time_unless_runs_have_covered_it() -> None:
    now, newest = at("2026-05-26T12:00Z"), at("2026-05-26T06:00Z")
    for schedule in (
        Schedule(once=at("2020-01-01T06:00Z"), repeat="daily"),
        Schedule(once=at("2020-01-01T06:00Z"), cron="0 6 * * *"),
    ):
        assert first(schedule, now) == newest
        assert first(schedule, now, newest - timedelta(seconds=1)) == newest
        assert first(schedule, now, newest) == newest + timedelta(days=1)
        assert preview(schedule, now, 2) == [now, newest + timedelta(days=1)]
    assert first(Schedule(cron="0 6 * * *"), now) == newest + timedelta(days=1), "without `once` there is no first time"
    assert first(Schedule(once=at("2026-05-26T11:00Z"), cron="0 6 * * *"), now) == newest + timedelta(days=1)


def test_no_time_comes_before_once_where_an_hour_comes_twice() -> None:
    once = at("2027-10-31T01:30Z")  # the second half past two in Amsterdam
    for schedule in (
        Schedule(once=once, repeat="daily", timezone=AMSTERDAM),
        Schedule(once=once, cron="30 2 * * *", timezone=AMSTERDAM),
    ):
        found = preview(schedule, at("2026-01-01T00:00Z"), 2)
        assert found[0] >= once
        assert found[1] == found[0] + timedelta(days=1)


def test_cron_returns_no_time_twice_for_a_start_in_a_repeated_hour() -> None:
    nightly = Schedule(cron="30 2 * * *", timezone=AMSTERDAM)
    assert shown(nightly, "2026-10-25T01:00Z", 1) == ["2026-10-26 02:30+0100"]


def test_skipped_day_of_a_zone_gives_no_time_twice() -> None:
    daily = Schedule(once=at("2011-12-28T12:00Z"), repeat="daily", timezone="Pacific/Apia")
    assert [text[:10] for text in shown(daily, "2011-12-28T12:00Z", 3)] == ["2011-12-29", "2011-12-31", "2012-01-01"]


EXPRESSIONS = st.builds(
    " ".join,
    st.tuples(
        st.sampled_from(["0", "*", "*/7", "59", "0,30"]),
        st.sampled_from(["0", "*", "*/5", "23", "2"]),
        st.sampled_from(["*", "29", "30", "31", "L", "LW", "*/30", "1-7"]),
        st.sampled_from(["*", "2", "2,4", "*/11", "12"]),
        st.sampled_from(["*", "*/7", "1#5", "5L", "7", "*/3"]),
    ),
)
SCHEDULES = st.builds(
    Schedule,
    once=st.none()
    | st.datetimes(datetime(1900, 1, 1), datetime(2200, 12, 31)).map(lambda time: time.replace(tzinfo=UTC)),
    repeat=st.sampled_from(["daily", "weekly", "monthly", None]),
    cron=st.none() | EXPRESSIONS.filter(lambda text: cron_violation(text) is None),
    timezone=st.sampled_from([*ZONES, "America/Sao_Paulo", "Africa/Cairo", "Pacific/Kwajalein"]),
)


@given(schedule=SCHEDULES, now=st.datetimes(datetime(2020, 1, 1), datetime(2200, 12, 31)))
def test_times_come_in_order_and_cost_little_however_far_apart_they_lie(schedule: Schedule, now: datetime) -> None:
    now = now.replace(tzinfo=UTC)
    preview(schedule, now, 10)  # reads the zone
    began = time.process_time()
    found = preview(schedule, now, 10)
    assert time.process_time() - began < 0.2  # measured: 0.03 at worst
    assert found == sorted(set(found))
    assert all(each >= now and (schedule.once is None or each >= schedule.once) for each in found)


@pytest.mark.parametrize("repeat", ["daily", "weekly", "monthly"])
def test_schedule_that_began_centuries_ago_costs_what_a_new_one_does(repeat: Any) -> None:
    def cost(once: str) -> float:
        schedule = Schedule(once=at(once), repeat=repeat, timezone="America/New_York")
        preview(schedule, at("2200-06-01T00:00Z"), 10)  # reads the zone
        began = time.process_time()
        for _ in range(20):
            preview(schedule, at("2200-06-01T00:00Z"), 10)
        return time.process_time() - began

    assert cost("1900-01-01T00:00Z") < 3 * cost("2200-05-31T00:00Z") + 0.01


@pytest.mark.parametrize(
    "once", ["0001-01-01T00:00Z", "1899-12-31T23:59:59Z", "2201-01-01T00:00Z", "9999-12-31T23:59Z"]
)
def test_time_out_of_bounds_is_a_violation(once: str) -> None:
    assert bounds_violation(datetime.fromisoformat(once)) == "expected a time in the years 1900 to 2200"


def test_times_end_with_the_year_2200() -> None:
    daily = Schedule(once=at("2200-12-30T12:00Z"), repeat="daily")
    assert len(list(times(daily, at("2026-01-01T00:00Z")))) == 2
    assert len(list(times(Schedule(cron="0 12 30,31 12 *"), at("2200-12-01T00:00Z")))) == 2


def test_a_preview_begins_with_now_where_once_has_passed() -> None:
    now = at("2026-01-04T07:00Z")
    assert preview(Schedule(once=at("2026-01-01T06:00Z")), now, 10) == [now]
    daily = preview(Schedule(once=at("2026-01-01T06:00Z"), repeat="daily"), now, 10)
    assert (len(daily), daily[:2]) == (10, [now, at("2026-01-05T06:00Z")])


@pytest.mark.parametrize(
    "text", ["* * * *", "@daily", "0 0 * * * *", "61 * * * *", "0 0 30 2 *", "a b c d e", f"0 0 * * {'1' * 5000}"]
)
def test_invalid_cron_expression_is_a_violation(text: str) -> None:
    assert cron_violation(text)
