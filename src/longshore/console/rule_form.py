"""The rules of a segment in the form of a new export: a line of inputs for each, named `rule-field`, `rule-operator` …

With scripts, a line has an input for each operand, named by it. Without, it has `rule-value` and `rule-second`, which
are the operands of whatever the operator is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from longshore.exports.catalog import FieldType, Index
from longshore.exports.segments.operators import OPERATORS

PREFIX = "rule-"
PART = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|([^,]*)),')
NEEDS_QUOTES = re.compile(r'^$|^\s|\s$|[",]')
UNTOUCHED = {"operator": next(iter(OPERATORS))}
"""The fields that the page without scripts sends of an empty line, beside empty texts."""
LINE_BREAKS = str.maketrans("", "", "\r\n")

Line = dict[str, str]
"""The texts of a line, by the names of its inputs without PREFIX. One that shows a rule has its `field_type`, too."""


def choices(index: Index) -> dict[str, str]:
    """Return the types of the fields that a rule can have, those inside a nested field by their path: `items.price`."""
    return {choice: kind for choice, (_, _, kind) in _fields(index).items()}


def operands(operator: str) -> list[str]:
    """Return the operands that a rule has or may have, in the order of the form: an amount comes before its unit."""
    if operator not in OPERATORS:
        return []
    needed = sorted(OPERATORS[operator].operands, key="time_factor".__eq__)
    return [*needed, *OPERATORS[operator].optional_operands]


def line_of(rule: Mapping[str, Any]) -> Line:
    """Return the line that shows a rule."""
    line = {name: _text(value) for name, value in rule.items() if name not in ("nested", "nesting_path")}
    path, name = rule.get("nesting_path"), line.pop("field_name")
    return line | {"field": f"{path}.{name.removeprefix(f'{path}.')}" if path else name}


def segment_of(
    pairs: Iterable[tuple[str, str]], name: str, index: Index, chain: int, before: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any] | None:
    """Return the segment of a form, for the API to check; None for one without rules.

    `before`: the rules that the form began with. A line that is as it was stands for its rule, whatever of it an input
    cannot hold.
    """
    unchanged, fields = {_as_sent(line_of(rule)): rule for rule in before}, _fields(index)
    rules = [unchanged.get(_as_sent(line)) or _rule(fields, line) for line in _lines(pairs)]
    if not rules:
        return None
    join = dict(pairs).get("join", "all")
    return {"entity": "people", "index": name, "join": join, "chain_id": chain, "rules": rules}


def _lines(pairs: Iterable[tuple[str, str]]) -> list[Line]:
    """Return the lines that are filled in. Each begins with its field, which may be lacking: the API refuses that."""
    lines: list[Line] = []
    for name, value in pairs:
        if name == f"{PREFIX}field" or (name.startswith(PREFIX) and not lines):
            lines.append({"field": ""})
        if name.startswith(PREFIX):
            lines[-1][name.removeprefix(PREFIX)] = value
    return [line for line in lines if any(text for name, text in line.items() if UNTOUCHED.get(name) != text)]


def _as_sent(line: Line) -> frozenset[tuple[str, str]]:
    """Return a line as a browser sends it: an input has no line breaks."""
    texts = {name: text.translate(LINE_BREAKS) for name, text in line.items() if name != "field_type"}
    return frozenset((name, text) for name, text in texts.items() if text)


def _rule(fields: Mapping[str, tuple[str, str, str]], line: Line) -> dict[str, Any]:
    path, name, kind = fields.get(line["field"], ("", line["field"], ""))
    operator = line.get("operator", "")
    names = operands(operator)
    needed = [name for name in names if name in OPERATORS[operator].operands]
    line = dict(zip(needed, (line.get("value", ""), line.get("second", "")), strict=False)) | line
    rule: dict[str, Any] = {"field_name": name, "field_type": kind, "operator": operator}
    rule |= {need: _operand(operator, need, line[need], kind) for need in names if line.get(need)}
    return rule | ({"nested": True, "nesting_path": path} if path else {})


def _operand(operator: str, need: str, text: str, kind: str) -> Any:
    if operator == "is_one_of":
        return [_operand_value(part, kind) for part in _parts(text)]
    match need:
        case "value" | "min" | "max":
            return _operand_value(text, kind)
        case "time_amount":
            return _number(text)
        case "time_factor":
            return text.strip().removesuffix("s")
        case "window":
            return text.strip().replace(" ", "_")
    return text.strip()


def _parts(text: str) -> list[str]:
    """Return the values between commas; those in double quotes may have commas and blanks at their ends."""
    found = PART.finditer(f"{text},")
    return [part[2].strip() if part[1] is None else part[1].replace('""', '"') for part in found]


def _text(value: Any) -> str:
    """Return the text of an input for a value."""
    if isinstance(value, list):
        return ", ".join(_quoted(_text(each)) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text


def _operand_value(text: str, kind: str) -> Any:
    match kind:
        case FieldType.NUMBER:
            return _number(text)
        case FieldType.BOOLEAN:
            return {"true": True, "false": False}.get(text.strip(), text)
        case FieldType.DATE:
            return text.strip()
    return text


def _number(text: str) -> Any:
    """Return a text as a number, if it is one; else the API says what it expects."""
    try:
        number = Decimal(text.strip())
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
