"""Segments as SQL.

Values never become SQL text: they travel beside it as parameters. Names come from the catalog. A row whose field is
NULL matches no rule on that field but `is_empty`, negations included.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from dateutil.relativedelta import relativedelta

from longshore.exports.catalog import FieldType, Index
from longshore.exports.segment import (
    BOOLEAN,
    DATE,
    KEYWORD,
    NUMBER,
    TEXT,
    WINDOWS,
    WORDS,
    Rule,
    Segment,
    field_of,
    read,
    read_list,
)

CASTS = {DATE: "timestamptz", KEYWORD: "text", TEXT: "text", NUMBER: "numeric", BOOLEAN: "boolean"}

# Operators that mean other times at another moment.
MOVING = frozenset({"relative_less_than", "relative_more_than", "is_in_window"})


class Condition(msgspec.Struct, frozen=True):
    """A condition in SQL, and the values of its parameters."""

    sql: str
    values: tuple[Any, ...]


Bind = Callable[[Any, str], str]
"""Takes a value and its SQL type and gives the placeholder that stands for it."""


def condition(segment: Segment, index: Index, began_at: datetime, first: int) -> Condition:
    """A segment that was checked, as SQL.

    `began_at`: when the run began; relative rules count back from here. `first`: the number of the first placeholder.
    """
    values: list[Any] = []

    def bind(value: Any, kind: str) -> str:
        values.append(value)
        return f"${first + len(values) - 1}::{kind}"

    parts = [_rule(rule, index, began_at, bind) for rule in segment.rules]
    joined = (" and " if segment.join == "all" else " or ").join(f"({part})" for part in parts)
    return Condition(joined or "true", tuple(values))


def _rule(rule: Rule, index: Index, began_at: datetime, bind: Bind) -> str:
    found = field_of(rule, index)
    assert found is not None
    name, field = found
    if not rule.nested:
        return _matches(rule, index.expression(name), field.type, began_at, bind)
    # A nested rule is met by a row that has at least one object that meets it. What is no array has no objects.
    array = f"({index.expression(rule.nesting_path or '')})::jsonb"
    objects = f"jsonb_path_query_array({array}, 'strict $[*] ? (@.type() == \"object\")', '{{}}', true)"
    test = _matches(rule, _inner(bind(name, "text"), field.type), field.type, began_at, bind)
    return f"exists (select from jsonb_array_elements({objects}) item where {test})"


# How the text of a JSON value reads where it is of the type; what is not counts as missing, as JSON has no columns
# whose type PostgreSQL would have seen to, and one odd value must not end an export.
NUMBER_TEXT = r"^-?\d+(\.\d+)?([eE][+-]?\d{1,3})?$"
DATE_TEXT = (
    r"^(?!0000)\d{4}-\d\d-\d\d([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?)?)?$"
)


def _inner(name: str, kind: FieldType) -> str:
    """SQL of a field inside the object `item`, with its type; `name` is the placeholder of the field's name."""
    text = f"(item ->> {name})"
    match kind:
        case FieldType.NUMBER:
            return f"(case when {text} ~ '{NUMBER_TEXT}' then {text}::numeric end)"
        case FieldType.BOOLEAN:
            return f"(case {text} when 'true' then true when 'false' then false end)"
        case FieldType.DATE:
            # The pattern lets a 30 February pass; read as JSON, it is no date rather than an error.
            day = f"""jsonb_path_exists(to_jsonb(left({text}, 10)), '$.datetime("YYYY-MM-DD")', '{{}}', true)"""
            return f"(case when {text} ~ '{DATE_TEXT}' and {day} then {text}::timestamptz end)"
    return text


def _matches(rule: Rule, column: str, kind: FieldType, began_at: datetime, bind: Bind) -> str:
    if kind in WORDS:
        column = f"{column}::text"  # the column may be an enum, a uuid, …
    match rule.operator:
        case "is_empty":
            return f"{column} is null or {column} = ''" if kind in WORDS else f"{column} is null"
        case "is_not_empty":
            return f"{column} <> ''" if kind in WORDS else f"{column} is not null"
    if kind is DATE:
        return _date(rule, column, began_at, bind)
    if kind is TEXT:  # text is compared without regard to case
        return _exact(rule, f"lower({column})", kind, lambda value, cast: f"lower({bind(value, cast)})", bind)
    return _exact(rule, column, kind, bind, bind)


def _exact(rule: Rule, column: str, kind: FieldType, bind: Bind, bind_list: Bind) -> str:
    cast = CASTS[kind]
    if rule.operator == "is_one_of":
        values = bind_list(read_list(rule.value, kind), f"{cast}[]")
        one = "lower(one)" if kind is TEXT else "one"
        return f"{column} in (select {one} from unnest({values}) one)"  # noqa: S608  # a placeholder
    if rule.operator == "is_between_number":
        return f"{column} >= {bind(read(rule.min, kind), cast)} and {column} <= {bind(read(rule.max, kind), cast)}"
    value = bind(read(rule.value, kind), cast)
    match rule.operator:
        case "is":
            return f"{column} = {value}"
        case "is_not":
            return f"{column} <> {value}"
        case "is_greater_than":
            return f"{column} > {value}"
        case "is_less_than":
            return f"{column} < {value}"
        case "contains":
            return f"position({value} in {column}) > 0"
        case "does_not_contain":
            return f"position({value} in {column}) = 0"
        case "starts_with":
            return f"starts_with({column}, {value})"
    raise AssertionError(rule.operator)


def _date(rule: Rule, column: str, began_at: datetime, bind: Bind) -> str:
    match rule.operator:
        case "is_date":
            day = bind(read(rule.value, DATE).replace(hour=0, minute=0, second=0, microsecond=0), "timestamptz")
            return f"{column} >= {day} and {column} < {day} + interval '24 hours'"
        case "is_after_date":
            return f"{column} > {bind(read(rule.start_date, DATE), 'timestamptz')}"
        case "is_before_date":
            return f"{column} < {bind(read(rule.end_date, DATE), 'timestamptz')}"
        case "is_between_date":
            first, last = (bind(read(day, DATE), "timestamptz") for day in (rule.start_date, rule.end_date))
            return f"{column} >= {first} and {column} <= {last}"
    start, end = bounds(rule, began_at)
    parts = [f"{column} >= {bind(start, 'timestamptz')}"] if start else []
    return " and ".join([*parts, f"{column} < {bind(end, 'timestamptz')}"])


def resolved(segment: Segment, began_at: datetime) -> dict[str, Any]:
    """A segment for the record: rules that depend on the moment with the times they meant, `from` until before `to`."""
    found: dict[str, Any] = msgspec.to_builtins(segment, builtin_types=(Decimal,))
    for rule, shown in zip(segment.rules, found["rules"], strict=True):
        if rule.operator in MOVING:
            shown["from"], shown["to"] = bounds(rule, began_at)
    return found


def bounds(rule: Rule, began_at: datetime) -> tuple[datetime | None, datetime]:
    """The times, in UTC, that a rule meant when the run began: from the first up to, but without, the second.

    A window ends where its zone's own clock says, summer time or not. The upper end of `relative_less_than` makes two
    runs fit together: what came after this one began is the next one's.
    """
    if rule.operator == "is_in_window":
        return _window(rule, began_at)
    length = {f"{rule.time_factor}s": rule.time_amount or 0}
    ago = began_at - relativedelta(**length)  # type: ignore[arg-type]  # its stubs cannot see which names these are
    return (None, ago) if rule.operator == "relative_more_than" else (ago, began_at)


def _window(rule: Rule, began_at: datetime) -> tuple[datetime, datetime]:
    unit, back = WINDOWS[str(rule.window)]
    zone = ZoneInfo(rule.timezone or "UTC")
    day = began_at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    present, length = {
        "day": (day, relativedelta(days=1)),
        "week": (day - timedelta(days=day.weekday()), relativedelta(weeks=1)),
        "month": (day.replace(day=1), relativedelta(months=1)),
        "quarter": (day.replace(day=1, month=day.month - (day.month - 1) % 3), relativedelta(months=3)),
        "year": (day.replace(day=1, month=1), relativedelta(years=1)),
    }[unit]
    start = present - back * length
    return _instant(start, zone), _instant(start + length, zone)


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)
