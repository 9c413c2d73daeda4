"""The parts of a target and a trigger, read from options: which rows, which partitions, which destinations."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import click
import msgspec

from longshore.cli import options
from longshore.cli.commands import Option
from longshore.client.api_types import Deliver, PartitionKey
from longshore.client.errors import NOT_DECODED

if TYPE_CHECKING:
    from longshore import Longshore
    from longshore.client.segment import Rules

Where: TypeAlias = Annotated[
    list[str] | None,
    Option(
        help="Only rows of this condition: a field, an operator and a value, such as 'amount > 10'; repeatable, all"
        " must hold.",
        metavar="CONDITION",
    ),
]

PART = re.compile(r",(?=[a-z_]+=)")  # between two parts of `--deliver`; a path may have commas


def refuse_both(name: str, value: object, other_name: str, other: object) -> None:
    """Raise BadParameter if both options are given."""
    if value and other:
        raise click.BadParameter(f"give {name} or {other_name}, not both")


class Conditions(msgspec.Struct, frozen=True):
    """The conditions of `--where` and the period of `--last`."""

    where: Sequence[str]
    last: str | None = None

    def __bool__(self) -> bool:
        return bool(self.where or self.last)

    def rules(self, client: "Longshore", indexes: Sequence[str]) -> "Rules | dict[str, Rules]":
        """Return the rules of an index, or of several by name. Raises BadParameter."""
        from longshore.cli.where import ConditionError, read

        try:
            conditions = [read(text) for text in self.where]
            found = {}
            for name in indexes:
                index = client.indexes.get(name)
                rules = [condition.rule(index) for condition in conditions]
                if self.last is not None:
                    rules.append(self._last(index.name, index.time))
                found[name] = rules[0]
                for rule in rules[1:]:
                    found[name] &= rule
        except ConditionError as error:
            raise click.BadParameter(str(error), param_hint="--where") from None
        return found if len(indexes) > 1 else found[indexes[0]]

    def _last(self, index: str, time: str | None) -> "Rules":
        from longshore import F

        assert self.last is not None
        period = options.period(self.last, "--last")
        if time is None:
            raise click.BadParameter(f"the index {index} has no time field", param_hint="--last")
        return F(time).within(**period)


def partition(text: str) -> PartitionKey:
    """Return a key of `partition_by` from `timestamp:day` or `currency`."""
    field, _, by = text.partition(":")
    key = {"field": field, "by": by} if by else {"field": field}
    return cast(PartitionKey, key)  # the service judges the period


def delivery(text: str) -> Deliver:
    """Return an entry of `deliver` from `NAME`, `NAME:KEY=VALUE,KEY=VALUE` or a JSON object. Raises BadParameter."""
    if text.startswith("{"):
        try:
            return cast(Deliver, msgspec.json.decode(text, type=dict[str, Any]))
        except NOT_DECODED as error:
            raise click.BadParameter(f"{text!r} is no JSON object: {error}", param_hint="--deliver") from None
    name, colon, parts = text.partition(":")
    entry: dict[str, Any] = {"destination": name}
    for part in PART.split(parts) if colon else []:
        key, equals, value = part.partition("=")
        if not equals or not value or key in entry:
            expected = "expected NAME:KEY=VALUE,KEY=VALUE with each key once, such as warehouse:table=orders,mode=merge"
            raise click.BadParameter(f"{expected}, got {text!r}", param_hint="--deliver")
        entry[key] = {"true": True, "false": False}.get(value, value) if key == "overwrite" else value
    return cast(Deliver, entry)
