"""The key of an export with deletes, as SQL.

Two keys are the same where the result writes them with the same bytes. A key of one integer column is that integer; any
other is the text of its columns, compared as bytes in UTF-8, so that no collation of the source has a part in it.
"""

from collections.abc import Sequence

import msgspec

from longshore.exports.catalog import Index
from longshore.exports.columns import INTEGERS, Column
from longshore.exports.segments.sql import Condition
from longshore.exports.target import CHANGE, REASON

# Types whose equality is that of the bytes of a result.
EXACT_TYPES = INTEGERS | {"uuid", "date", "timestamp", "timestamptz", "bool"}
# Formats that write equal numbers alike, whatever number of zeros at the end of their decimals.
NUMERIC_VALUES = frozenset({"parquet"})

GIVEN_KEYS = "given_keys"
"""The relation of the keys that a statement is given, as text: a column of `given_column` for each of a key."""


def given_column(number: int) -> str:
    """Return the name of a column of the given keys, from 1: one that hides no column of a source."""
    return f"longshore_given_key_{number}"


class Key(msgspec.Struct, frozen=True):
    """The key of an index among the columns of an export."""

    columns: Sequence[Column]
    format: str

    @property
    def name(self) -> str:
        """The names of its columns, for messages."""
        return ", ".join(column.name for column in self.columns)

    @property
    def is_integer(self) -> bool:
        """Whether it is one integer."""
        return len(self.columns) == 1 and self.columns[0].pg_type in INTEGERS

    @property
    def sql(self) -> str:
        """SQL of the key; NULL where a column is."""
        if self.is_integer:
            return f"({self.columns[0].expression})::bigint"
        # With its length before each text but the last, two keys have the same text only if all columns are the same.
        # In bytes of UTF-8: what `length` counts depends on the encoding of the source.
        texts = [self._text(column) for column in self.columns]
        measured = [f"octet_length(pg_catalog.convert_to({text}, 'UTF8'))||':'||{text}" for text in texts[:-1]]
        return "||".join([*measured, texts[-1]])

    @property
    def order(self) -> str:
        """SQL of the order that key lists are in."""
        if self.is_integer or [column.pg_type for column in self.columns] == ["uuid"]:
            return self.columns[0].expression
        return f"pg_catalog.convert_to({self.sql}, 'UTF8')"

    def split(self, keys: Sequence[int | bytes]) -> list[list[str]]:
        """Return the texts of each column of some keys."""
        if self.is_integer:
            return [[str(key) for key in keys]]
        rows = [_parts(key, len(self.columns)) for key in keys if isinstance(key, bytes)]
        return [list(texts) for texts in zip(*rows, strict=True)]

    @property
    def given(self) -> list[tuple[Column, str]]:
        """Its columns, each with SQL of the text that a statement is given for it."""
        return [(column, f"{GIVEN_KEYS}.{given_column(number)}") for number, column in enumerate(self.columns, 1)]

    def from_item(self, first: int, *more: str) -> str:
        """Return a `from` item of the keys in the parameters from `first` on, each an array of the texts of a column.

        `more`: further columns, whose arrays are the last parameters.
        """
        names = [*(given_column(number) for number, _ in enumerate(self.columns, 1)), *more]
        arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(names, first))
        return f"unnest({arrays}) as {GIVEN_KEYS}({', '.join(names)})"

    def among(self, keys: Sequence[Sequence[str]], first: int) -> Condition:
        """Return the condition that a row has one of some keys. `keys`: the texts of each column."""
        same = " and ".join(self._same(column, text) for column, text in self.given)
        return Condition(f"exists (select from {self.from_item(first)} where {same})", tuple(keys))

    def _same(self, column: Column, text: str) -> str:
        # Under the type's own equality, if that compares so, because an index serves a column under that alone.
        if column.pg_type in EXACT_TYPES or (column.pg_type in ("text", "varchar") and column.is_bytewise):
            return f"({column.expression}) = {text}::{column.sql_type}"
        return f'({self._text(column)}) collate pg_catalog."C" = {text}'

    def _text(self, column: Column) -> str:
        if column.pg_type == "numeric" and self.format in NUMERIC_VALUES:
            return f"pg_catalog.trim_scale({column.expression})::text"
        return column.text_sql


def key_of(index: Index, columns: Sequence[Column], format: str) -> Key | None:
    """Return the key of an index among the columns of an export; None where it has none, or lacks a column of it."""
    fields = [index.fields[name] for name in index.key_fields]
    found = [column for field in fields for column in [column for column in columns if column.field is field][:1]]
    return Key(found, format) if found and len(found) == len(fields) else None


def _parts(key: bytes, count: int) -> list[str]:
    parts: list[str] = []
    for _ in range(count - 1):
        length, _, key = key.partition(b":")
        parts.append(key[: int(length)].decode())
        key = key[int(length) :]
    return [*parts, key.decode()]


def deleted_columns(key: Key, columns: Sequence[Column]) -> list[Column]:
    """Return the columns of the rows that a result has of deleted keys: NULL but for the key and the change."""
    values = {column.name: text for column, text in key.given}
    values |= {CHANGE: "'delete'", REASON: f"{GIVEN_KEYS}.{REASON}"}
    return [
        msgspec.structs.replace(column, expression=f"({values.get(column.name, 'null')}::{column.sql_type})")
        for column in columns
    ]
