"""The operands of rules, as values of PostgreSQL's types."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from longshore.exports.catalog import FieldType

MAX_CHARACTERS = 1000
MAX_VALUES = 1000

DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def read_operands(operand: Any, kind: FieldType) -> list[Any]:
    """Return the values of a list operand. Raises ValueError that says what was expected."""
    if not isinstance(operand, list) or not 1 <= len(operand) <= MAX_VALUES:
        raise ValueError(f"expected an array of 1 to {MAX_VALUES} values")
    return [read_operand(value, kind) for value in operand]


def read_operand(operand: Any, kind: FieldType) -> Any:
    """Return an operand as the value of a parameter. Raises ValueError that says what was expected."""
    match kind:
        case FieldType.DATE:
            return read_time(operand)
        case FieldType.BOOLEAN:
            if not isinstance(operand, bool):
                raise ValueError("expected true or false")
            return operand
        case FieldType.NUMBER:
            return _read_number(operand)
    return _read_text(operand)


def _read_number(operand: Any) -> Decimal:
    if isinstance(operand, bool) or not isinstance(operand, int | float | Decimal):
        raise ValueError("expected a number")
    if isinstance(operand, int) and -(10**18) < operand < 10**18:  # most are, and the checks below are slow
        return Decimal(operand)
    number = Decimal(str(operand))
    if not number.is_finite() or abs(number.adjusted()) > 100 or len(number.as_tuple().digits) > 100:
        raise ValueError("expected a number of at most 100 digits")
    return number


def _read_text(operand: Any) -> str:
    if not isinstance(operand, str):
        raise ValueError("expected a string")
    if "\x00" in operand:
        raise ValueError("expected a string without U+0000")
    if len(operand) > MAX_CHARACTERS:
        raise ValueError(f"expected at most {MAX_CHARACTERS} characters")
    return operand


def day_of(operand: str) -> date | None:
    """Return the day of a date without a time; None for a time."""
    return date.fromisoformat(operand) if DAY.fullmatch(operand) else None


def read_time(operand: Any) -> datetime:
    """Return the UTC time of an ISO 8601 time with offset, or of the first moment of a date. Raises ValueError."""
    expected = "expected a date (2026-05-26) or a time with its offset (2026-05-26T12:00:00Z)"
    if not isinstance(operand, str):
        raise ValueError(expected)
    try:
        if (day := day_of(operand)) is not None:
            return datetime.combine(day, datetime.min.time(), UTC)
        moment = msgspec.convert(operand, datetime)
        if moment.tzinfo is None:
            raise ValueError(expected)
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise ValueError(expected) from None
