"""Date rules as spans of time: half-open, from a first moment until before a second one.

Moments are microseconds since 1970 in UTC and days are days since then, because rules reach beyond Python's calendar:
to the day after 9999-12-31, or to 0001-01-01 in a zone east of Greenwich.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from dateutil.relativedelta import relativedelta

from longshore.exports.gregorian import CYCLE_DAYS, CYCLE_YEARS, near, number_of
from longshore.exports.segments.operands import day_of, read_time
from longshore.exports.segments.operators import WINDOWS
from longshore.exports.segments.rules import Rule
from longshore.tasks.model import Interval

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = 86_400_000_000  # microseconds

CALENDAR_FACTORS = ("month", "year")


class Edge(msgspec.Struct, frozen=True):
    """The start or the end of a span."""

    moment: int
    """In microseconds since 1970 UTC."""
    day: int
    """The first day that begins at this moment or later, for columns without a time of day."""


class Span(msgspec.Struct, frozen=True):
    """The times that meet a date rule."""

    start: Edge | None
    """The first moment; None: no bound."""
    end: Edge | None
    """The first moment after it; None: no bound."""


def zone_of(rule: Rule) -> ZoneInfo:
    """Return the time zone of a date rule."""
    return ZoneInfo(rule.timezone or "UTC")


def span(rule: Rule, interval: Interval) -> Span:
    """Return the span of a valid date rule in a run for this data interval."""
    zone = zone_of(rule)
    match rule.operator:
        case "is_date":
            at = str(rule.value)
            day = day_of(at)
            number = local_day(_micros(read_time(at)), zone) if day is None else number_of(day)
            return Span(_day_edge(number, zone), _day_edge(number + 1, zone))
        case "is_after_date":
            return Span(_end_edge(str(rule.start_date), zone), None)
        case "is_before_date":
            return Span(None, _start_edge(str(rule.end_date), zone))
        case "is_between_date":
            return Span(_start_edge(str(rule.start_date), zone), _end_edge(str(rule.end_date), zone))
    start, end = interval_times(rule, interval)
    return Span(None if start is None else _moment_edge(_micros(start), zone), _moment_edge(_micros(end), zone))


def interval_times(rule: Rule, interval: Interval) -> tuple[datetime | None, datetime]:
    """Return the times, in UTC, between which a rule takes rows that depends on the data interval; None is no bound.

    Relative rules and windows count from the end of the interval, so a late run takes the rows of its own time. A
    window ends by the clock of its zone, and months and years are those of that clock. `relative_less_than` has an
    upper end so that runs follow each other without a gap: a newer row belongs to the next run.
    """
    if rule.operator == "is_in_interval":
        return interval.start, interval.end
    zone, counted_from = zone_of(rule), interval.end
    if rule.operator == "is_in_window":
        return _window(str(rule.window), counted_from, zone)
    length = relativedelta(**{f"{rule.time_factor}s": rule.time_amount or 0})  # type: ignore[arg-type]  # names of units
    if rule.time_factor in CALENDAR_FACTORS:
        ago = _in_utc(counted_from.astimezone(zone).replace(tzinfo=None, fold=0) - length, zone)
    else:
        ago = counted_from - length
    return (None, ago) if rule.operator == "relative_more_than" else (ago, counted_from)


def first_moment(day: int, zone: ZoneInfo) -> int:
    """Return the moment at which a day begins in a zone.

    If midnight comes twice, it is the first one; if the clock skips midnight, the moment of that change.
    """
    nearby, _ = near(day)
    local = datetime.combine(nearby, datetime.min.time())
    offset = local.replace(tzinfo=zone, fold=0).utcoffset() or timedelta()
    return day * DAY - offset // MICROSECOND


def local_day(moment: int, zone: ZoneInfo) -> int:
    """Return the day of a moment in a zone."""
    nearby, cycles = near(moment // DAY)
    at = datetime.combine(nearby, datetime.min.time(), UTC) + moment % DAY * MICROSECOND
    return number_of(at.astimezone(zone).date()) + cycles * CYCLE_DAYS


def first_day(moment: int, zone: ZoneInfo) -> int:
    """Return the first day that begins at a moment or later, in a zone."""
    day = local_day(moment, zone)
    return day if first_moment(day, zone) >= moment else day + 1


def day_text(day: int) -> str:
    """Return a day as PostgreSQL reads it, such as `2026-05-26` or `0001-12-31 BC`."""
    at, cycles = near(day)
    year = at.year + cycles * CYCLE_YEARS
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04}-{at:%m-%d}{era}"


def moment_text(moment: int) -> str:
    """Return a moment as PostgreSQL reads it, such as `2026-05-26 12:00:00.000001+00`."""
    time = (datetime.min + moment % DAY * MICROSECOND).time()
    day, _, era = day_text(moment // DAY).partition(" ")
    return f"{day} {time.isoformat()}+00 {era}".rstrip()


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _day_edge(day: int, zone: ZoneInfo) -> Edge:
    return Edge(first_moment(day, zone), day)


def _moment_edge(moment: int, zone: ZoneInfo) -> Edge:
    return Edge(moment, first_day(moment, zone))


def _start_edge(text: str, zone: ZoneInfo) -> Edge:
    day = day_of(text)
    return _moment_edge(_micros(read_time(text)), zone) if day is None else _day_edge(number_of(day), zone)


def _end_edge(text: str, zone: ZoneInfo) -> Edge:
    day = day_of(text)
    return _moment_edge(_micros(read_time(text)) + 1, zone) if day is None else _day_edge(number_of(day) + 1, zone)


def _window(window: str, counted_from: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    unit, back = WINDOWS[window]
    day = counted_from.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    present, length = {
        "day": (day, relativedelta(days=1)),
        "week": (day - timedelta(days=day.weekday()), relativedelta(weeks=1)),
        "month": (day.replace(day=1), relativedelta(months=1)),
        "quarter": (day.replace(day=1, month=day.month - (day.month - 1) % 3), relativedelta(months=3)),
        "year": (day.replace(day=1, month=1), relativedelta(years=1)),
    }[unit]
    start = present - back * length
    return _in_utc(start, zone), _in_utc(start + length, zone)


def _in_utc(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)
