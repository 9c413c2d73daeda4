"""Segments: the rules that say which rows an export takes, checked here and turned into SQL.

Values never become SQL text: they travel beside it as parameters. Names come from the catalog. A row whose field is
NULL matches no rule on that field, negations included.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from longshore.exports.catalog import FieldType, Index
from longshore.faults import Fault, pointer, suggestion

MOST_RULES = 100
MOST_CHARACTERS = 1000

# How many of each unit make a thousand years; PostgreSQL's calendar does not reach much further back.
FACTORS = {
    "minute": ("mins", 525_600_000),
    "hour": ("hours", 8_760_000),
    "day": ("days", 365_000),
    "week": ("weeks", 52_000),
    "month": ("months", 12_000),
    "year": ("years", 1_000),
}


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One condition on one field."""

    field_name: str
    field_type: str
    operator: str
    value: Any = None
    start_date: str | None = None
    end_date: str | None = None
    time_factor: str | None = None
    time_amount: int | None = None
    min: Any = None
    max: Any = None
    nested: bool | None = None
    nesting_path: str | None = None


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules joined by all or any."""

    entity: Literal["people"]
    index: str
    join: Literal["all", "any"]
    chain_id: int
    rules: list[Rule]


class Condition(msgspec.Struct, frozen=True):
    """A condition in SQL with the parameters it uses, `$1` first."""

    sql: str
    values: tuple[Any, ...]


Bind = Callable[[Any], str]
"""Takes a value and gives the placeholder that stands for it."""

DATE, KEYWORD, TEXT, NUMBER, BOOLEAN = FieldType
EXACT = (KEYWORD, TEXT, NUMBER, BOOLEAN)
WORDS = (KEYWORD, TEXT)

# Operator: the field types it can be used on, and the keys it needs.
OPERATORS: dict[str, tuple[tuple[FieldType, ...], tuple[str, ...]]] = {
    "is": (EXACT, ("value",)),
    "is_not": (EXACT, ("value",)),
    "contains": (WORDS, ("value",)),
    "does_not_contain": (WORDS, ("value",)),
    "is_date": ((DATE,), ("value",)),
    "is_after_date": ((DATE,), ("start_date",)),
    "is_before_date": ((DATE,), ("end_date",)),
    "is_between_date": ((DATE,), ("start_date", "end_date")),
    "relative_less_than": ((DATE,), ("time_factor", "time_amount")),
    "relative_more_than": ((DATE,), ("time_factor", "time_amount")),
    "is_between_number": ((NUMBER,), ("min", "max")),
}
OPERANDS = ("value", "start_date", "end_date", "time_factor", "time_amount", "min", "max")


def check_rules(segment: Segment, index: Index, at: str) -> list[Fault]:
    """What is wrong with the rules of a segment for this index; `at` is the segment's JSON pointer."""
    faults: list[Fault] = []
    rules_at = pointer(at, "rules")
    if len(segment.rules) > MOST_RULES:
        faults.append(Fault(f"expected at most {MOST_RULES} rules", rules_at))
    if not segment.rules and segment.join == "any":
        faults.append(Fault("`any` of no rules matches nothing; add a rule or join by `all`", rules_at))
    for number, rule in enumerate(segment.rules):
        _check_rule(rule, index, pointer(rules_at, number), faults)
    return faults


def _check_rule(rule: Rule, index: Index, at: str, faults: list[Fault]) -> None:
    before = len(faults)
    field = index.fields.get(rule.field_name)
    if field is None:
        hint = suggestion(rule.field_name, index.fields)
        faults.append(Fault(f"no field of this index{hint}", pointer(at, "field_name")))
    elif field.type != rule.field_type:
        faults.append(Fault(f"expected {field.type.value!r}, the type of this field", pointer(at, "field_type")))
    if rule.nested or rule.nesting_path:
        faults.append(
            Fault("this index has no nested fields", pointer(at, "nested" if rule.nested else "nesting_path"))
        )
    known = OPERATORS.get(rule.operator)
    if known is None:
        hint = suggestion(rule.operator, OPERATORS)
        faults.append(Fault(f"unknown operator{hint}", pointer(at, "operator")))
        return
    kinds, needed = known
    if field is not None and field.type not in kinds:
        usable = ", ".join(name for name, (types, _) in OPERATORS.items() if field.type in types)
        faults.append(Fault(f"cannot be used on a {field.type.value}; use one of {usable}", pointer(at, "operator")))
        return
    for name in OPERANDS:
        given = getattr(rule, name) is not None
        if given and name not in needed:
            faults.append(Fault(f"is not used by {rule.operator!r}", pointer(at, name)))
        elif not given and name in needed:
            faults.append(Fault(f"is required by {rule.operator!r}", pointer(at, name)))
    if field is not None and len(faults) == before:
        _check_operands(rule, field.type, at, faults)


def _check_operands(rule: Rule, kind: FieldType, at: str, faults: list[Fault]) -> None:
    before = len(faults)
    for name in ("value", "start_date", "end_date", "min", "max"):
        operand = getattr(rule, name)
        if operand is not None:
            try:
                _read(operand, kind)
            except ValueError as error:
                faults.append(Fault(str(error), pointer(at, name)))
    if rule.time_factor is not None and rule.time_amount is not None:
        if rule.time_factor not in FACTORS:
            faults.append(Fault(f"expected one of {', '.join(FACTORS)}", pointer(at, "time_factor")))
        elif not 1 <= rule.time_amount <= FACTORS[rule.time_factor][1]:
            most = FACTORS[rule.time_factor][1]
            faults.append(Fault(f"expected 1 to {most}", pointer(at, "time_amount")))
    if len(faults) == before and rule.operator.startswith("is_between_"):
        low, high = ("min", "max") if kind is NUMBER else ("start_date", "end_date")
        if _read(getattr(rule, low), kind) > _read(getattr(rule, high), kind):
            faults.append(Fault(f"lies before {low}", pointer(at, high)))


def _read(operand: Any, kind: FieldType) -> Any:
    """An operand as the value that PostgreSQL is given. Raises ValueError saying what was expected."""
    if kind is DATE:
        return read_time(operand)
    if kind is BOOLEAN:
        if not isinstance(operand, bool):
            raise ValueError("expected true or false")
        return operand
    if kind is NUMBER:
        if isinstance(operand, bool) or not isinstance(operand, int | float | Decimal):
            raise ValueError("expected a number")
        number = Decimal(str(operand))
        if not number.is_finite() or abs(number.adjusted()) > 100 or len(number.as_tuple().digits) > 100:
            raise ValueError("expected a number of at most 100 digits")
        return number
    if not isinstance(operand, str):
        raise ValueError("expected a string")
    if "\x00" in operand:
        raise ValueError("expected a string without U+0000")
    if len(operand) > MOST_CHARACTERS:
        raise ValueError(f"expected at most {MOST_CHARACTERS} characters")
    try:
        operand.encode()
    except UnicodeEncodeError:
        raise ValueError("expected a string without lone surrogates") from None
    return operand


def read_time(operand: Any) -> datetime:
    """An ISO 8601 time with its offset, or a date for its first moment in UTC, as a time in UTC. Raises ValueError."""
    expected = "expected a date (2026-05-26) or a time with its offset (2026-05-26T12:00:00Z)"
    if not isinstance(operand, str):
        raise ValueError(expected)
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", operand, re.ASCII):
            return datetime.combine(date.fromisoformat(operand), datetime.min.time(), UTC)
        moment = msgspec.convert(operand, datetime)
        if moment.tzinfo is None:
            raise ValueError(expected)
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise ValueError(expected) from None


def normalised(segment: Segment) -> Segment:
    """A segment that was checked, with all its times in UTC."""
    return msgspec.structs.replace(segment, rules=[_normalised(rule) for rule in segment.rules])


def _normalised(rule: Rule) -> Rule:
    changes = {}
    for name in ("value", "start_date", "end_date"):
        operand = getattr(rule, name)
        if rule.field_type == DATE and isinstance(operand, str) and "T" in operand.upper().replace(" ", "T"):
            changes[name] = read_time(operand).isoformat().replace("+00:00", "Z")
    return msgspec.structs.replace(rule, **changes) if changes else rule


def condition(segment: Segment, index: Index, began_at: datetime, first: int) -> Condition:
    """A segment that was checked, as SQL.

    `began_at`: when the run began; relative rules count back from here. `first`: the number of the first placeholder.
    """
    values: list[Any] = []

    def bind(value: Any) -> str:
        values.append(value)
        return f"${first + len(values) - 1}"

    parts = [_rule_sql(rule, index, began_at, bind) for rule in segment.rules]
    joined = (" and " if segment.join == "all" else " or ").join(f"({part})" for part in parts)
    return Condition(joined or "true", tuple(values))


def _rule_sql(rule: Rule, index: Index, began_at: datetime, bind: Bind) -> str:
    column = index.expression(rule.field_name)
    kind = index.fields[rule.field_name].type
    match rule.operator:
        case "is" | "is_not" | "contains" | "does_not_contain":
            return _exact_sql(rule, column, kind, bind)
        case "is_date":
            day = bind(_read(rule.value, kind).replace(hour=0, minute=0, second=0, microsecond=0))
            return f"{column} >= {day}::timestamptz and {column} < {day}::timestamptz + interval '24 hours'"
        case "is_after_date":
            return f"{column} > {bind(_read(rule.start_date, kind))}::timestamptz"
        case "is_before_date":
            return f"{column} < {bind(_read(rule.end_date, kind))}::timestamptz"
        case "is_between_date":
            start, end = bind(_read(rule.start_date, kind)), bind(_read(rule.end_date, kind))
            return f"{column} >= {start}::timestamptz and {column} <= {end}::timestamptz"
        case "is_between_number":
            low, high = bind(_read(rule.min, kind)), bind(_read(rule.max, kind))
            return f"{column} >= {low}::numeric and {column} <= {high}::numeric"
        case "relative_less_than" | "relative_more_than":
            unit = FACTORS[str(rule.time_factor)][0]
            began = f"{bind(began_at)}::timestamptz"
            limit = f"{began} - make_interval({unit} => {bind(rule.time_amount)}::int)"
            if rule.operator == "relative_more_than":
                return f"{column} < {limit}"
            # The upper end makes two runs fit together: what came after this one began is the next one's.
            return f"{column} >= {limit} and {column} < {began}"
    raise AssertionError(rule.operator)


def _exact_sql(rule: Rule, column: str, kind: FieldType, bind: Bind) -> str:
    cast = {KEYWORD: "text", TEXT: "text", NUMBER: "numeric", BOOLEAN: "boolean"}[kind]
    value = f"{bind(_read(rule.value, kind))}::{cast}"
    if kind in WORDS:
        column += "::text"  # the column may be an enum, a uuid, …
    if kind is TEXT:
        column, value = f"lower({column})", f"lower({value})"
    match rule.operator:
        case "is":
            return f"{column} = {value}"
        case "is_not":
            return f"{column} <> {value}"
        case "contains":
            return f"position({value} in {column}) > 0"
    return f"position({value} in {column}) = 0"
