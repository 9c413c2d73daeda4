"""A builder of segments: which rows an export takes.

    F("timestamp").within(days=1) & (F("amount") >= 10)

`&` joins rules by `all`, `|` by `any`; a segment has one join. Rules that the service would refuse raise SegmentError:
unknown fields, operators that do not fit the type of a field, values of another type. docs/exports.md has the meaning
of each rule.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, NoReturn, cast, get_args

from longshore.client.api_types import FIELD_TYPES, FieldType, Operator, Segment, SegmentRule, Window
from longshore.client.errors import SegmentError
from longshore.client.model import Field, Index
from longshore.client.operands import FIRST_DAY, LAST_DAY, Moment, comparable, is_moment, neighbor, operand, zone

Number = int | float | Decimal

MAX_RULES = 100
MAX_VALUES = 1000
MAX_SEGMENT_VALUES = 2000  # of all rules together
MAX_NUMBER = 1e100
"""Other end of the range that `>=` becomes, as the API has ranges of numbers only."""

MAX_AMOUNTS = {
    "minutes": 525_600_000,
    "hours": 8_760_000,
    "days": 365_000,
    "weeks": 52_000,
    "months": 12_000,
    "years": 1_000,
}
WINDOWS = frozenset(get_args(Window))


class Rules:
    """Rules joined by `all` or `any`, built with F, `&` and `|`."""

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
        raise SegmentError("join rules with & and |; `and`, `or`, `not` and chained comparisons cannot join them")

    def segment(self, index: Index, chain: int) -> Segment:
        """Return the segment in the API's form. Raises SegmentError."""
        if len(self.rules) > MAX_RULES:
            raise SegmentError(f"expected at most {MAX_RULES} rules, got {len(self.rules)}")
        rules = [rule.resolved(index) for rule in self.rules]
        values = sum(len(rule["value"]) for rule in rules if rule["operator"] == "is_one_of")
        if values > MAX_SEGMENT_VALUES:
            raise SegmentError(f"expected at most {MAX_SEGMENT_VALUES} values in all rules together, got {values}")
        return {
            "entity": "people",
            "index": index.name,
            "join": self.join or "all",
            "chain_id": chain,
            "rules": rules,
        }


class Rule(Rules):
    """One condition on one field."""

    def __init__(self, field: "F", operator: Operator, **operands: Any) -> None:
        super().__init__((self,), None)
        self._field = field
        self._operator = operator
        self._operands = operands

    def __repr__(self) -> str:
        return f"<{self._field.name} {self._operator} {self._operands}>"

    def resolved(self, index: Index) -> SegmentRule:
        """Return the rule in the API's form, with the type of its field. Raises SegmentError."""
        kind, nesting = self._field.kind_in(index)
        if kind not in FIELD_TYPES[self._operator]:
            raise SegmentError(f"{self._field.name} is a {kind} field, which {self._operator} cannot be used on")
        rule: dict[str, Any] = {"field_name": self._field.name, "field_type": kind, "operator": self._operator}
        for name, value in self._operands.items():
            if name in ("value", "start_date", "end_date", "min", "max"):
                rule[name] = (
                    [operand(v, kind) for v in value] if self._operator == "is_one_of" else operand(value, kind)
                )
            elif value is not None:
                rule[name] = value
        low, high = ("min", "max") if kind == "number" else ("start_date", "end_date")
        both = low in rule and high in rule
        # A date and a time cannot be compared without the time zone, which the service knows.
        is_comparable = both and (
            kind == "number" or len(rule[low]) == len(rule[high]) or ("T" in rule[low] and "T" in rule[high])
        )
        if is_comparable and comparable(rule[low], kind) > comparable(rule[high], kind):
            raise SegmentError(f"{self._field.name}: {rule[high]} is less than {rule[low]}")
        return cast(SegmentRule, {**rule, "nested": True, "nesting_path": nesting} if nesting else rule)


class F:
    """A field of an export index, from which rules are built. `items.sku` is the field `sku` of the objects in `items`.

    `type`: `date`, `keyword`, `text`, `number` or `boolean`; by default the one that the index declares.
    """

    __hash__ = None  # type: ignore[assignment]  # == makes a rule

    def __init__(self, name: str, type: FieldType | None = None) -> None:
        self.name = name
        self.type = type

    def kind_in(self, index: Index) -> tuple[str, str | None]:
        """Return the type of the field and the path of the nested field around it. Raises SegmentError."""
        fields: dict[str, tuple[Field, str | None]] = {}
        for field in index.fields:
            fields[field.name] = (field, None)
            fields.update({f"{field.name}.{inner.name}": (inner, field.name) for inner in field.fields})
        if self.name not in fields:
            raise SegmentError(f"{index.name} has no field {self.name!r}; it has {', '.join(fields)}")
        field, nesting = fields[self.name]
        if self.type not in (None, field.type):
            raise SegmentError(f"{self.name} is a {field.type} field, not {self.type}")
        return field.type, nesting

    def __eq__(self, value: object) -> Rule:  # type: ignore[override]  # a rule instead of a truth
        return Rule(self, "is", value=value)

    def __ne__(self, value: object) -> Rule:  # type: ignore[override]
        return Rule(self, "is_not", value=value)

    def __gt__(self, value: Number | Moment) -> Rule:
        return self.after(value) if is_moment(value) else Rule(self, "is_greater_than", value=value)

    def __lt__(self, value: Number | Moment) -> Rule:
        return self.before(value) if is_moment(value) else Rule(self, "is_less_than", value=value)

    def __ge__(self, value: Number | Moment) -> Rule:
        if not is_moment(value):
            return self.between(value, MAX_NUMBER)
        before = neighbor(value, -1)
        return self.between(value, LAST_DAY) if before is None else self.after(before)

    def __le__(self, value: Number | Moment) -> Rule:
        if not is_moment(value):
            return self.between(-MAX_NUMBER, value)
        after = neighbor(value, 1)
        return self.between(FIRST_DAY, value) if after is None else self.before(after)

    def is_one_of(self, values: Iterable[Any]) -> Rule:
        """The field equals one of 1 to 1,000 values."""
        if isinstance(values, str | bytes):
            raise SegmentError(f"expected a list of values, got {values!r}")
        operands = list(values)
        if not 1 <= len(operands) <= MAX_VALUES:
            raise SegmentError(f"expected 1 to {MAX_VALUES} values, got {len(operands)}")
        return Rule(self, "is_one_of", value=operands)

    def is_empty(self) -> Rule:
        """The field is null or the empty string."""
        return Rule(self, "is_empty")

    def is_not_empty(self) -> Rule:
        """The field is neither null nor the empty string."""
        return Rule(self, "is_not_empty")

    def contains(self, text: str) -> Rule:
        """The field contains the text."""
        return Rule(self, "contains", value=text)

    def does_not_contain(self, text: str) -> Rule:
        """The field is not null and does not contain the text."""
        return Rule(self, "does_not_contain", value=text)

    def starts_with(self, text: str) -> Rule:
        """The field starts with the text."""
        return Rule(self, "starts_with", value=text)

    def on(self, day: Moment) -> Rule:
        """The field is on this day, in the `timezone` of the task, by default UTC."""
        return Rule(self, "is_date", value=day)

    def after(self, moment: Any) -> Rule:
        """The field is later than this time, or than the end of this day."""
        return Rule(self, "is_after_date", start_date=moment)

    def before(self, moment: Any) -> Rule:
        """The field is earlier than this time, or than the beginning of this day."""
        return Rule(self, "is_before_date", end_date=moment)

    def between(self, low: Any, high: Any) -> Rule:
        """The field is from `low` to `high`, both included: two numbers, times or whole days."""
        if is_moment(low):
            return Rule(self, "is_between_date", start_date=low, end_date=high)
        return Rule(self, "is_between_number", min=low, max=high)

    def in_window(self, window: Window, timezone: str | None = None) -> Rule:
        """The field is in a calendar window such as `yesterday`, in a time zone, by default UTC."""
        if window not in WINDOWS:
            raise SegmentError(f"{window!r} is not a window; expected one of {', '.join(sorted(WINDOWS))}")
        return Rule(self, "is_in_window", window=window, timezone=zone(timezone))

    def in_interval(self, timezone: str | None = None) -> Rule:
        """The field is in the run's data interval: since the time of the schedule before, and before its own time."""
        return Rule(self, "is_in_interval", timezone=zone(timezone))

    def within(self, **ago: int) -> Rule:
        """The field is less than this time before the end of the run's data interval: one of `minutes` … `years`."""
        return self._relative("relative_less_than", ago)

    def older_than(self, **ago: int) -> Rule:
        """The field is more than this time before the end of the run's data interval: one of `minutes` … `years`."""
        return self._relative("relative_more_than", ago)

    def _relative(self, operator: Operator, ago: dict[str, int]) -> Rule:
        if len(ago) != 1 or not ago.keys() <= MAX_AMOUNTS.keys():
            raise SegmentError(f"expected one of {', '.join(MAX_AMOUNTS)}, got {', '.join(ago) or 'nothing'}")
        [(unit, amount)] = ago.items()
        if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= MAX_AMOUNTS[unit]:
            raise SegmentError(f"{unit}: expected a whole number from 1 to {MAX_AMOUNTS[unit]}, got {amount!r}")
        return Rule(self, operator, time_factor=unit.removesuffix("s"), time_amount=amount)
