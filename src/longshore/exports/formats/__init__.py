"""The file formats. A new one is a module here and a line in FORMATS."""

import importlib
from typing import cast

import msgspec

from longshore.exports.formats.compression import CODECS, Compression, Compressor
from longshore.exports.formats.format import WHOLE, FileSpec, Format, Place, RowKey


class Kind(msgspec.Struct, frozen=True):
    """The properties of a format that are known before its module is imported; Arrow alone takes 60 MB of memory."""

    module: str
    name: str
    extension: str
    compression: str = "around"
    """Whether a compression goes `around` the file, `inside`, or is `refused` as the format has its own."""
    joins: bool = False
    """Whether pieces of a file that are written apart make the file when they are put together."""


FORMATS = {
    "csv": Kind("csv", "Csv", "csv", joins=True),
    "json": Kind("json", "Json", "json", joins=True),
    "jsonl": Kind("json", "JsonLines", "jsonl", joins=True),
    "parquet": Kind("parquet", "Parquet", "parquet", "inside"),
    "xlsx": Kind("xlsx", "Xlsx", "xlsx", "refused"),
}


def make(name: str, spec: FileSpec) -> Format:
    """Return the format of this name for a file."""
    kind = FORMATS[name]
    return cast(Format, getattr(importlib.import_module(f"{__name__}.{kind.module}"), kind.name)(spec))


def compressor(name: str, compression: Compression | None) -> Compressor | None:
    """Return the compressor around a file of this format; None where there is none.

    Members of gzip and frames of Zstandard join, as pieces of a file do: RFC 1952, 2.2, and RFC 8878, 3.1.
    """
    return CODECS[compression].start() if compression and FORMATS[name].compression == "around" else None


def extension(name: str, compression: Compression | None) -> str:
    """Return the extension of such files, such as `csv.gz`."""
    kind = FORMATS[name]
    around = compression is not None and kind.compression == "around"
    return f"{kind.extension}.{CODECS[compression].extension}" if compression and around else kind.extension


__all__ = [
    "FORMATS",
    "WHOLE",
    "Compression",
    "FileSpec",
    "Format",
    "Place",
    "RowKey",
    "compressor",
    "extension",
    "make",
]
