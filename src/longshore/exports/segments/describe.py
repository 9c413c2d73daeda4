"""Segments as phrases, for people to read."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from longshore.exports.segments.operators import OPERATORS
from longshore.exports.segments.rules import Rule, Segment
from longshore.validation import shortened

READ_RULE = msgspec.json.Decoder(Rule, float_hook=Decimal)

MAX_RULES = 20
MAX_VALUES = 20
"""A page shows as many, and the number of the others. The API's answers have all of them."""


def of_segment(segment: Segment) -> list[str]:
    """Return the rules of a segment, each as a phrase."""
    return _first([of_rule(rule) for rule in segment.rules[:MAX_RULES]], len(segment.rules))


def of_rules(rules: Sequence[msgspec.Raw]) -> list[str]:
    """Return the rules of a stored segment, each as a phrase; only those that are shown are decoded."""
    return _first([of_rule(READ_RULE.decode(rule)) for rule in rules[:MAX_RULES]], len(rules))


def _first(phrases: list[str], number: int) -> list[str]:
    return [*phrases, f"and {number - len(phrases)} more"] if number > len(phrases) else phrases


def of_rule(rule: Rule) -> str:
    """Return a rule as a phrase, such as `amount is greater than 10`."""
    amount = rule.time_amount or 0
    operands = {
        "value": _shown(rule.value),
        "start_date": rule.start_date,
        "end_date": rule.end_date,
        "time_amount": amount,
        "time_factor": f"{rule.time_factor}{'s' if amount != 1 else ''}",
        "min": rule.min,
        "max": rule.max,
        "window": (rule.window or "").replace("_", " "),
    }
    operator = OPERATORS.get(rule.operator)
    phrase = operator.phrase.format(**operands) if operator else rule.operator
    zone = f" ({rule.timezone})" if rule.timezone else ""
    return f"{_name(rule)} {phrase}{zone}"


def _name(rule: Rule) -> str:
    return f"{rule.nesting_path}: {rule.field_name}" if rule.nested else rule.field_name


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_first([_shown(each) for each in value[:MAX_VALUES]], len(value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"“{shortened(value)}”"
    return str(value)


def of_resolved(segment: dict[str, Any]) -> list[str]:
    """Return the rules of a manifest (`segments.sql.resolved`), relative ones and windows by their times."""
    rules = segment["rules"]
    return _first([_of_resolved(dict(rule)) for rule in rules[:MAX_RULES]], len(rules))


def _of_resolved(rule: dict[str, Any]) -> str:
    start, end = rule.pop("from", None), rule.pop("to", None)
    read = msgspec.convert(rule, Rule)
    if end is None:
        return of_rule(read)
    return f"{_name(read)} is {f'from {_time(start)} until' if start else 'before'} {_time(end)}"


def _time(text: str) -> str:
    return f"{text[:19].replace('T', ' ')} UTC"
