"""Intervals of a schedule follow each other without hole or overlap, whatever clocks do and however late runs are.

`make soak` does the same for all time zones and four years.
"""

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.database.connect import Pool
from longshore.exports.catalog import FieldType
from longshore.exports.columns import choices, columns_of
from longshore.exports.segments.rules import Rule, Segment
from longshore.exports.segments.sql import condition
from longshore.tasks.model import Interval
from longshore.tasks.schedule import Schedule, first, is_time, latest_time, preceding, times
from tests.exports.engine import index_over
from tests.tasks.test_schedule import SCHEDULES
from tests.tasks.tiling import CHANGES, DAY, HOUR, assert_tiles, changes, intervals, schedules

CATCH_UPS = ("all", "one", "none")
MINUTE = timedelta(minutes=1)
LATE = (timedelta(0), timedelta(seconds=59), MINUTE, 7 * MINUTE, HOUR, 5 * HOUR, DAY, 3 * DAY, 16 * DAY)
ROWS = """
create temp table rows as
select 1764::bigint as chain_id, at, at at time zone 'UTC' as local, (at at time zone 'UTC')::date as day
from generate_series(timestamptz '{}', timestamptz '{}', '1 minute') at
"""


def lateness(seed: int, longest: timedelta = LATE[-1]) -> Iterator[timedelta]:
    """Yield how late each run is; most are on time."""
    dice = random.Random(seed)
    few = [late for late in LATE if late <= longest]
    return (dice.choice(few) if dice.random() < 0.2 else timedelta(seconds=dice.random()) for _ in itertools.count())


def test_zones_of_the_tiling_tests_change_their_clock_but_two() -> None:
    still = [zone for zone, year in CHANGES.items() if not changes(zone, year)]
    assert still == ["Asia/Kolkata", "UTC"]
    assert len(CHANGES) > 30


@pytest.mark.parametrize("zone", CHANGES)
def test_intervals_leave_no_hole_and_do_not_overlap_where_the_clock_changes(zone: str) -> None:
    """Each schedule with another `catch_up`; over all zones, each with each."""
    turn = itertools.cycle(CATCH_UPS)
    for _ in range(list(CHANGES).index(zone)):
        next(turn)
    for moment in changes(zone, CHANGES[zone]) or [datetime(CHANGES[zone], 3, 29, tzinfo=UTC)]:
        for number, schedule in enumerate(schedules(zone, moment, turn)):
            created = moment - 2 * DAY - HOUR
            found = intervals(schedule, created, moment + 2 * DAY, lateness(number, DAY))
            assert_tiles(schedule, created, found)


def test_day_of_23_or_25_hours_is_one_interval() -> None:
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-05-26", 24)):
        nightly = Schedule(cron="0 0 * * *", timezone="Europe/Amsterdam", catch_up="all")
        created = datetime.fromisoformat(f"{day}T12:00Z") - 2 * DAY
        found = intervals(nightly, created, created + 4 * DAY, itertools.repeat(HOUR))
        lengths = {each.end: each.end - each.start for each in found if each.start}
        assert lengths.popitem()[1] == timedelta(hours=24)
        assert lengths.popitem()[1] == timedelta(hours=hours)


@given(
    schedule=SCHEDULES.filter(lambda each: each.repeats and (each.repeat is None or each.once is not None)),
    catch_up=st.sampled_from(CATCH_UPS),
    created=st.datetimes(datetime(2020, 1, 1), datetime(2150, 1, 1)),
    seed=st.integers(0, 10**6),
)
def test_intervals_of_any_schedule_leave_no_hole_and_do_not_overlap(
    schedule: Schedule, catch_up: Any, created: datetime, seed: int
) -> None:
    created = created.replace(tzinfo=UTC)
    once = schedule.once and schedule.once.replace(microsecond=0)
    schedule = msgspec.structs.replace(schedule, catch_up=catch_up, once=once)
    due = first(schedule, created)
    if due is None:
        return
    length = (next(times(schedule, due), due) - due) * 12
    found = intervals(schedule, created, max(created, due) + length, lateness(seed))
    if found:
        assert_tiles(schedule, created, found)


@given(
    schedule=SCHEDULES.filter(lambda each: each.repeats and (each.repeat is None or each.once is not None)),
    now=st.datetimes(datetime(1950, 1, 1), datetime(2199, 1, 1)),
    reach=st.timedeltas(timedelta(0), timedelta(days=3000)),
)
def test_newest_time_is_the_last_of_those_up_to_now(schedule: Schedule, now: datetime, reach: timedelta) -> None:
    now = now.replace(tzinfo=UTC, microsecond=0)
    once = schedule.once and schedule.once.replace(microsecond=0)
    schedule = msgspec.structs.replace(schedule, once=once)
    passed = list(itertools.takewhile(lambda time: time <= now, itertools.islice(times(schedule, now - reach), 500)))
    if len(passed) < 500:
        assert latest_time(schedule, now - reach, now) == (passed[-1] if passed else now - reach)
    for before, after in itertools.pairwise(passed[:10]):
        assert preceding(schedule, after) == before
        assert is_time(schedule, after)
        assert not is_time(schedule, after + MINUTE / 2)


def test_each_row_of_a_table_with_a_row_a_minute_is_in_one_interval(run: Any) -> None:
    index = index_over("pg_temp.rows", at=FieldType.DATE, local=FieldType.DATE, day=FieldType.DATE)
    dice = random.Random(1)

    async def test(pool: Pool) -> None:
        for zone, year in CHANGES.items():
            moment = dice.choice(changes(zone, year) or [datetime(year, 3, 29, tzinfo=UTC)])
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(ROWS.format(moment - 3 * DAY, moment + 3 * DAY))
                columns = {each.name: each for each in await columns_of(connection, index, choices(None, index))}
                for schedule in dice.sample([*schedules(zone, moment, itertools.cycle(CATCH_UPS))][1:], 3):
                    found = intervals(schedule, moment - 2 * DAY, moment + 2 * DAY, lateness(1, DAY))
                    rule = Rule(dice.choice(list(index.fields)), "date", "is_in_interval", timezone=zone)
                    segment = Segment("people", "rows", "all", 1764, [rule])
                    conditions = [condition(segment, index, columns, interval, 1).sql for interval in found]
                    # Of all intervals together, as those before the first run and after the last are no part of it.
                    together = condition(segment, index, columns, Interval(None, found[-1].end), 1).sql
                    taken = " + ".join(f"({each})::int" for each in conditions)
                    counted = await connection.fetch(
                        f"select {taken} as n, count(*) from rows where {together} group by 1"
                    )
                    assert [row["n"] for row in counted] == [1], (schedule, rule, counted)
                await connection.execute("drop table pg_temp.rows")

    run(test)
