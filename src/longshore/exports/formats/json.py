"""JSON: one array of objects, a line for each row; decimals exact as numbers, times as ISO 8601 strings.

PostgreSQL makes each object. It is copied out as CSV whose quote and delimiter are control characters, which JSON text
never holds unescaped: so nothing is escaped twice, and a line feed ends a row. Only a stored document that was indented
(a column of type `json`) has line breaks of its own; PostgreSQL puts its row into quotes, which the frame takes off.
"""

from typing import Any

from longshore.exports.catalog import named

QUOTE = b"\x01"
BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class Json:
    """An array of objects."""

    extension = "json"
    media_type = "application/json"

    def __init__(self) -> None:
        self.rows = 0
        self._held = b"[\n"
        self._inside = False  # a block may end inside a row in quotes

    def query(self, names: list[str], expressions: list[str], source: str) -> str:
        columns = named(names, expressions)
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
        if not block:
            return b""
        # A comma follows a row only once there is a next one, so the end of each block is held back.
        self.rows += block.count(b"\n")
        framed = self._held + block.replace(b"\n", b",\n")
        self._held = b""
        if framed.endswith(b",\n"):
            framed, self._held = framed[:-2], b",\n"
        return framed

    def end(self) -> bytes:
        return b"\n]\n" if self.rows else b"[]\n"
