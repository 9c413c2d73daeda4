"""Reads JSON and JSON lines, by msgspec."""

import re
from collections.abc import Iterable
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import IO, Any

import msgspec

from longshore.exports.formats.reader import Layout, PartialSum, TextReader
from longshore.exports.totals import EXACT, TotalColumns

UNUSUAL_NAME = re.compile(r'["\\\x00-\x1f]')  # a member of JSON that msgspec's structs cannot have
MEMBERS = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
ARRAY_OF_MEMBERS = msgspec.json.Decoder(list[dict[str, Any]], float_hook=Decimal)


class _Row(msgspec.Struct, gc=False):
    value: str | int | None
    amount: Decimal | None


class JsonReader(TextReader):
    """Reads an array of objects, and lines of objects: each row is a line that begins with a brace."""

    def rows(self, file: IO[bytes], layout: Layout) -> int:  # noqa: ARG002  # of the base class
        return sum(1 for line in file if line.startswith(b"{"))

    def parts(self, text: bytes, layout: Layout, columns: TotalColumns, *, header: bool) -> list[PartialSum]:  # noqa: ARG002
        amounts: dict[Any, list[Decimal | None]] = {}
        for row in _objects(text, layout.format, columns):
            amounts.setdefault(row.value, []).append(row.amount)
        parts = []
        for value, some in amounts.items():
            with localcontext(EXACT):
                total = sum(filter(None, some), start=Decimal(0))
            parts.append((None if value is None else str(value), len(some), total))
        return parts


def _objects(lines: bytes, format: str, columns: TotalColumns) -> Iterable[Any]:
    """Return the rows as structs with `value` and `amount`."""
    # Each object begins and ends with a brace.
    array_text = b"[" + lines.strip(b"[],\n") + b"]"
    per, amount = columns.per, columns.amount
    if UNUSUAL_NAME.search(amount + per):
        rows = MEMBERS.decode_lines(lines) if format == "jsonl" else ARRAY_OF_MEMBERS.decode(array_text)
        return [_Row(row[per], row[amount] if row[amount] is None else Decimal(row[amount])) for row in rows]
    one, array = _decoders(amount, per)
    return one.decode_lines(lines) if format == "jsonl" else array.decode(array_text)


@lru_cache(maxsize=64)
def _decoders(amount: str, per: str) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[list[Any]]]:
    # Only the two members are kept of each object, and its decimals are read from their digits.
    members: list[Any] = [("value", str | int | None, msgspec.field(name=per))]
    members += [("amount", Decimal | None, msgspec.field(name=amount))]
    one: Any = msgspec.defstruct("Row", members, gc=False)
    return msgspec.json.Decoder(one), msgspec.json.Decoder(list[one])
