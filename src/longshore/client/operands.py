"""The operands of rules: their forms in JSON, and the days and times beside them."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from numbers import Integral
from typing import Any

import msgspec

from longshore.client.errors import SegmentError

Moment = str | date | datetime

MAX_CHARACTERS = 1000
FIRST_DAY, LAST_DAY = "0001-01-01", "9999-12-31"
"""The days that rules can name."""
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def zone(timezone: str | None) -> str | None:
    """Return a time zone's name. Raises SegmentError."""
    if timezone is None:
        return None
    import zoneinfo

    known = zoneinfo.available_timezones() - {"localtime", "Factory"}
    if known and timezone not in known:  # a system without the data leaves it to the service
        raise SegmentError(f"{timezone!r} is not an IANA time zone such as Europe/Amsterdam")
    return timezone


def is_moment(value: object) -> bool:
    """Return whether a value is a day or a time, and not a number."""
    return isinstance(value, str | date)


def operand(value: Any, kind: str) -> Any:
    """Return an operand in its JSON form. Raises SegmentError."""
    match kind:
        case "date":
            return rule_time(value)
        case "boolean":
            if not isinstance(value, bool):
                raise SegmentError(f"expected True or False, got {value!r}")
        case "number":
            if isinstance(value, Integral) and not isinstance(value, bool):  # also NumPy's
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
                raise SegmentError(f"expected a number, got {value!r}")
            number = Decimal(str(value))
            if not number.is_finite() or abs(number.adjusted()) > 100 or len(number.as_tuple().digits) > 100:
                raise SegmentError(f"expected a number of at most 100 digits, got {value!r}")
            # msgspec writes no larger int.
            return number if isinstance(value, int) and abs(value) >= 2**63 else value
        case _:
            if not isinstance(value, str):
                raise SegmentError(f"expected a string, got {value!r}")
            if "\x00" in value or len(value) > MAX_CHARACTERS:
                raise SegmentError(f"expected at most {MAX_CHARACTERS} characters without U+0000")
    return value


def rule_time(value: Any) -> str:
    """Return a day or a time as a text. Raises SegmentError."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise SegmentError(f"{value!r} has no time zone; give it one, such as datetime.UTC")
    if isinstance(value, date):
        value = value.isoformat()
    elif isinstance(value, str):
        value = str.__str__(value)  # also that of a subclass, such as NumPy's
    expected = f"expected a date (2026-05-26) or a time with its offset (2026-05-26T12:00:00Z), got {value!r}"
    if not isinstance(value, str):
        raise SegmentError(expected)
    try:
        comparable(value, "date")
    except (ValueError, OverflowError, msgspec.ValidationError):
        raise SegmentError(expected) from None
    return value


def neighbor(value: Any, steps: int) -> str | None:
    """Return the day, or of a time the microsecond, that is 1 step after or -1 before; None beyond those of rules.

    A rule of what is after it takes the value itself, and with it PostgreSQL's `infinity`. Raises SegmentError.
    """
    text = rule_time(value)
    try:
        if DAY.fullmatch(text):
            return (date.fromisoformat(text) + timedelta(days=steps)).isoformat()
        return (msgspec.convert(text, datetime) + timedelta(microseconds=steps)).isoformat()
    except OverflowError:
        return None


def comparable(value: Any, kind: str) -> Any:
    """Return the number or the time that an operand in its JSON form stands for. Raises ValueError."""
    if kind == "number":
        return Decimal(str(value))
    if DAY.fullmatch(value):
        return datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC)
    moment = msgspec.convert(value, datetime)
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment.astimezone(UTC)
