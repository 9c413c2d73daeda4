"""What a format is to the copy: a query, COPY options, and a way to frame the bytes that PostgreSQL makes of rows."""

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from longshore.errors import LongshoreError

MAX_SHOWN_CHARACTERS = 100  # of a value in an error message


class Place(msgspec.Struct, frozen=True):
    """Which part of a file is written, where it is put together from several."""

    first: bool = True
    last: bool = True


WHOLE = Place()


class RowKey(msgspec.Struct, frozen=True):
    """The column that names a row in error messages."""

    name: str
    expression: str
    """SQL of its value."""


class CellError(LongshoreError):
    """A value that the format cannot hold. The message has column, row key, value and the reason."""

    def __init__(self, column: str, row: str, value: str, reason: str) -> None:
        shown = value if len(value) <= MAX_SHOWN_CHARACTERS else f"{value[:MAX_SHOWN_CHARACTERS]}…"
        super().__init__(f'column "{column}" of the row with {row} holds {shown!r}, {reason}')


class Format(Protocol):
    """Frames one file."""

    @property
    def rows(self) -> int:
        """Rows so far; after `end`, the rows counted in the finished file."""

    def query(self, source: str) -> str:
        """The query whose rows are copied; `source` begins with `from`."""

    def options(self) -> dict[str, Any]:
        """How PostgreSQL writes the rows, as asyncpg's copy_from_query takes it. Rows only: no header."""

    def begin(self) -> bytes:
        """What stands before the first row."""

    def frame(self, block: bytes) -> bytes:
        """A block of PostgreSQL's output, cut anywhere, as it goes into the file."""

    def end(self) -> Iterator[bytes]:
        """What stands after the last row."""
