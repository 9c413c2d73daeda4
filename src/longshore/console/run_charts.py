"""The charts of a task's runs: a timeline, and bar charts of rows, bytes and seconds."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from longshore.console.charts import BarValue, Chart, TimeRange, bar_chart, change_of, timeline
from longshore.console.rendering import in_bytes, in_digits, in_seconds
from longshore.tasks.model import Run, StateCode


class RunCharts(msgspec.Struct, frozen=True):
    """The charts of a task's runs, and what the newest result differs by from the one before."""

    time: Chart
    bar_charts: list[Chart]
    change: str | None


def of_runs(runs: Sequence[Run]) -> RunCharts | None:
    """Return the charts of runs, the newest of which is the first; None where there are none to compare."""
    if len(runs) < 2:
        return None
    oldest_first = list(reversed(runs))
    charts = [
        bar_chart("Rows", [_bar(run, run.rows) for run in oldest_first], in_digits),
        bar_chart("Size", [_bar(run, run.bytes) for run in oldest_first], in_bytes),
        bar_chart("Duration", [_bar(run, run.seconds or 0) for run in oldest_first], in_seconds),
    ]
    return RunCharts(_line(oldest_first), charts, _change(runs))


def _bar(run: Run, value: float) -> BarValue:
    return BarValue(f"run {run.run}", [(run.state.lower(), value)], always=True)


def _line(runs: Sequence[Run]) -> Chart:
    starts = [run.began for run in runs]
    ends = [_end(run) for run in runs]
    spans = [
        TimeRange(
            run.began, _end(run), run.state.lower(), f"run {run.run}: {run.state}, {in_seconds(run.seconds) or 'runs'}"
        )
        for run in runs
    ]
    return timeline("When they ran", spans, min(starts), max(*ends, min(starts) + timedelta(seconds=1)))


def _end(run: Run) -> datetime:
    if run.ended is not None:
        return run.ended
    return max(run.began, datetime.now(run.began.tzinfo))


def _change(runs: Sequence[Run]) -> str | None:
    done = [run for run in runs if run.state == StateCode.DONE][:2]
    if len(done) < 2:
        return None
    newest, before = done
    change = change_of(newest.rows, before.rows)
    return f"Run {newest.run} has {in_digits(newest.rows)} rows, {change} run {before.run}"
