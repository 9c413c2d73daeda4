"""The base classes of readers: they read results back, by code that shares nothing with the writers."""

import abc
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import IO

import msgspec

from longshore.exports.formats.dialect import Dialect
from longshore.exports.totals import Key, TotalColumns

PartialSum = tuple[Key, int, Decimal]
"""A value of the column `per`, with the number of some of its rows and the sum of their amounts."""


class Layout(msgspec.Struct, frozen=True):
    """The layout of a result, by which it is read."""

    format: str
    names: Sequence[str]
    """Of its columns."""
    dialect: Dialect
    """Used by CSV alone."""


class Reader(abc.ABC):
    """Reads files of a format, uncompressed and in memory that does not grow with the file. Blocking.

    Its methods raise what reading the file raises, and ValueError where it is not of the format.
    """

    def needs(self, *, totals: bool) -> str | None:  # noqa: ARG002  # for others
        """Return the package that reading needs beside those of the client. `totals`: whether amounts are added up."""
        return None

    @abc.abstractmethod
    def rows(self, file: IO[bytes], layout: Layout) -> int:
        """Return the number of rows."""


class BinaryReader(Reader):
    """Reads a format that is added up once the file is finished."""

    @abc.abstractmethod
    def parts(self, file: IO[bytes], layout: Layout, columns: TotalColumns) -> Iterator[PartialSum]:
        """Yield the amounts of all rows."""


class TextReader(Reader):
    """Reads a text, which is added up block by block while it is written, too."""

    quote: bytes | None = None
    """The quote within which a line feed ends no row; None: each line feed ends one."""

    @abc.abstractmethod
    def parts(self, text: bytes, layout: Layout, columns: TotalColumns, *, header: bool) -> list[PartialSum]:
        """Return the amounts of whole rows. `header`: whether the text begins with the line of the names."""
