"""The base class of formats: a query, COPY options, and the framing of the bytes that PostgreSQL makes of rows."""

import abc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from longshore.errors import LongshoreError
from longshore.exports.formats.compression import Compression
from longshore.exports.formats.dialect import Dialect
from longshore.validation import shortened

if TYPE_CHECKING:
    from longshore.exports.columns import Column


class PiecePosition(msgspec.Struct, frozen=True):
    """The position of a piece in a file that is put together from several."""

    first: bool = True
    last: bool = True


WHOLE = PiecePosition()


class RowKey(msgspec.Struct, frozen=True):
    """The columns that name a row in error messages: `id 17`, or `store 17, number 4`."""

    name: str
    """Of the first column."""
    expression: str
    """SQL of its value, followed by the names and values of the others."""


class FileSpec(msgspec.Struct, frozen=True):
    """The content of a file, or of a piece of one."""

    columns: "Sequence[Column]"
    dialect: Dialect = Dialect()
    """Used by CSV alone."""
    compression: Compression | None = None
    """Used by Parquet alone; another one is around the file."""
    position: PiecePosition = WHOLE
    """Always the whole file for a format that is not concatenable."""
    key: RowKey | None = None
    """Used by the formats that cannot hold every value."""
    part_bytes: int | None = None
    """The bytes at which the file is to end; None: with the last row."""


def cell_error(column: str, row: str, value: str, reason: str) -> LongshoreError:
    """Return the error for a value that the format cannot hold. `row`: name and value of the row's key."""
    return LongshoreError(f'column "{column}" of the row with {row} holds {shortened(value)!r}, {reason}')


class Format(abc.ABC):
    """Makes the bytes of a file, or of a piece of one, from rows that PostgreSQL copies. Used by one thread only."""

    def __init__(self, spec: FileSpec) -> None:
        self.rows = 0
        """Rows so far; after `end`, the rows counted in the finished file."""
        self.footer: Any = None
        """After `end`, the metadata of the finished file where it is Parquet; else None."""
        self._spec = spec

    @abc.abstractmethod
    def query(self, from_clause: str) -> str:
        """Return the query whose rows are copied; `from_clause` begins with `from`."""

    def options(self) -> dict[str, Any]:
        """Return the COPY options, as asyncpg's copy_from_query takes them. Rows only: no header."""
        return {"format": "csv", "encoding": "utf-8"}

    def begin(self) -> bytes:
        """Open the temporary files that it needs. Return the bytes before the first row."""
        return b""

    @abc.abstractmethod
    def frame(self, block: bytes) -> bytes:
        """Return the bytes of the file for one or more whole rows of PostgreSQL's output."""

    def complete_bytes(self, size: int) -> int:
        """Return the bytes of the file so far, which depend on its rows alone. `size`: those that were handed out."""
        return size

    def end(self) -> Iterator[bytes]:
        """Yield the bytes after the last row."""
        yield b""
