"""JSON: one array of objects, or an object on each line; decimals exact as numbers, times as ISO 8601 strings.

PostgreSQL makes each object, from pieces of text: that takes two thirds of the time of `row_to_json`, which looks up
the type of each value in each row, and gives the same bytes.

They are copied as CSV whose quote and delimiter are control characters, which JSON text never holds unescaped: so
nothing is escaped twice, and a line feed ends a row. Only a stored document that was indented (a column of type `json`)
has line breaks of its own; PostgreSQL puts its row into quotes, which `frame` removes.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from longshore.exports.catalog import FieldType
from longshore.exports.columns import Column
from longshore.exports.formats.format import FileSpec, Format
from longshore.exports.formats.nested import projected, sql_text

QUOTE = b"\x01"
BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


def object_of(columns: Sequence[Column]) -> str:
    r"""Return SQL of a row as a JSON object: the bytes that `row_to_json` gives, with times in ISO 8601.

    Where the source's encoding lacks characters, the keys have them as `\u` escapes.
    """
    keys = (json.dumps(column.name, ensure_ascii=not column.is_unicode) for column in columns)
    starts = (f"{'{' if number == 0 else ','}{key}:" for number, key in enumerate(keys))
    members = (f"{sql_text(start)}||{_value(column)}" for start, column in zip(starts, columns, strict=True))
    return "||".join(members) + "||'}'"


def _value(column: Column) -> str:
    if column.field.type is FieldType.NESTED:
        return f"coalesce({projected(column)},'null')"
    sql = f"({column.expression})"
    match column.pg_type:
        case "int2" | "int4" | "int8" | "json" | "jsonb":
            text = f"{sql}::text"
        case "bool":
            text = column.copy_sql
        case "numeric" if not column.field.sql:  # PostgreSQL would evaluate an expression of the catalog four times
            # JSON has no number for the others: https://www.rfc-editor.org/rfc/rfc8259#section-6
            finite = f"{sql} > '-Infinity' and {sql} < 'Infinity'"
            text = f"case when {finite} then {sql}::text else '\"'||{sql}::text||'\"' end"
        case "timestamptz" | "timestamp":
            text = f"'\"'||{column.copy_sql}||'\"'"
        case _:
            text = f"to_json({sql})::text"
    return f"coalesce({text},'null')"


class JsonLines(Format):
    """An object on each line."""

    def query(self, from_clause: str) -> str:
        return f"select {object_of(self._spec.columns)} {from_clause}"

    def options(self) -> dict[str, Any]:
        return {**super().options(), "quote": QUOTE.decode(), "delimiter": "\x02"}

    def frame(self, block: bytes) -> bytes:
        if QUOTE in block:
            parts = block.split(QUOTE)
            # Between the tokens of JSON a space means the same as a line break; inside its strings there is none.
            parts[1::2] = [part.translate(BREAKS_TO_SPACES) for part in parts[1::2]]
            block = b"".join(parts)
        self.rows += block.count(b"\n")
        return block


class Json(JsonLines):
    """An array of objects."""

    def __init__(self, spec: FileSpec) -> None:
        super().__init__(spec)
        # The first of several pieces has rows: see `ranges.ranges_of_slices`.
        self._separator = b"[\n" if spec.position.first else b",\n"

    def frame(self, block: bytes) -> bytes:
        # A comma follows a row only once there is a next one, so the line feed of the last row waits for that.
        framed = self._separator + super().frame(block)[:-1].replace(b"\n", b",\n")
        self._separator = b",\n"
        return framed

    def end(self) -> Iterator[bytes]:
        if self._spec.position.last:
            yield b"\n]\n" if self.rows or not self._spec.position.first else b"[]\n"
