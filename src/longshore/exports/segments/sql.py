"""Segments as SQL: a rule takes the rows whose value, as a result shows it, meets the rule.

Values never become SQL text: they are parameters, and dates are literals that are made of whole numbers. Names come
from the catalog. A row whose field is NULL matches no rule on that field but `is_empty`, negations included.

Text is compared under the database's own collation, keywords byte by byte, whatever collation a column has: under
another one `lower` has other results, and a nondeterministic one compares different strings as equal.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from longshore.exports.catalog import FieldType, Index
from longshore.exports.columns import FLOATS, INTEGERS, Column
from longshore.exports.segments.date_spans import Edge, Span, day_text, interval_times, moment_text, span
from longshore.exports.segments.operands import read_operand, read_operands
from longshore.exports.segments.operators import OPERATORS, WORDS
from longshore.exports.segments.rules import Rule, Segment, field_of
from longshore.tasks.model import Interval

CASTS = {
    FieldType.KEYWORD: "text",
    FieldType.TEXT: "text",
    FieldType.NUMBER: "numeric",
    FieldType.BOOLEAN: "boolean",
}


class Condition(msgspec.Struct, frozen=True):
    """A condition in SQL, and the values of its parameters."""

    sql: str
    values: tuple[Any, ...]


Bind = Callable[[Any, str], str]
"""Takes a value and its SQL type and returns its placeholder."""

Columns = Mapping[str, Column]
"""The columns of rules, by the name of their field."""


def condition(segment: Segment, index: Index, columns: Columns, interval: Interval, first: int) -> Condition:
    """Return the SQL of a valid segment.

    `columns`: those of `columns_read`; `interval`: the data interval of the run; `first`: the number of the first
    placeholder.
    """
    values: list[Any] = []

    def bind(value: Any, kind: str) -> str:
        values.append(value)
        return f"${first + len(values) - 1}::{kind}"

    parts = [_rule(rule, index, columns, interval, bind) for rule in segment.rules]
    joined = (" and " if segment.join == "all" else " or ").join(f"({part})" for part in parts)
    return Condition(joined or "true", tuple(values))


def columns_read(segment: Segment) -> list[str]:
    """Return the fields of a segment's rules, without those inside nested ones."""
    return list(dict.fromkeys(rule.field_name for rule in segment.rules if not rule.nested))


def _rule(rule: Rule, index: Index, columns: Columns, interval: Interval, bind: Bind) -> str:
    named_field = field_of(rule, index)
    assert named_field is not None
    name, field = named_field
    if not rule.nested:
        return _column_rule(rule, columns[name], interval, bind)
    # A row meets a nested rule if at least one of its objects does. A value that is no array has no objects.
    array = f"({index.expression(rule.nesting_path or '')})::jsonb"
    objects = f"jsonb_path_query_array({array}, 'strict $[*] ? (@.type() == \"object\")', '{{}}', true)"
    key = bind(name, "text")
    scalar = f"(case when jsonb_typeof(item -> {key}) not in ('object', 'array') then item ->> {key} end)"
    test = _nested_rule(rule, scalar, field.type, interval, bind)
    return f"exists (select from jsonb_array_elements({objects}) item where {test})"


def _column_rule(rule: Rule, column: Column, interval: Interval, bind: Bind) -> str:
    kind = column.field.type
    if kind in WORDS:
        return _text_rule(rule, column.text_sql, kind, bind, bytewise=column.is_bytewise)
    if (empty := _emptiness(rule, column.expression)) is not None:
        return empty
    if kind is FieldType.DATE:
        return _in_span(span(rule, interval), column.expression, column.pg_type)
    # A result shows a float as the shortest decimal of it, which is another number than that of its bits.
    number = f"(({column.expression})::text)::numeric" if column.pg_type in FLOATS else column.expression
    is_integer = kind is FieldType.NUMBER and column.pg_type in INTEGERS and _are_integers(rule)
    return _compared(rule, number, kind, _as_bigint(bind) if is_integer else bind)


def _are_integers(rule: Rule) -> bool:
    """Return whether PostgreSQL's type `bigint` holds all numbers of a rule."""
    given = rule.value if isinstance(rule.value, list) else [rule.value, rule.min, rule.max]
    numbers = [read_operand(value, FieldType.NUMBER) for value in given if value is not None]
    return all(-(2**63) <= number < 2**63 and number == int(number) for number in numbers)


def _as_bigint(bind: Bind) -> Bind:
    """Return a function that binds whole numbers as `bigint`: an index of integers serves no `numeric`."""

    def bind_integers(value: Any, kind: str) -> str:
        integers = [int(one) for one in value] if isinstance(value, list) else int(value)
        return bind(integers, kind.replace("numeric", "bigint"))

    return bind_integers


# The text of a JSON value of each type. PostgreSQL does not check the types inside JSON, and one odd value must not end
# an export, so a value of another type counts as missing. ASCII digits: under some collations `\d` matches the digits
# of any script, of which PostgreSQL makes no number.
NUMBER_TEXT = r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?"
# PostgreSQL reads numbers of 131,072 digits before the point and 16,383 behind it, an exponent included.
MAX_NUMBER_CHARACTERS = 15_000
DAY_TEXT = r"^(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}$"
# PostgreSQL reads times of 128 bytes.
TIME_TEXT = (
    r"^(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,60})?)?"
    r"(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?$"
)


def is_number(text: str) -> str:
    """Return the condition that a string inside JSON, of which `text` is SQL, is a number that PostgreSQL reads."""
    return f"length({text}) <= {MAX_NUMBER_CHARACTERS} and {text} ~ '^{NUMBER_TEXT}$'"


def _nested_rule(rule: Rule, text: str, kind: FieldType, interval: Interval, bind: Bind) -> str:
    """Return SQL of a rule on a field inside the object `item`; `text` is SQL of the field's value as a string."""
    match kind:
        case FieldType.NUMBER:
            value = f"(case when {is_number(text)} then {text}::numeric end)"
        case FieldType.BOOLEAN:
            value = f"(case {text} when 'true' then true when 'false' then false end)"
        case FieldType.DATE:
            # The patterns match a 30 February; `datetime` of JSON finds that it is no date, without an error.
            valid = f"""jsonb_path_exists(to_jsonb(left({text}, 10)), '$.datetime("YYYY-MM-DD")', '{{}}', true)"""
            day = f"(case when {text} ~ '{DAY_TEXT}' and {valid} then {text}::date end)"
            time = f"(case when {text} ~ '{TIME_TEXT}' and {valid} then {text}::timestamptz end)"
            if (empty := _emptiness(rule, f"coalesce({day}::timestamptz, {time})")) is not None:
                return empty
            within = span(rule, interval)
            return f"{_in_span(within, day, 'date')} or {_in_span(within, time, 'timestamptz')}"
        case _:
            return _text_rule(rule, text, kind, bind, bytewise=True)
    return _emptiness(rule, value) or _compared(rule, value, kind, bind)


def _emptiness(rule: Rule, value: str) -> str | None:
    match rule.operator:
        case "is_empty":
            return f"{value} is null"
        case "is_not_empty":
            return f"{value} is not null"
    return None


def _text_rule(rule: Rule, text: str, kind: FieldType, bind: Bind, *, bytewise: bool) -> str:
    """Return SQL of a rule on text. `bytewise`: whether its collation calls only the same bytes equal."""
    # Under its own collation, if that compares so, because an index serves a column under its own collation alone.
    same = text if bytewise else f'({text} collate pg_catalog."C")'
    match rule.operator:
        case "is_empty":
            return f"{text} is null or {same} = ''"
        case "is_not_empty":
            return f"{same} <> ''"
    return _compared(rule, text if kind is FieldType.TEXT else same, kind, bind)


def _compared(rule: Rule, column: str, kind: FieldType, bind: Bind) -> str:
    cast = CASTS[kind]
    column = _folded(column, kind)
    if rule.operator == "is_one_of":
        values = bind(read_operands(rule.value, kind), f"{cast}[]")
        return f"{column} in (select {_folded('one', kind)} from unnest({values}) one)"
    if rule.operator == "is_between_number":
        least, most = (bind(read_operand(bound, kind), cast) for bound in (rule.min, rule.max))
        return f"{column} >= {least} and {column} <= {most}"
    value = _folded(bind(read_operand(rule.value, kind), cast), kind)
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


def _folded(sql: str, kind: FieldType) -> str:
    """Return SQL of a value as it is compared: text without regard to case."""
    return f'lower({sql} collate pg_catalog."default")' if kind is FieldType.TEXT else sql


def _in_span(span: Span, column: str, pg_type: str) -> str:
    """Return SQL of the rows of a span. A column without a time zone is in UTC."""

    def literal(edge: Edge) -> str:
        # No parameters: PostgreSQL would convert their text for each row, and asyncpg turns the first and the last
        # moment of its calendar into infinities.
        shown = day_text(edge.day) if pg_type == "date" else moment_text(edge.moment)
        return f"{pg_type} '{shown}'"

    start = [f"{column} >= {literal(span.start)}"] if span.start else []
    end = [f"{column} < {literal(span.end)}"] if span.end else []
    return f"({' and '.join([*start, *end])})"


def resolved(segment: Segment, interval: Interval) -> dict[str, Any]:
    """Return a segment for the manifest: rules that depend on the interval have their times, `from` and `to`."""
    record: dict[str, Any] = msgspec.to_builtins(segment, builtin_types=(Decimal,))
    for rule, shown in zip(segment.rules, record["rules"], strict=True):
        if OPERATORS[rule.operator].depends_on_interval:
            shown["from"], shown["to"] = interval_times(rule, interval)
    return record
