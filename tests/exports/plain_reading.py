"""The meaning of a segment's rules, row by row of a CSV file in plain Python, without the code that makes SQL.

A row is what the file shows: a string, or None, for each field.
"""

import calendar
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.exports.property_table import BEGAN, FIELDS, SINCE

Row = dict[str, str | None]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(7)}


def selects(segment: dict[str, Any], row: Row) -> bool:
    """Return whether a segment takes a row."""
    joined = all if segment["join"] == "all" else any
    return joined(rule_matches(rule, row) for rule in segment["rules"])


def rule_matches(rule: dict[str, Any], row: Row) -> bool:
    if not rule.get("nested"):
        name = rule["field_name"]
        return value_matches(rule, value_of(row[name], FIELDS[name]["type"]))
    items = json.loads(row["items"] or "null", parse_float=Decimal)
    name = rule["field_name"].removeprefix("items.")
    objects = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return any(value_matches(rule, inner_value(item.get(name), rule["field_type"])) for item in objects)


def value_of(text: str | None, kind: str) -> Any:
    """Return a value of the file as the type of its field."""
    if text is None:
        return None
    match kind:
        case "number":
            return Decimal(text)
        case "boolean":
            return {"true": True, "false": False}[text]
    return text


def inner_value(value: Any, kind: str) -> Any:
    """Return a value in JSON as the type of its field; a value of another type counts as missing."""
    if value is None:
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    match kind:
        case "number":
            return Decimal(text) if re.fullmatch(r"-?[0-9.]+", text) else None
        case "boolean":
            return {"true": True, "false": False}.get(text)
        case "date":
            if not text.startswith("2026") or text.endswith("\n"):
                return None
            try:
                datetime.fromisoformat(text)
            except ValueError:
                return None
    return text


def value_matches(rule: dict[str, Any], value: Any) -> bool:
    kind, operator = rule["field_type"], rule["operator"]
    words = kind in ("keyword", "text")
    if operator == "is_empty":
        return value is None or (words and value == "")
    if value is None:
        return False
    if operator == "is_not_empty":
        return not (words and value == "")
    if kind == "date":
        return date_matches(rule, value)
    if kind == "text":
        value = folded(value)
    operand = rule.get("value")
    if operator == "is_one_of":
        assert operand is not None
        return value in [read(one, kind) for one in operand]
    if operator == "is_between_number":
        return rank(Decimal(str(rule["min"]))) <= rank(value) <= rank(Decimal(str(rule["max"])))
    wanted = read(operand, kind)
    meanings: dict[str, Callable[[], bool]] = {
        "is": lambda: value == wanted,
        "is_not": lambda: value != wanted,
        "contains": lambda: wanted in value,
        "does_not_contain": lambda: wanted not in value,
        "starts_with": lambda: value.startswith(wanted),
        "is_greater_than": lambda: rank(value) > rank(wanted),
        "is_less_than": lambda: rank(value) < rank(wanted),
    }
    return meanings[operator]()


def rank(number: Decimal) -> tuple[bool, Decimal]:
    """Return a key that sorts NaN above all other numbers, as PostgreSQL does."""
    return (True, Decimal(0)) if number.is_nan() else (False, number)


def date_matches(rule: dict[str, Any], text: str) -> bool:
    zone = ZoneInfo(rule.get("timezone") or "UTC")
    if text.endswith("infinity"):
        return rule["operator"] == ("is_before_date" if text.startswith("-") else "is_after_date") or (
            text.startswith("-") and rule["operator"] == "relative_more_than"
        )
    at = moment(text, zone)
    match rule["operator"]:
        case "is_date":
            return local_days(text, zone) == local_days(rule["value"], zone)
        case "is_after_date":
            return at > last_moment(rule["start_date"], zone)
        case "is_before_date":
            return at < moment(rule["end_date"], zone)
        case "is_between_date":
            return moment(rule["start_date"], zone) <= at <= last_moment(rule["end_date"], zone)
        case "relative_less_than":
            return micros(ago(rule, zone)) <= at < micros(BEGAN)
        case "relative_more_than":
            return at < micros(ago(rule, zone))
        case "is_in_interval":
            return micros(SINCE) <= at < micros(BEGAN)
    if not 1900 < int(text[:4]) < 2100 or text[4] != "-":
        return False
    which, _, unit = rule["window"].rpartition("_")
    unit = "day" if unit in ("today", "yesterday") else unit
    place = calendar_place(EPOCH.date() + timedelta(local_days(text, zone)), unit)
    back = 1 if which == "last" or rule["window"] == "yesterday" else 0
    return place == calendar_place(BEGAN.astimezone(zone).date(), unit) - back


def calendar_place(day: date, unit: str) -> int:
    """Return the number of the day, week, month, quarter or year that a day lies in."""
    return {
        "day": day.toordinal(),
        "week": (day.toordinal() - 1) // 7,
        "month": day.year * 12 + day.month,
        "quarter": day.year * 4 + (day.month - 1) // 3,
        "year": day.year,
    }[unit]


def ago(rule: dict[str, Any], zone: ZoneInfo) -> datetime:
    factor: str = rule["time_factor"]
    amount: int = rule["time_amount"]
    if factor in UNITS:
        return BEGAN - amount * UNITS[factor]
    began = BEGAN.astimezone(zone)
    months = began.year * 12 + began.month - 1 - amount * (12 if factor == "year" else 1)
    year, month = months // 12, months % 12 + 1
    day = min(began.day, calendar.monthrange(year, month)[1])
    return began.replace(year=year, month=month, day=day, fold=0).astimezone(UTC)


def micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


CYCLE = 146_097  # days in 400 years
DAY = 86_400_000_000  # microseconds


def parsed(text: str) -> tuple[date, timedelta | None, int]:
    """Return a day of a year with the same calendar, the time since midnight in UTC, and the years it was moved by."""
    found = re.fullmatch(r"(\d+)-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?([^ ]*))?( BC)?", text)
    assert found is not None, text
    year = 1 - int(found[1]) if found[8] else int(found[1])
    near = year if 1800 < year < 2400 else (year - 1) % 400 + (401 if year < 1800 else 2401)
    day = date(near, int(found[2]), int(found[3]))
    if found[4] is None:
        return day, None, (year - near) // 400
    offset = datetime.fromisoformat(f"2000-01-01T00:00:00{found[7]}").utcoffset() if found[7] else None
    time = timedelta(hours=int(found[4]), minutes=int(found[5]), microseconds=int(Decimal(found[6] or 0) * 1_000_000))
    return day, time - (offset or timedelta(0)), (year - near) // 400


def moment(text: str, zone: ZoneInfo) -> int:
    """Return a time in microseconds since 1970; a day begins as soon as the zone's calendar shows it."""
    day, time, cycles = parsed(text)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return micros(begin(day, zone) if time is None else at + time) + cycles * CYCLE * DAY


def begin(day: date, zone: ZoneInfo) -> datetime:
    """Return the first second at which a zone's calendar shows a day, by bisection."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    low, high = midnight - timedelta(hours=30), midnight + timedelta(hours=30)
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (low, middle) if middle.astimezone(zone).date() >= day else (middle, high)
    return high


def last_moment(text: str, zone: ZoneInfo) -> int:
    """Return a time, or the last microsecond of a day."""
    day, time, cycles = parsed(text)
    if time is not None:
        return moment(text, zone)
    return micros(begin(day + timedelta(days=1), zone)) + cycles * CYCLE * DAY - 1


def local_days(text: str, zone: ZoneInfo) -> int:
    """Return the day that a zone's calendar shows at a time, counted from 1970."""
    day, time, cycles = parsed(text)
    if time is not None:
        day = (datetime(day.year, day.month, day.day, tzinfo=UTC) + time).astimezone(zone).date()
    return (day - EPOCH.date()).days + cycles * CYCLE


def read(operand: Any, kind: str) -> Any:
    if kind == "number":
        return Decimal(str(operand))
    return folded(operand) if kind == "text" else operand


def folded(text: str) -> str:
    return "".join(letter.lower() for letter in text)
