"""The geometry of charts, the lines of the week, and times in words."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from longshore.console.charts import HEIGHT, BarValue, TimeRange, bar_chart, change_of, timeline
from longshore.console.rendering import TEMPLATES, in_digits
from longshore.console.schedules import days_of, planned_week
from longshore.tasks.schedule import Schedule
from longshore.tasks.upcoming import UpcomingTask

NOW = datetime(2026, 5, 26, 12, 0, tzinfo=UTC)


def planned(**schedule: object) -> UpcomingTask:
    due = NOW + timedelta(hours=1)
    times = Schedule(**schedule)  # type: ignore[arg-type]
    return UpcomingTask(1, "x", ["users"], "READY", False, times, due, NOW, None, None, NOW)


def test_bars_are_as_high_as_their_values_and_half_is_half() -> None:
    chart = bar_chart("Rows", [BarValue("run 1", [("done", 200)]), BarValue("run 2", [("done", 100)])], in_digits)
    full, half = chart.bars
    assert (full.height, half.height, chart.max) == (HEIGHT, HEIGHT / 2, "200")
    assert half.y + half.height == full.y + full.height == HEIGHT
    assert half.title == "run 2: 100"


def test_failed_run_without_rows_is_still_drawn_and_a_day_without_failures_has_no_red() -> None:
    assert [bar.kind for bar in bar_chart("", [BarValue("", [("error", 0)], always=True)], in_digits).bars] == ["error"]
    assert [bar.kind for bar in bar_chart("", [BarValue("", [("done", 3), ("error", 0)])], in_digits).bars] == ["done"]


def test_short_spans_stay_visible_within_a_timeline() -> None:
    end = NOW + timedelta(days=30)
    chart = timeline("", [TimeRange(NOW, NOW, "done", ""), TimeRange(end, end, "error", "")], NOW, end)
    assert all(bar.width > 0 and bar.x >= 0 and bar.x + bar.width <= 100 for bar in chart.bars)


def test_change_is_shown_in_percent() -> None:
    assert change_of(50, 100) == "50 % less than"
    assert change_of(150, 100) == "50 % more than"
    assert change_of(7, 7) == change_of(0, 0) == "as many as"
    assert change_of(7, 0) == "more than"


def test_days_of_the_week_are_those_of_the_viewer_also_over_a_change_of_clocks() -> None:
    days = days_of(datetime(2026, 10, 23, 23, 0, tzinfo=UTC), ZoneInfo("Europe/Amsterdam"))
    assert days[0] == datetime(2026, 10, 23, 22, 0, tzinfo=UTC)
    assert days[1] - days[0] == timedelta(hours=24)
    assert days[2] - days[1] == timedelta(hours=25)


def test_paused_task_has_only_the_times_to_come_in_the_week() -> None:
    days = days_of(NOW, ZoneInfo("UTC"))
    task = planned(once=NOW - timedelta(days=30), repeat="daily")
    paused = msgspec.structs.replace(task, paused=True, due=NOW - timedelta(days=20))
    times = paused.times(days[-1], 100)
    assert times[0] == NOW + timedelta(days=1)
    assert len(times) == (days[-1] - times[0]).days + 1


def test_frequent_schedule_is_one_band_and_hides_no_weekly_one() -> None:
    days = days_of(NOW, ZoneInfo("UTC"))
    often = planned_week(planned(cron="*/15 * * * *"), days, 2000)
    weekly = planned_week(planned(cron="0 13 * * 2"), days, 2000)
    assert len(often.chart.bars) == 1
    assert often.count.split()[0] == str(len(planned(cron="*/15 * * * *").times(days[-1], 2000)))
    assert "about every 15 min" in often.chart.bars[0].title
    assert (len(weekly.chart.bars), weekly.count) == (1, "1 run")
    office = planned_week(planned(cron="*/15 8-17 * * 1-5"), days, 2000)
    assert len(office.chart.bars) == 5
    cut = planned_week(planned(cron="* * * * *"), days, 100)
    assert (cut.count, cut.chart.bars[-1].kind) == ("more than 100 runs", "planned more")


def test_schedule_of_an_unknown_zone_is_still_listed() -> None:
    assert planned(cron="0 1 * * *", timezone="Nowhere/City").times(NOW + timedelta(days=7), 9) == [
        NOW + timedelta(hours=1)
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-30, "in 30 s"), (40, "40 s ago"), (100, "2 min ago"), (7200, "2 h ago"), (864000, "10 d ago")],
)
def test_times_are_shown_relative_to_now(seconds: int, text: str) -> None:
    message = TEMPLATES.filters["ago"](datetime.now(UTC) - timedelta(seconds=seconds))
    assert message == text or (seconds == -30 and message == "in 29 s")
