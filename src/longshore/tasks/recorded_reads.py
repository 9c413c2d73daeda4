"""What the runs of a task read: recorded before the first row, and judged whenever somebody asks for the run."""

from collections.abc import Iterable
from typing import Literal

import msgspec

LevelName = Literal["read", "write", "admin"]

# A run of a version that recorded nothing is known by its manifest alone, which names no source columns.
OF_RUN = """coalesce(r.reads, case when r.manifest::json ->> 'index' is not null then
    jsonb_build_array(jsonb_build_object('index', r.manifest::json ->> 'index')) end)"""


class Read(msgspec.Struct, frozen=True):
    """An export index that a run reads, and which columns of it."""

    index: str
    level: LevelName | None = None
    """The level that the catalog asked for when the run began; None where that is not known."""
    columns: frozenset[str] | None = None
    """Names of fields in the catalog: those written, filtered on or summed up. None where they are not known."""


DECODER = msgspec.json.Decoder(list[Read])
ENCODER = msgspec.json.Encoder(order="deterministic")


def decoded(text: str | None) -> list[Read]:
    """The reads that a row of `tasks` or `runs` holds; none where the run has read nothing.

    What this version cannot read, because another one wrote it, is an index that no catalog has: for admins alone.
    """
    try:
        return [] if text is None else DECODER.decode(text)
    except msgspec.MsgspecError:
        return [Read("")]


def merged(reads: Iterable[Read]) -> list[Read]:
    """The same reads with one entry for each index and level."""
    found: dict[tuple[str, LevelName | None], frozenset[str] | None] = {}
    for read in reads:
        key = read.index, read.level
        before = found.get(key, frozenset())
        found[key] = None if before is None or read.columns is None else before | read.columns
    return [Read(index, level, columns) for (index, level), columns in found.items()]


def encoded(reads: list[Read]) -> str:
    """Reads as JSON text."""
    return ENCODER.encode(reads).decode()
