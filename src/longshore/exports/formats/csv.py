"""CSV after RFC 4180: a header line, CRLF between records, UTF-8; NULL is empty and the empty string is "".

PostgreSQL quotes and escapes; what is left to do is to end records with CRLF instead of LF, and to count them.
"""

from typing import Any

from longshore.exports.catalog import named


class Csv:
    """Comma-separated values."""

    extension = "csv"
    media_type = "text/csv; charset=utf-8; header=present"

    def __init__(self) -> None:
        self.rows = -1  # the header is a record too
        self._inside = False  # a block may end inside a quoted field

    def query(self, names: list[str], expressions: list[str], source: str) -> str:
        return f"select {named(names, expressions)} {source}"

    def options(self) -> dict[str, Any]:
        return {"format": "csv", "header": True, "encoding": "utf-8"}

    def begin(self) -> bytes:
        return b""

    def frame(self, block: bytes) -> bytes:
        # Line feeds inside quotes belong to a value: after every other quote they are not counted and not changed.
        # An escaped quote is two quotes, so the count of quotes says at each point whether it is inside.
        parts = block.split(b'"')
        if b"\n" in b"".join(parts[not self._inside :: 2]):
            parts[self._inside :: 2] = [part.replace(b"\n", b"\r\n") for part in parts[self._inside :: 2]]
            framed = b'"'.join(parts)
        else:
            framed = block.replace(b"\n", b"\r\n")
        self.rows += len(framed) - len(block)  # each end of a record has become one byte longer
        self._inside ^= len(parts) % 2 == 0
        return framed

    def end(self) -> bytes:
        return b""
