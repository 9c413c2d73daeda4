"""Segments: the rules that select the rows of an export, as requests have them, and their validation.

`segments.sql` turns a valid segment into SQL.
"""

import functools
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from longshore.exports.catalog import Catalog, Field, FieldType, Index
from longshore.exports.segments.operands import day_of, read_operand, read_operands, read_time
from longshore.exports.segments.operators import DATE_OPERATORS, MAX_AMOUNTS, OPERATORS, WINDOWS
from longshore.validation import Violation, in_json, pointer, suggestion

MAX_RULES = 100
MAX_SEGMENT_VALUES = 2000  # of all rules together; a preview sends them to the source six times

EARLIEST = datetime.min.replace(tzinfo=UTC)

ABOUT_OPERATORS = (
    "Relative operators and `is_in_window` count from the end of the run's data interval. `is_in_interval` takes the "
    "rows whose date lies in that interval, from its start on and before its end."
)


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One condition on one field."""

    field_name: str
    field_type: str
    operator: Annotated[str, Meta(description=ABOUT_OPERATORS, extra_json_schema={"enum": list(OPERATORS)})]
    value: Any = None
    start_date: str | None = None
    end_date: str | None = None
    time_factor: str | None = None
    time_amount: int | None = None
    min: Any = None
    max: Any = None
    window: str | None = None
    timezone: str | None = None
    """The IANA name of the time zone of a date rule; without it, the trigger's."""
    nested: bool | None = None
    nesting_path: str | None = None


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules joined by all or any."""

    entity: Literal["people"]
    index: str
    join: Literal["all", "any"]
    chain_id: int
    rules: list[Rule]


OPERANDS = ("value", "start_date", "end_date", "time_factor", "time_amount", "min", "max", "window", "timezone")


def column_of(rule: Rule) -> str:
    """Return the field of the index that a rule reads: for one inside a nested field, that nested field."""
    return (rule.nesting_path if rule.nested else None) or rule.field_name


def field_of(rule: Rule, index: Index) -> tuple[str, Field] | None:
    """Return the name and the field of a rule, which may be inside a nested field; None if there is no such field."""
    if not rule.nested:
        field = index.fields.get(rule.field_name)
        return None if field is None else (rule.field_name, field)
    outer = index.fields.get(rule.nesting_path or "")
    name = rule.field_name.removeprefix(f"{rule.nesting_path}.")
    if outer is None or name not in outer.fields:
        return None
    return name, outer.fields[name]


def check_index_and_rules(segment: Segment, catalog: Catalog, at: str) -> list[Violation]:
    """Return the violations of a segment that hold for any task; `at` is its JSON pointer."""
    if segment.index in catalog:
        return check_rules(segment, catalog[segment.index], at)
    hint = suggestion(segment.index, catalog) or f"; expected one of {', '.join(catalog)}"
    return [Violation(f"{in_json(segment.index)} is not known{hint}", pointer(at, "index"))]


def check_rules(segment: Segment, index: Index, at: str) -> list[Violation]:
    """Return the violations of a segment's rules for this index; `at` is the segment's JSON pointer."""
    violations: list[Violation] = []
    rules_at = pointer(at, "rules")
    if len(segment.rules) > MAX_RULES:
        return [Violation(f"expected at most {MAX_RULES} rules", rules_at)]
    if sum(len(rule.value) for rule in segment.rules if isinstance(rule.value, list)) > MAX_SEGMENT_VALUES:
        return [Violation(f"expected at most {MAX_SEGMENT_VALUES} values in all rules together", rules_at)]
    if not segment.rules and segment.join == "any":
        violations.append(Violation("`any` of no rules matches nothing; add a rule or join by `all`", rules_at))
    for number, rule in enumerate(segment.rules):
        _check_rule(rule, index, pointer(rules_at, number), violations)
    return violations


def _check_rule(rule: Rule, index: Index, at: str, violations: list[Violation]) -> None:
    before = len(violations)
    field = _check_field(rule, index, at, violations)
    operator = OPERATORS.get(rule.operator)
    if operator is None:
        hint = suggestion(rule.operator, OPERATORS, violations)
        violations.append(Violation(f"unknown operator{hint}", pointer(at, "operator")))
        return
    if field is not None and field.type not in operator.types:
        usable = ", ".join(name for name, other in OPERATORS.items() if field.type in other.types)
        hint = (
            f"use one of {usable}" if usable else "make a rule of a field inside it, with `nested` and `nesting_path`"
        )
        violations.append(Violation(f"cannot be used on a {field.type.value} field; {hint}", pointer(at, "operator")))
        return
    for name in OPERANDS:
        is_set = getattr(rule, name) is not None
        if is_set and name not in (*operator.operands, *operator.optional_operands):
            violations.append(Violation(f"is not used by {in_json(rule.operator)}", pointer(at, name)))
        elif not is_set and name in operator.operands:
            violations.append(Violation(f"is required by {in_json(rule.operator)}", pointer(at, name)))
    if field is not None and len(violations) == before:
        _check_operands(rule, field.type, at, violations)


def _check_field(rule: Rule, index: Index, at: str, violations: list[Violation]) -> Field | None:
    nested = sorted(name for name, field in index.fields.items() if field.fields)
    if rule.nested and rule.nesting_path not in nested:
        expected = f"expected one of {', '.join(nested)}" if nested else "this index has no nested fields"
        violations.append(Violation(expected, pointer(at, "nesting_path")))
        return None
    if not rule.nested and rule.nesting_path is not None:
        violations.append(Violation("is for rules with `nested: true`", pointer(at, "nesting_path")))
        return None
    named_field = field_of(rule, index)
    if named_field is None:
        names = index.fields[rule.nesting_path or ""].fields if rule.nested else index.fields
        hint = suggestion(rule.field_name, names, violations)
        violations.append(Violation(f"no field of this index{hint}", pointer(at, "field_name")))
        return None
    field = named_field[1]
    if field.type != rule.field_type:
        violations.append(
            Violation(f"expected {in_json(field.type.value)}, the type of this field", pointer(at, "field_type"))
        )
    return field


def _check_operands(rule: Rule, kind: FieldType, at: str, violations: list[Violation]) -> None:
    before = len(violations)
    for name in ("value", "start_date", "end_date", "min", "max"):
        operand = getattr(rule, name)
        if operand is not None:
            try:
                read_operands(operand, kind) if rule.operator == "is_one_of" else read_operand(operand, kind)
            except ValueError as error:
                violations.append(Violation(str(error), pointer(at, name)))
    if rule.time_factor is not None and rule.time_amount is not None:
        if rule.time_factor not in MAX_AMOUNTS:
            violations.append(Violation(f"expected one of {', '.join(MAX_AMOUNTS)}", pointer(at, "time_factor")))
        elif not 1 <= rule.time_amount <= MAX_AMOUNTS[rule.time_factor]:
            violations.append(Violation(f"expected 1 to {MAX_AMOUNTS[rule.time_factor]}", pointer(at, "time_amount")))
    if rule.window is not None and rule.window not in WINDOWS:
        violations.append(Violation(f"expected one of {', '.join(WINDOWS)}", pointer(at, "window")))
    if rule.timezone is not None and not is_zone(rule.timezone):
        violations.append(Violation("expected an IANA time zone, such as Europe/Amsterdam", pointer(at, "timezone")))
    if (
        len(violations) == before
        and rule.operator == "is_between_number"
        and read_operand(rule.min, kind) > read_operand(rule.max, kind)
    ):
        violations.append(Violation("lies before min", pointer(at, "max")))
    if len(violations) == before and rule.operator == "is_between_date" and _is_backwards(rule):
        violations.append(Violation("lies before start_date", pointer(at, "end_date")))


def _is_backwards(rule: Rule) -> bool:
    """Return whether a rule ends before it begins, in every time zone."""
    start, end = str(rule.start_date), str(rule.end_date)
    # A day is compared with a time as if it ended when it has ended in every time zone.
    slack = timedelta(0) if (day_of(start) is None) is (day_of(end) is None) else timedelta(days=2)
    return read_time(start) - EARLIEST > read_time(end) - EARLIEST + slack


@functools.cache
def _zones() -> frozenset[str]:
    # To list them reads a tree of folders. "localtime" is the setting of the machine, "Factory" is no place.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def is_zone(name: str) -> bool:
    """Return whether this is the exact name of a time zone of the IANA database."""
    return name in _zones()


def in_zone(segment: Segment, timezone: str | None) -> Segment:
    """Return a segment whose date rules all name a time zone: their own, else `timezone`; None is UTC."""
    rules = [
        msgspec.structs.replace(rule, timezone=timezone or "UTC")
        if rule.operator in DATE_OPERATORS and rule.timezone is None
        else rule
        for rule in segment.rules
    ]
    return msgspec.structs.replace(segment, rules=rules)


def in_utc(segment: Segment) -> Segment:
    """Return a valid segment with all its times in UTC."""
    return msgspec.structs.replace(segment, rules=[_in_utc(rule) for rule in segment.rules])


def _in_utc(rule: Rule) -> Rule:
    changes = {}
    for name in ("value", "start_date", "end_date"):
        operand = getattr(rule, name)
        if rule.field_type == FieldType.DATE and isinstance(operand, str) and len(operand) > len("2026-05-26"):
            changes[name] = read_time(operand).isoformat().replace("+00:00", "Z")
    return msgspec.structs.replace(rule, **changes) if changes else rule
