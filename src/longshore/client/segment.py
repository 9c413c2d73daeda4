"""A builder of segments: which rows an export takes.

    F("timestamp").within(days=1) & (F("amount") >= 10)

`&` joins by `all`, `|` by `any`; a segment has one of them. What the service would refuse is refused here:
unknown fields, operators that do not fit a field's type, values of another kind. What rules mean is in docs/exports.md.
"""

import re
import zoneinfo
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, NoReturn

import msgspec

from longshore.client.errors import SegmentError
from longshore.client.model import Field, Index

Moment = str | date | datetime
Number = int | float | Decimal

EXACT = frozenset({"keyword", "text", "number", "boolean"})
WORDS = frozenset({"keyword", "text"})
ALL = EXACT | {"date"}
DATE = frozenset({"date"})
NUMBER = frozenset({"number"})

MOST_RULES = 100
MOST_VALUES = 1000
MOST_CHARACTERS = 1000
LARGEST = 1e100
"""The API has no `>=` for numbers but a range; this is its other end."""

FACTORS = {
    "minutes": 525_600_000,
    "hours": 8_760_000,
    "days": 365_000,
    "weeks": 52_000,
    "months": 12_000,
    "years": 1_000,
}
WINDOWS = frozenset(
    f"{which}_{unit}" for which in ("this", "last") for unit in ("week", "month", "quarter", "year")
) | {"today", "yesterday"}


class Rules:
    """Rules that are joined by `all` or `any`. Made by F, `&` and `|`."""

    def __init__(self, rules: Sequence["Rule"], join: Literal["all", "any"] | None) -> None:
        self.rules = tuple(rules)
        self.join = join

    def __and__(self, other: "Rules") -> "Rules":
        return self._joined(other, "all")

    def __or__(self, other: "Rules") -> "Rules":
        return self._joined(other, "any")

    def _joined(self, other: "Rules", join: Literal["all", "any"]) -> "Rules":
        if not isinstance(other, Rules):
            raise SegmentError(f"expected a rule such as F('amount') > 0, got {other!r}")
        if {self.join, other.join} - {None, join}:
            raise SegmentError("a segment is joined by & alone or by | alone; make two exports, or a wider segment")
        return Rules(self.rules + other.rules, join)

    def __bool__(self) -> NoReturn:
        raise SegmentError("join rules by & and |; `and`, `or`, `not` and chained comparisons see truth, not rules")

    def segment(self, index: Index, chain: int) -> dict[str, Any]:
        """The segment as the API takes it. Raises SegmentError."""
        if len(self.rules) > MOST_RULES:
            raise SegmentError(f"expected at most {MOST_RULES} rules, got {len(self.rules)}")
        return {
            "entity": "people",
            "index": index.name,
            "join": self.join or "all",
            "chain_id": chain,
            "rules": [rule.resolved(index) for rule in self.rules],
        }


class Rule(Rules):
    """One condition on one field."""

    def __init__(self, field: "F", kinds: frozenset[str], operator: str, **operands: Any) -> None:
        super().__init__((self,), None)
        self._field = field
        self._kinds = kinds
        self._operator = operator
        self._operands = operands

    def __repr__(self) -> str:
        return f"<{self._field.name} {self._operator} {self._operands}>"

    def resolved(self, index: Index) -> dict[str, Any]:
        """The rule as the API takes it, with the field's type. Raises SegmentError."""
        kind, nesting = self._field.kind_in(index)
        if kind not in self._kinds:
            raise SegmentError(f"{self._field.name} is a {kind} field, which {self._operator} cannot be used on")
        rule: dict[str, Any] = {"field_name": self._field.name, "field_type": kind, "operator": self._operator}
        for name, value in self._operands.items():
            if name in ("value", "start_date", "end_date", "min", "max"):
                rule[name] = [_read(v, kind) for v in value] if self._operator == "is_one_of" else _read(value, kind)
            elif value is not None:
                rule[name] = value
        low, high = ("min", "max") if kind == "number" else ("start_date", "end_date")
        both = low in rule and high in rule
        # Whether a time lies in a day depends on the zone, so the service compares these.
        alike = both and (
            kind == "number" or len(rule[low]) == len(rule[high]) or ("T" in rule[low] and "T" in rule[high])
        )
        if alike and _comparable(rule[low], kind) > _comparable(rule[high], kind):
            raise SegmentError(f"{self._field.name}: {rule[high]} lies before {rule[low]}")
        return {**rule, "nested": True, "nesting_path": nesting} if nesting else rule


class F:
    """A field of an export index, to make rules of. `items.sku` is the field `sku` of the objects in `items`.

    `type`: `date`, `keyword`, `text`, `number` or `boolean`; left out, it is the one that the index has.
    """

    __hash__ = None  # type: ignore[assignment]  # == makes a rule

    def __init__(self, name: str, type: str | None = None) -> None:
        self.name = name
        self.type = type

    def kind_in(self, index: Index) -> tuple[str, str | None]:
        """The field's type, and the path that it is nested in. Raises SegmentError."""
        fields: dict[str, tuple[Field, str | None]] = {}
        for field in index.fields:
            fields[field.name] = (field, None)
            fields.update({f"{field.name}.{inner.name}": (inner, field.name) for inner in field.fields})
        if self.name not in fields:
            raise SegmentError(f"{index.name} has no field {self.name!r}; it has {', '.join(fields)}")
        found, nesting = fields[self.name]
        if self.type not in (None, found.type):
            raise SegmentError(f"{self.name} is a {found.type} field, not {self.type}")
        return found.type, nesting

    def __eq__(self, value: object) -> Rule:  # type: ignore[override]  # a rule instead of a truth
        return Rule(self, EXACT, "is", value=value)

    def __ne__(self, value: object) -> Rule:  # type: ignore[override]
        return Rule(self, EXACT, "is_not", value=value)

    def __gt__(self, value: Number | Moment) -> Rule:
        return self.after(value) if _is_moment(value) else Rule(self, NUMBER, "is_greater_than", value=value)

    def __lt__(self, value: Number | Moment) -> Rule:
        return self.before(value) if _is_moment(value) else Rule(self, NUMBER, "is_less_than", value=value)

    def __ge__(self, value: Number | Moment) -> Rule:
        return self.between(value, "9999-12-31T23:59:59.999999Z" if _is_moment(value) else LARGEST)

    def __le__(self, value: Number | Moment) -> Rule:
        return self.between("0001-01-01" if _is_moment(value) else -LARGEST, value)

    def is_one_of(self, values: Iterable[Any]) -> Rule:
        """The field equals one of 1 to 1,000 values."""
        found = list(values)
        if not 1 <= len(found) <= MOST_VALUES:
            raise SegmentError(f"expected 1 to {MOST_VALUES} values, got {len(found)}")
        return Rule(self, EXACT, "is_one_of", value=found)

    def is_empty(self) -> Rule:
        """The field has no value, or is the empty string."""
        return Rule(self, ALL, "is_empty")

    def is_not_empty(self) -> Rule:
        """The field has a value, and one that is not the empty string."""
        return Rule(self, ALL, "is_not_empty")

    def contains(self, text: str) -> Rule:
        """The field has the text somewhere in it."""
        return Rule(self, WORDS, "contains", value=text)

    def does_not_contain(self, text: str) -> Rule:
        """The field has a value in which the text is nowhere."""
        return Rule(self, WORDS, "does_not_contain", value=text)

    def starts_with(self, text: str) -> Rule:
        """The field begins with the text."""
        return Rule(self, WORDS, "starts_with", value=text)

    def on(self, day: Moment) -> Rule:
        """The field lies on this day, by the clock of the task's `timezone`, by default UTC."""
        return Rule(self, DATE, "is_date", value=day)

    def after(self, moment: Any) -> Rule:
        """The field is later than this: a time, or a day that is over."""
        return Rule(self, DATE, "is_after_date", start_date=moment)

    def before(self, moment: Any) -> Rule:
        """The field is earlier than this: a time, or the beginning of a day."""
        return Rule(self, DATE, "is_before_date", end_date=moment)

    def between(self, low: Any, high: Any) -> Rule:
        """The field is neither below `low` nor above `high`: two numbers, or two moments of which days count whole."""
        if _is_moment(low):
            return Rule(self, DATE, "is_between_date", start_date=low, end_date=high)
        return Rule(self, NUMBER, "is_between_number", min=low, max=high)

    def in_window(self, window: str, timezone: str | None = None) -> Rule:
        """The field lies in a calendar window such as `yesterday` of a time zone, by default UTC."""
        if window not in WINDOWS:
            raise SegmentError(f"{window!r} is no window; expected one of {', '.join(sorted(WINDOWS))}")
        if timezone is not None and timezone not in zoneinfo.available_timezones() - {"localtime", "Factory"}:
            raise SegmentError(f"{timezone!r} is no IANA time zone, such as Europe/Amsterdam")
        return Rule(self, DATE, "is_in_window", window=window, timezone=timezone)

    def within(self, **ago: int) -> Rule:
        """The field lies less than so long before the beginning of the run: one of `minutes` … `years`."""
        return self._relative("relative_less_than", ago)

    def older_than(self, **ago: int) -> Rule:
        """The field lies more than so long before the beginning of the run: one of `minutes` … `years`."""
        return self._relative("relative_more_than", ago)

    def _relative(self, operator: str, ago: dict[str, int]) -> Rule:
        if len(ago) != 1 or not ago.keys() <= FACTORS.keys():
            raise SegmentError(f"expected one of {', '.join(FACTORS)}, got {', '.join(ago) or 'nothing'}")
        [(unit, amount)] = ago.items()
        if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= FACTORS[unit]:
            raise SegmentError(f"{unit}: expected a whole number from 1 to {FACTORS[unit]}, got {amount!r}")
        return Rule(self, DATE, operator, time_factor=unit.removesuffix("s"), time_amount=amount)


def _is_moment(value: object) -> bool:
    return isinstance(value, str | date)


def _read(value: Any, kind: str) -> Any:
    """An operand as it stands in JSON. Raises SegmentError."""
    match kind:
        case "date":
            return _moment(value)
        case "boolean":
            if not isinstance(value, bool):
                raise SegmentError(f"expected True or False, got {value!r}")
        case "number":
            if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
                raise SegmentError(f"expected a number, got {value!r}")
            number = Decimal(str(value))
            if not number.is_finite() or abs(number.adjusted()) > 100 or len(number.as_tuple().digits) > 100:
                raise SegmentError(f"expected a number of at most 100 digits, got {value!r}")
            return (
                number if isinstance(value, int) and abs(value) >= 2**63 else value
            )  # JSON ints end there for msgspec
        case _:
            if not isinstance(value, str):
                raise SegmentError(f"expected a string, got {value!r}")
            if "\x00" in value or len(value) > MOST_CHARACTERS:
                raise SegmentError(f"expected at most {MOST_CHARACTERS} characters without U+0000")
    return value


def _moment(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise SegmentError(f"{value!r} has no time zone; give it one, such as datetime.UTC")
    if isinstance(value, date):
        value = value.isoformat()
    expected = f"expected a date (2026-05-26) or a time with its offset (2026-05-26T12:00:00Z), got {value!r}"
    if not isinstance(value, str):
        raise SegmentError(expected)
    try:
        _comparable(value, "date")
    except (ValueError, OverflowError, msgspec.ValidationError):
        raise SegmentError(expected) from None
    return value


def _comparable(value: Any, kind: str) -> Any:
    if kind == "number":
        return Decimal(str(value))
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        return datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC)
    moment = msgspec.convert(value, datetime)
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment.astimezone(UTC)
