"""Control totals: what the source says a result must add up to, and whether its bytes do.

The catalog declares them: the sum of an amount for each value of another field, such as a ledger's currency. PostgreSQL
adds up in the snapshot that the rows came from, a reader that has no part in writing adds up what stands in the file.
Sums are exact decimals. Both sides take NaN and infinities as PostgreSQL does, so that they compare.
"""

from collections.abc import Iterable, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.exports.catalog import Index
from longshore.exports.columns import FLOATS, INTEGERS, Column
from longshore.exports.ranges import Source

EXACT = Context(prec=150_000, traps=[])  # more digits than a numeric of PostgreSQL can have

EXACT_TYPES = INTEGERS | {"numeric"}
NO_KEYS = FLOATS | {"numeric", "bool", "timestamp", "timestamptz"}  # not written alike in all formats

Key = str | None
Sums = dict[Key, tuple[int, Decimal]]
"""Rows and sum for each value; None stands for the rows that have none."""
NOTHING = (0, Decimal(0))


class TotalsMismatchError(LongshoreError):
    """A file does not add up to what the source holds."""


class Sum(msgspec.Struct, frozen=True):
    """What the rows of one value add up to."""

    value: str | None
    rows: int
    sum: str
    """A decimal, exact; the amounts that are NULL left out."""


class Totals(msgspec.Struct, frozen=True):
    """The control totals of a result."""

    amount: str
    """The column that is added up."""
    per: str
    """The column for each of whose values it is."""
    sums: Sequence[Sum]

    @property
    def rows(self) -> int:
        """The rows of the result."""
        return sum(one.rows for one in self.sums)

    def by_value(self) -> Sums:
        """The sums as figures."""
        return {one.value: (one.rows, Decimal(one.sum)) for one in self.sums}


class Counted(msgspec.Struct, frozen=True):
    """The two columns of an export that its totals are made of."""

    amount: Column
    per: Column

    @property
    def scale(self) -> int | None:
        """Digits behind the point of the amount, where that is known."""
        if self.amount.pg_type in INTEGERS:
            return 0
        return self.amount.field.decimals if self.amount.scale is None else self.amount.scale


def counted(index: Index, columns: Sequence[Column]) -> Counted | None:
    """What is added up of an export; None where the catalog declares nothing, or one of the columns was not chosen."""
    if index.totals is None:
        return None
    amount, per = (
        next((column for column in columns if column.field is index.fields[name]), None)
        for name in (index.totals.amount, index.totals.per)
    )
    # The sum of binary fractions depends on the order in which they are added, so it shows nothing.
    if amount is None or per is None or amount.pg_type not in EXACT_TYPES or per.pg_type in NO_KEYS:
        return None
    return Counted(amount, per)


async def in_source(connection: Connection, source: Source, what: Counted) -> Totals:
    """The totals of the rows in the snapshot that the connection holds."""
    value, amount = what.per.shown, f"({what.amount.expression})::numeric"
    query = f"select {value}, count(*), coalesce(sum({amount}), 0) {source.sql} group by 1"
    found = added(tuple(row) for row in await connection.fetch(query, *source.values))
    sums = [Sum(key, found[key][0], format(found[key][1], "f")) for key in sorted(found, key=_order)]
    return Totals(what.amount.name, what.per.name, sums)


def added(parts: Iterable[tuple[Key, int, Decimal]]) -> Sums:
    """Parts of sums put together. Blanks at a value's end are left out: not all formats keep those of a `char(3)`."""
    sums: Sums = {}
    for value, rows, part in parts:
        key = value and value.rstrip(" ")
        rows_before, before = sums.get(key, NOTHING)
        sums[key] = rows_before + rows, EXACT.add(before, part)
    return sums


def compare(expected: Totals, found: Sums) -> None:
    """Raises TotalsMismatchError where the sums differ."""
    if (what := difference(expected, found)) is not None:
        raise TotalsMismatchError(what)


def difference(expected: Totals, found: Sums) -> str | None:
    """The first of the sums that differ, in words; None where none does."""
    wanted = expected.by_value()
    for value in sorted(wanted | found, key=_order):
        rows, total = wanted.get(value, NOTHING)
        found_rows, found_total = found.get(value, NOTHING)
        if rows != found_rows or not _same(total, found_total):
            shown = "no value" if value is None else repr(value)
            return (
                f"the control totals differ: of {expected.per} {shown} there must be {rows} rows, "
                f"whose {expected.amount} adds up to {total:f}, and the file has {found_rows} rows with {found_total:f}"
            )
    return None


def _order(value: Key) -> tuple[bool, str]:
    return value is None, value or ""


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one.is_nan() and other.is_nan()))
