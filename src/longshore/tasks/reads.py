"""The export indexes and columns that a run reads: recorded before its first row, checked at each access to the run."""

from collections.abc import Iterable
from typing import Literal

import msgspec

LevelName = Literal["read", "write", "admin"]


class Read(msgspec.Struct, frozen=True):
    """An export index that a run reads, with the columns that it reads."""

    index: str
    level: LevelName | None = None
    """The level that the catalog required when the run began; None if unknown."""
    columns: frozenset[str] | None = None
    """Fields of the catalog that are written, filtered on or summed up; None if unknown."""


DECODER = msgspec.json.Decoder(list[Read])
ENCODER = msgspec.json.Encoder(order="deterministic")


def decoded(text: str | None) -> list[Read]:
    """Return the reads in a row of `tasks` or `runs`; an empty list if the run has read nothing.

    A value that cannot be decoded becomes an index that no catalog has, which admins alone may see.
    """
    try:
        return [] if text is None else DECODER.decode(text)
    except msgspec.MsgspecError:
        return [Read("")]


def merged(reads: Iterable[Read]) -> list[Read]:
    """Return the reads with one entry for each index and level."""
    found: dict[tuple[str, LevelName | None], frozenset[str] | None] = {}
    for read in reads:
        key = read.index, read.level
        before = found.get(key, frozenset())
        found[key] = None if before is None or read.columns is None else before | read.columns
    return [Read(index, level, columns) for (index, level), columns in found.items()]


def encoded(reads: list[Read]) -> str:
    """Return reads as JSON text."""
    return ENCODER.encode(reads).decode()
