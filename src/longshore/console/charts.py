"""Charts: their geometry, which templates draw as SVG. Widths are percentages, so that text keeps its size."""

from collections.abc import Callable, Sequence
from datetime import date, datetime

import msgspec

HEIGHT = 100
"""Of a bar chart, in pixels."""
MIN_HEIGHT = 2.0
"""Of a bar that is not nothing."""
MIN_WIDTH = 0.4
"""Of a time range, in percent."""
FILLED = 0.75
"""The part of its place that a bar fills; the rest is the gap to the next one."""
MAX_WIDTH = 6.0
"""Of a bar, in percent."""
LINE_HEIGHT, MARGIN = 24, 3
"""Pixels of a timeline, and those above and below its bars."""


class Bar(msgspec.Struct, frozen=True):
    """A rectangle of a chart. `x` and `width` are percentages, `y` and `height` pixels."""

    x: float
    width: float
    y: float
    height: float
    kind: str
    """A class of the style sheet: `done`, `error`, `inprogress`."""
    title: str


class BarValue(msgspec.Struct, frozen=True):
    """A bar, from its parts, the lowest first."""

    label: str
    parts: Sequence[tuple[str, float]]
    """Kind and value."""
    text: str | None = None
    """The value as a text; None: as the chart formats its values."""
    always: bool = False
    """Whether it is drawn although its value is zero, such as that of a run that failed."""

    @property
    def value(self) -> float:
        """Return the whole."""
        return sum(value for _, value in self.parts)


class Chart(msgspec.Struct, frozen=True):
    """A bar chart, or a timeline."""

    title: str
    bars: list[Bar]
    max: str
    """The greatest value, at the top of the axis."""
    first: str | date | datetime
    last: str | date | datetime
    """The ends of the other axis."""
    height: int = HEIGHT


def bar_chart(title: str, values: Sequence[BarValue], format_value: Callable[[float], str]) -> Chart:
    """Return a bar chart from zero to the greatest value."""
    greatest = max((each.value for each in values), default=0)
    place = 100 / max(1, len(values))
    width = min(place * FILLED, MAX_WIDTH)
    bars = []
    for number, each in enumerate(values):
        top = float(HEIGHT)
        for kind, value in each.parts:
            if not value and not each.always:
                continue
            height = max(MIN_HEIGHT, value / greatest * HEIGHT) if greatest else MIN_HEIGHT
            top = max(0.0, top - height)
            label = f"{each.label}: {each.text or format_value(each.value)}"
            x = number * place + (place - width) / 2
            bars.append(Bar(round(x, 3), round(width, 3), round(top, 1), round(height, 1), kind, label))
    ends = (values[0].label, values[-1].label) if values else ("", "")
    return Chart(title, bars, format_value(greatest), *ends)


class TimeRange(msgspec.Struct, frozen=True):
    """A bar of a timeline."""

    start: datetime
    end: datetime
    kind: str
    title: str


def timeline(title: str, ranges: Sequence[TimeRange], start: datetime, end: datetime) -> Chart:
    """Return time ranges as bars, from `start` to `end`."""
    whole = max(1.0, (end - start).total_seconds())

    def place(moment: datetime) -> float:
        return min(100.0, max(0.0, (moment - start).total_seconds() / whole * 100))

    bars = []
    for each in ranges:
        width = max(MIN_WIDTH, place(each.end) - place(each.start))
        x = min(place(each.start), 100 - width)
        bars.append(Bar(round(x, 3), round(width, 3), MARGIN, LINE_HEIGHT - 2 * MARGIN, each.kind, each.title))
    return Chart(title, bars, "", start, end, LINE_HEIGHT)


def change_of(value: float, before: float) -> str:
    """Return how a value compares with the one before, such as `50 % less than`."""
    if value == before:
        return "as many as"
    percent = abs(value - before) / before * 100 if before else float("inf")
    how = "more than" if value > before else "less than"
    if percent == float("inf"):
        return how
    return f"{percent:,.0f} % {how}" if percent >= 0.5 else "nearly as many as"
