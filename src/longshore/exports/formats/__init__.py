"""The formats: how rows become bytes. A new one is a file here and a line in FORMATS."""

import functools
import importlib
from collections.abc import Callable, Sequence

import msgspec

from longshore.exports.columns import Column
from longshore.exports.formats.compression import CODECS, Compressed, Compression
from longshore.exports.formats.dialect import Dialect
from longshore.exports.formats.format import WHOLE, Format, Place, RowKey


class Kind(msgspec.Struct, frozen=True):
    """What is known of a format before its file is imported; Arrow alone would take every process 60 MB."""

    module: str
    name: str
    extension: str
    compression: str = "around"
    """Whether a compression goes `around` the file, `inside`, or is `refused` as the format has its own."""
    joins: bool = False
    """Whether parts of a file that are written apart make the file when they are put together."""
    holds_all: bool = True
    """Whether it holds every value, as text does; else it names the row of a value that it cannot hold."""


FORMATS = {
    "csv": Kind("csv", "Csv", "csv", joins=True),
    "json": Kind("json", "Json", "json", joins=True),
    "jsonl": Kind("json", "JsonLines", "jsonl", joins=True),
    "parquet": Kind("parquet", "Parquet", "parquet", "inside", holds_all=False),
    "xlsx": Kind("xlsx", "Xlsx", "xlsx", "refused", holds_all=False),
}


def make(
    name: str,
    columns: Sequence[Column],
    dialect: Dialect,
    compression: Compression | None,
    read: Callable[[Format], Format] = lambda form: form,
    place: Place = WHOLE,
    key: RowKey | None = None,
) -> Format:
    """A format by its name, compressed if that was asked for. `read` is put around what is not compressed yet.

    `key`: the column that names a row in errors. `place`: for a format that `joins`, which part of the file it writes.
    Members of gzip and frames of Zstandard join as well: RFC 1952, 2.2, and RFC 8878, 3.1.
    """
    kind = FORMATS[name]
    build: Callable[..., Format] = getattr(importlib.import_module(f"{__name__}.{kind.module}"), kind.name)
    if kind.joins:
        build = functools.partial(build, place=place)
    if not kind.holds_all:
        build = functools.partial(build, key=key)
    if compression is None:
        return read(build(columns, dialect))
    if kind.compression == "inside":
        return build(columns, dialect, compression)
    return Compressed(read(build(columns, dialect)), compression)


def extension(name: str, compression: Compression | None) -> str:
    """How the names of such files end."""
    kind = FORMATS[name]
    around = compression is not None and kind.compression == "around"
    return f"{kind.extension}.{CODECS[compression].extension}" if compression and around else kind.extension


__all__ = ["FORMATS", "WHOLE", "Compression", "Format", "Place", "RowKey", "extension", "make"]
