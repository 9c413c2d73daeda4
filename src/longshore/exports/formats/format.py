"""What a format is to the copy: a query, COPY options, and a way to frame the bytes that PostgreSQL makes of rows."""

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec


class Place(msgspec.Struct, frozen=True):
    """Which part of a file is written, where it is put together from several."""

    first: bool = True
    last: bool = True


WHOLE = Place()


class Format(Protocol):
    """Frames one file. The rows are counted in the bytes that go through, whatever PostgreSQL says."""

    @property
    def rows(self) -> int:
        """Rows that went through `frame`."""

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
