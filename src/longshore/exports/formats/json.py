"""JSON: one array of objects, or an object on each line; decimals exact as numbers, times as ISO 8601 strings.

PostgreSQL makes each object. It is copied out as CSV whose quote and delimiter are control characters, which JSON text
never holds unescaped: so nothing is escaped twice, and a line feed ends a row. Only a stored document that was indented
(a column of type `json`) has line breaks of its own; PostgreSQL puts its row into quotes, which the frame takes off.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from longshore.exports.columns import Column, named
from longshore.exports.formats.dialect import Dialect

QUOTE = b"\x01"
BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class JsonLines:
    """An object on each line."""

    def __init__(self, columns: Sequence[Column], _dialect: Dialect) -> None:
        self.rows = 0
        self._columns = columns
        self._inside = False  # a block may end inside a row in quotes

    def query(self, source: str) -> str:
        columns = named(self._columns, [column.as_json for column in self._columns])
        return f"select row_to_json(line) from (select {columns} {source}) line"  # noqa: S608  # from the catalog alone

    def options(self) -> dict[str, Any]:
        return {"format": "csv", "quote": QUOTE.decode(), "delimiter": "\x02", "encoding": "utf-8"}

    def begin(self) -> bytes:
        return b""

    def frame(self, block: bytes) -> bytes:
        if self._inside or QUOTE in block:
            parts = block.split(QUOTE)
            # Between the tokens of JSON a space is as good as a line break; inside its strings there is none.
            parts[not self._inside :: 2] = [part.translate(BREAKS_TO_SPACES) for part in parts[not self._inside :: 2]]
            self._inside ^= len(parts) % 2 == 0
            block = b"".join(parts)
        self.rows += block.count(b"\n")
        return block

    def end(self) -> Iterator[bytes]:
        yield b""


class Json(JsonLines):
    """An array of objects."""

    def __init__(self, columns: Sequence[Column], dialect: Dialect) -> None:
        super().__init__(columns, dialect)
        self._held = b"[\n"

    def frame(self, block: bytes) -> bytes:
        if not block:
            return b""
        # A comma follows a row only once there is a next one, so the end of each block is held back.
        framed = self._held + super().frame(block).replace(b"\n", b",\n")
        self._held = b""
        if framed.endswith(b",\n"):
            framed, self._held = framed[:-2], b",\n"
        return framed

    def end(self) -> Iterator[bytes]:
        yield b"\n]\n" if self.rows else b"[]\n"
