"""The conditions of `--where`: a field, an operator of the API or its sign, and its values.

    amount > 10
    timestamp is_between_date 2026-05-01,2026-05-31
    currency is_one_of EUR,"A, B"
    timestamp relative_less_than 7 days

A value is the rest of the condition. Only the operators that take several values split it at commas. Double quotes keep
blanks and commas; `""` in them is a quote. Each error names the character that it is about.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from longshore.cli.columns import width
from longshore.cli.output import printable
from longshore.client import F, SegmentError
from longshore.client.api_types import FIELD_TYPES
from longshore.client.model import Index
from longshore.client.segment import MAX_VALUES, Rules

FIELD = re.compile(r'"((?:[^"]|"")+)"|([^\s=!<>"]+)')
OPERATOR = re.compile(r"[=!<>]+|[A-Za-z_]+")
QUOTED = re.compile(r'"((?:[^"]|"")*)"\s*')
BARE, BARE_IN_LIST = re.compile(r".*", re.DOTALL), re.compile(r"[^,]*")
DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
AGO = re.compile(r"([0-9]{1,9})\s*(minute|hour|day|week|month|year)s?", re.ASCII)
TRUTHS = {"true": True, "false": False}

NONE, ONE, TWO, MANY = (0, 0), (1, 1), (2, 2), (1, MAX_VALUES)


class ConditionError(Exception):
    """A condition that cannot be read. The message shows the condition with a mark below the character."""

    def __init__(self, message: str, text: str, at: int) -> None:
        mark = " " * width(printable(text[:at])) + "^"
        super().__init__(f"{message}, at character {at + 1}:\n  {printable(text)}\n  {mark}")


RULES: dict[str, Callable[..., Rules]] = {
    "is": F.__eq__, "is_not": F.__ne__, "is_one_of": lambda field, *values: field.is_one_of(values),
    "contains": F.contains, "does_not_contain": F.does_not_contain, "starts_with": F.starts_with,
    "is_greater_than": F.__gt__, "is_less_than": F.__lt__, "is_between_number": F.between, "is_date": F.on,
    "is_after_date": F.after, "is_before_date": F.before, "is_between_date": F.between,
    "relative_less_than": lambda field, ago: field.within(**ago),
    "relative_more_than": lambda field, ago: field.older_than(**ago),
    "is_in_window": F.in_window, "is_in_interval": F.in_interval, "is_empty": F.is_empty,
    "is_not_empty": F.is_not_empty, ">=": F.__ge__, "<=": F.__le__,
}  # fmt: skip
"""The function that makes the rule of each operator, of the field and the values."""
COUNTS = {
    "is_one_of": MANY, "is_between_number": TWO, "is_between_date": TWO, "is_in_interval": NONE, "is_empty": NONE,
    "is_not_empty": NONE,
}  # fmt: skip
"""The least and the greatest number of values, of the operators that take another number than one."""
TYPES: dict[str, frozenset[str]] = {**FIELD_TYPES, **dict.fromkeys((">=", "<="), frozenset({"number", "date"}))}
"""The types of the fields that each operator fits."""
SIGNS = {"=": ("is", "is_date"), "!=": ("is_not", "is_not"), ">": ("is_greater_than", "is_after_date"),
         "<": ("is_less_than", "is_before_date")}  # fmt: skip
"""The operators that a sign stands for: of other fields, and of dates."""


class Value(msgspec.Struct, frozen=True):
    """A value, and the position of its first character in the condition."""

    text: str
    at: int


class Condition(msgspec.Struct, frozen=True):
    """A condition with its parts, and their positions in its text."""

    text: str
    field: str
    field_at: int
    operator: str
    operator_at: int
    values: Sequence[Value]

    def rule(self, index: Index) -> Rules:
        """Return the rule on an index. Raises ConditionError."""
        field = F(self.field)
        try:
            kind, _ = field.kind_in(index)
        except SegmentError as error:
            raise ConditionError(str(error), self.text, self.field_at) from None
        name = SIGNS[self.operator][kind == "date"] if self.operator in SIGNS else self.operator
        if kind not in TYPES[name]:
            fitting = ", ".join(each for each in RULES if kind in TYPES[each])
            message = f"{self.field} is a {kind} field, which takes {fitting}"
            raise ConditionError(message, self.text, self.operator_at)
        values = [self._operand_value(value, "ago" if name.startswith("relative") else kind) for value in self.values]
        try:
            rule = RULES[name](field, *values)
            rule.segment(index, 1)  # only to have its values checked
        except SegmentError as error:
            at = self.values[0].at if self.values else self.operator_at
            raise ConditionError(str(error), self.text, at) from None
        return rule

    def _operand_value(self, value: Value, kind: str) -> Any:
        match kind:
            case "number":
                if DECIMAL.fullmatch(value.text):
                    return Decimal(value.text)
                expected = "a number"
            case "boolean":
                if value.text in TRUTHS:
                    return TRUTHS[value.text]
                expected = "true or false"
            case "ago":
                if match := AGO.fullmatch(value.text):
                    return {f"{match[2]}s": int(match[1])}
                expected = "a time such as 7 days, in minutes, hours, days, weeks, months or years"
            case _:
                return value.text
        raise ConditionError(f"expected {expected}, got {printable(value.text)!r}", self.text, value.at)


def read(text: str) -> Condition:
    """Return the parts of a condition. Raises ConditionError."""
    field_at = _skip_blanks(text, 0)
    field = FIELD.match(text, field_at)
    if field is None:
        raise ConditionError("expected the name of a field", text, field_at)
    operator_at = _skip_blanks(text, field.end())
    operator = OPERATOR.match(text, operator_at)
    name = operator[0] if operator else ""
    if operator is None or (name not in RULES and name not in SIGNS):
        known = ", ".join((*SIGNS, *RULES))
        raise ConditionError(f"expected an operator: {known}", text, operator_at)
    least, most = COUNTS.get(name, ONE)
    at = _skip_blanks(text, operator.end())
    values = list(_values(text, at, BARE if most == 1 else BARE_IN_LIST)) if at < len(text) else []
    if not least <= len(values) <= most:
        counts = {NONE: "no value", ONE: "a value", TWO: "two values with a comma between them"}
        raise ConditionError(f"{name} takes {counts.get((least, most), f'{least} to {most:,} values')}", text, at)
    parts = (field[1].replace('""', '"') if field[1] else field[2], field_at, name, operator_at)
    return Condition(text, *parts, values)


def _values(text: str, at: int, bare: re.Pattern[str]) -> list[Value]:
    """Return the values from a position on, separated by commas. Raises ConditionError."""
    found = []
    while True:
        at = _skip_blanks(text, at)
        if text.startswith('"', at):
            match = QUOTED.match(text, at)
            if match is None:
                raise ConditionError("this quote is not closed", text, at)
            found.append(Value(match[1].replace('""', '"'), at))
        else:
            match = bare.match(text, at)
            assert match is not None
            if not match[0].strip():
                raise ConditionError('expected a value; an empty one is ""', text, at)
            found.append(Value(match[0].strip(), at))
        at = match.end()
        if at == len(text):
            return found
        if bare is BARE or text[at] != ",":
            raise ConditionError("expected the end" if bare is BARE else "expected a comma", text, at)
        at += 1


def _skip_blanks(text: str, at: int) -> int:
    return at + len(text[at:]) - len(text[at:].lstrip())
