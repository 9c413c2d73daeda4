"""Amounts in Arrow's columns, added up for each value."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from longshore.exports.formats.reader import PartialSum

DIGITS = 28  # of an amount that Arrow adds up; the sum of a block's amounts has ten more digits to grow into
WIDE_DIGITS = 76  # of an amount of more digits: Arrow adds up in its own type, and wraps around without an error
MAX_DISTINCT_VALUES = 32  # different values in one batch


def parts_of(values: Any, amounts: Any, decimal_comma: bool = False) -> Iterator[PartialSum]:
    """Yield the parts of a batch. `amounts`: decimals, or their texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Not by `group_by`: that imports pandas where it is installed, a second and 60 MB.
    different = pc.unique(values)
    if len(different) > MAX_DISTINCT_VALUES or not pa.types.is_decimal128(amounts.type):
        for value, amount in zip(values.to_pylist(), amounts.to_pylist(), strict=True):
            text = amount.replace(",", ".") if decimal_comma and isinstance(amount, str) else amount
            yield value, 1, Decimal(0 if text is None else text)
        return
    if amounts.type.precision > DIGITS:
        amounts = amounts.cast(pa.decimal256(WIDE_DIGITS, amounts.type.scale))
    for value in different:
        matching = pc.filter(amounts, pc.equal(values, value) if value.is_valid else pc.is_null(values))
        yield value.as_py(), len(matching), pc.sum(matching).as_py() or Decimal(0)
