"""What the rules of a segment mean, row by row in plain Python; nothing of the code that makes SQL is used."""

import calendar
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.exports.property_table import BEGAN, Row, midnight

UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(7)}


def selects(segment: dict[str, Any], row: Row) -> bool:
    """Whether a segment takes a row."""
    joined = all if segment["join"] == "all" else any
    return joined(rule_matches(rule, row) for rule in segment["rules"])


def rule_matches(rule: dict[str, Any], row: Row) -> bool:
    if not rule.get("nested"):
        return value_matches(rule, plain_value(rule["field_name"], row))
    items = row["items"] if isinstance(row["items"], list) else []
    name = rule["field_name"].removeprefix("items.")
    objects = [item for item in items if isinstance(item, dict)]
    return any(value_matches(rule, inner_value(item.get(name), rule["field_type"])) for item in objects)


def plain_value(name: str, row: Row) -> Any:
    match name:
        case "key":
            return row["Key"]
        case "shouted":
            return None if row["words"] is None else row["words"] + "!"
        case "day":
            return row["day"] and midnight(row["day"])
        case "count" | "id":
            return None if row[name] is None else Decimal(row[name])
    return row[name]


def inner_value(value: Any, kind: str) -> Any:
    """A value in JSON as the type of its field; what is of another type counts as missing."""
    if value is None:
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    match kind:
        case "number":
            return Decimal(text) if re.fullmatch(r"-?[0-9.]+", text) else None
        case "boolean":
            return {"true": True, "false": False}.get(text)
        case "date":
            if not text.startswith("2026"):
                return None
            try:
                at = datetime.fromisoformat(text.replace("Z", "+00:00"))
            except ValueError:
                return None
            return at if at.tzinfo else at.replace(tzinfo=UTC)
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
        return bool(Decimal(str(rule["min"])) <= value <= Decimal(str(rule["max"])))
    wanted = read(operand, kind)
    meanings: dict[str, Callable[[], bool]] = {
        "is": lambda: value == wanted,
        "is_not": lambda: value != wanted,
        "contains": lambda: wanted in value,
        "does_not_contain": lambda: wanted not in value,
        "starts_with": lambda: value.startswith(wanted),
        "is_greater_than": lambda: value > wanted,
        "is_less_than": lambda: value < wanted,
    }
    return meanings[operator]()


def date_matches(rule: dict[str, Any], value: datetime) -> bool:
    match rule["operator"]:
        case "is_date":
            return value.astimezone(UTC).date() == moment(rule["value"]).date()
        case "is_after_date":
            return value > moment(rule["start_date"])
        case "is_before_date":
            return value < moment(rule["end_date"])
        case "is_between_date":
            return moment(rule["start_date"]) <= value <= moment(rule["end_date"])
        case "relative_less_than":
            return ago(rule) <= value < BEGAN
        case "relative_more_than":
            return value < ago(rule)
    zone = ZoneInfo(rule.get("timezone") or "UTC")
    which, _, unit = rule["window"].rpartition("_")
    unit = "day" if unit in ("today", "yesterday") else unit
    place = calendar_place(value.astimezone(zone).date(), unit)
    back = 1 if which == "last" or rule["window"] == "yesterday" else 0
    return place == calendar_place(BEGAN.astimezone(zone).date(), unit) - back


def calendar_place(day: date, unit: str) -> int:
    """The number of the day, week, month, quarter or year that a day lies in."""
    return {
        "day": day.toordinal(),
        "week": (day.toordinal() - 1) // 7,
        "month": day.year * 12 + day.month,
        "quarter": day.year * 4 + (day.month - 1) // 3,
        "year": day.year,
    }[unit]


def ago(rule: dict[str, Any]) -> datetime:
    factor: str = rule["time_factor"]
    amount: int = rule["time_amount"]
    if factor in UNITS:
        return BEGAN - amount * UNITS[factor]
    months = BEGAN.year * 12 + BEGAN.month - 1 - amount * (12 if factor == "year" else 1)
    year, month = months // 12, months % 12 + 1
    return BEGAN.replace(year=year, month=month, day=min(BEGAN.day, calendar.monthrange(year, month)[1]))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text if "T" in text else f"{text}T00:00:00+00:00").astimezone(UTC)


def read(operand: Any, kind: str) -> Any:
    if kind == "number":
        return Decimal(str(operand))
    return folded(operand) if kind == "text" else operand


def folded(text: str) -> str:
    return "".join(letter.lower() for letter in text)
