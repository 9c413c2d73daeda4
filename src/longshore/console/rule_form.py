"""The rules of a segment, as a form without scripts sends them: lines of a field, an operator and up to two values."""

import re
from decimal import Decimal
from typing import Any

from longshore.exports.catalog import FieldType, Index
from longshore.exports.segments.operators import OPERATORS

MAX_LINES = 5
"""Rules of the form."""
PART = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|([^,]*)),')  # as in export_rules.js


def choices(index: Index) -> list[str]:
    """Return the fields that a rule can have, those inside a nested field by their path: `items.price`."""
    return list(_fields(index))


def segment_of(pairs: list[tuple[str, str]], name: str, index: Index, chain: int) -> dict[str, Any] | None:
    """Return the segment of a form, for the API to check; None for one without rules."""
    lines = [
        [value for key, value in pairs if key == f"rule-{part}"] for part in ("field", "operator", "value", "second")
    ]
    rules = [_rule(index, *line) for line in zip(*lines, strict=False) if line[0]]
    if not rules:
        return None
    join = dict(pairs).get("join", "all")
    return {"entity": "people", "index": name, "join": join, "chain_id": chain, "rules": rules}


def _rule(index: Index, field: str, operator: str, value: str, second: str) -> dict[str, Any]:
    path, name, kind = _fields(index).get(field, ("", field, ""))
    rule: dict[str, Any] = {"field_name": name, "field_type": kind, "operator": operator}
    needs = OPERATORS[operator].operands if operator in OPERATORS else ()
    for need, text in zip(needs, (value.strip(), second.strip()), strict=False):
        if need == "time_factor":  # people say the amount before its unit
            rule |= {"time_amount": _number(value.strip()), "time_factor": second.strip().removesuffix("s")}
            break
        rule[need] = [_typed(part, kind) for part in _parts(text)] if operator == "is_one_of" else text
        if need in ("value", "min", "max") and operator != "is_one_of":
            rule[need] = _typed(text, kind)
        elif need == "window":
            rule[need] = text.replace(" ", "_")
    return rule | ({"nested": True, "nesting_path": path} if path else {})


def _parts(text: str) -> list[str]:
    """Return the values between commas; those in double quotes may have commas and blanks at their ends."""
    found = PART.finditer(f"{text},")
    return [part[2].strip() if part[1] is None else part[1].replace('""', '"') for part in found]


def _typed(text: str, kind: str) -> Any:
    if kind == FieldType.NUMBER:
        return _number(text)
    return {"true": True, "false": False}.get(text, text) if kind == FieldType.BOOLEAN else text


def _number(text: str) -> Any:
    """Return a text as a number, if it is one; else the API says what it expects."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text
    if not number.is_finite():
        return text
    return int(number) if number == number.to_integral_value() and -(2**63) < number < 2**63 else number


def _fields(index: Index) -> dict[str, tuple[str, str, str]]:
    """Return path, name and type of each field that a rule can have, by its choice."""
    found: dict[str, tuple[str, str, str]] = {}
    for name, field in index.fields.items():
        if field.fields:
            found |= {f"{name}.{inner}": (name, inner, each.type.value) for inner, each in field.fields.items()}
        else:
            found[name] = ("", name, field.type.value)
    return found
