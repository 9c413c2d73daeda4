"""Control totals: the sums that the source reports for a result, and their comparison with the sums of the file.

The catalog declares them: the sum of an amount for each value of another field, such as a ledger's currency. PostgreSQL
adds up in the snapshot that the rows come from (`source_totals`); `readback`, which shares no code with the writers,
adds up the file. Sums are exact decimals. Both sides treat NaN and infinities as PostgreSQL does, so that they compare.
"""

from collections.abc import Iterable, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec

from longshore.errors import LongshoreError

EXACT = Context(prec=150_000, traps=[])  # more digits than a numeric of PostgreSQL can have

Key = str | None
Sums = dict[Key, tuple[int, Decimal]]
"""Rows and sum for each value; None stands for the rows without a value."""
ZERO = (0, Decimal(0))


class Sum(msgspec.Struct, frozen=True):
    """The sum of the amounts in the rows of one value."""

    value: str | None
    rows: int
    sum: str
    """An exact decimal; amounts that are NULL count as 0."""


class Totals(msgspec.Struct, frozen=True):
    """The control totals of a result."""

    amount: str
    """The column that is added up."""
    per: str
    """The column that the sums are grouped by."""
    sums: Sequence[Sum]

    @property
    def rows(self) -> int:
        """The number of rows of the result."""
        return sum(one.rows for one in self.sums)


class TotalColumns(msgspec.Struct, frozen=True):
    """The two columns of a file that its totals are made of."""

    amount: str
    per: str
    scale: int | None
    """Decimals of the amounts, as far as it is known."""

    def totals(self, sums: Sums) -> Totals:
        """Return the totals that have these sums."""
        return Totals(self.amount, self.per, as_list(sums))


def add_partial_sums(sums: Sums, parts: Iterable[tuple[Key, int, Decimal]]) -> Sums:
    """Return `sums` after each part, of value, rows and sum, was added to it.

    Blanks at the end of a value do not count: not all formats keep those of a `char(3)`.
    """
    for value, rows, part in parts:
        key = value and value.rstrip(" ")
        rows_before, before = sums.get(key, ZERO)
        sums[key] = rows_before + rows, EXACT.add(before, part)
    return sums


def as_list(sums: Sums) -> list[Sum]:
    """Return sums as a manifest has them, in the order of their values."""
    return [Sum(value, sums[value][0], format(sums[value][1], "f")) for value in sorted(sums, key=_order)]


def of_list(sums: Iterable[Sum]) -> Sums:
    """Return sums that a manifest or a shard has as a list."""
    return {one.value: (one.rows, Decimal(one.sum)) for one in sums}


def merge(sums: Sums, more: Sums) -> None:
    """Add sums to others."""
    add_partial_sums(sums, ((value, rows, total) for value, (rows, total) in more.items()))


def compare(expected: Totals, actual: Sums) -> None:
    """Raise LongshoreError for the first of the sums that differ."""
    sums = of_list(expected.sums)
    for value in sorted(sums | actual, key=_order):
        rows, total = sums.get(value, ZERO)
        actual_rows, actual_total = actual.get(value, ZERO)
        if rows != actual_rows or not _same(total, actual_total):
            shown = "no value" if value is None else repr(value)
            raise LongshoreError(
                f"the control totals differ: of {expected.per} {shown} there must be {rows} rows, "
                f"whose {expected.amount} adds up to {total:f}, "
                f"and the file has {actual_rows} rows with {actual_total:f}"
            )


def _order(value: Key) -> tuple[bool, str]:
    return value is None, value or ""


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one.is_nan() and other.is_nan()))
