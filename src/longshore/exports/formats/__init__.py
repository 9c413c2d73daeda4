"""The file formats. A new one is a module for its writer, one for its reader, and a line in FORMATS.

Tests name what must know it beside that: `results.media_types` by its extension, and `client.api_types`, as the client
knows the HTTP contract alone. docs/extending.md has the steps.
"""

from functools import cache
from importlib import import_module
from typing import Any, Literal

import msgspec

from longshore.exports.formats.compression import CODECS, Codec, Compression, Compressor
from longshore.exports.formats.format import WHOLE, FileSpec, Format, PiecePosition, RowKey
from longshore.exports.formats.reader import Reader


class FormatInfo(msgspec.Struct, frozen=True):
    """The properties of a format that are known before its modules are imported."""

    extension: str
    writer: str
    """Module in this package and class, derived from Format."""
    reader: str
    """Module in this package and class, derived from BinaryReader or TextReader."""
    compression: Literal["external", "internal", "fixed"] = "external"
    """The compression of a target compresses the whole file (external), or parts inside it (internal); a format with a
    fixed compression of its own refuses another one."""
    is_concatenable: bool = False
    """Whether pieces of a file that are written apart make the file when they are put together."""
    why_no_first_rows: str = "First rows of this format are not shown."
    """Empty for the formats that `first_rows` reads."""


FORMATS = {
    "csv": FormatInfo("csv", "csv:Csv", "csv_reader:CsvReader", is_concatenable=True, why_no_first_rows=""),
    "json": FormatInfo("json", "json:Json", "json_reader:JsonReader", is_concatenable=True, why_no_first_rows=""),
    "jsonl": FormatInfo(
        "jsonl", "json:JsonLines", "json_reader:JsonReader", is_concatenable=True, why_no_first_rows=""
    ),
    "parquet": FormatInfo(
        "parquet",
        "parquet:Parquet",
        "parquet_reader:ParquetReader",
        "internal",
        why_no_first_rows="A Parquet file is read from its end, and needs a library that the API does not load.",
    ),
    "xlsx": FormatInfo(
        "xlsx",
        "xlsx:Xlsx",
        "xlsx_reader:XlsxReader",
        "fixed",
        why_no_first_rows="A spreadsheet is an archive, which can be read only as a whole.",
    ),
}


def new_format(name: str, spec: FileSpec) -> Format:
    """Return the format of this name for a file."""
    made: Format = _imported(FORMATS[name].writer)(spec)
    return made


@cache
def reader_of(name: str) -> Reader:
    """Return the reader of files of this format."""
    made: Reader = _imported(FORMATS[name].reader)()
    return made


def _imported(path: str) -> Any:
    # When it is needed: Arrow takes 60 MB of memory.
    module, _, name = path.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), name)


def compressor(name: str, compression: Compression | None) -> Compressor | None:
    """Return the compressor of a whole file of this format; None where there is none.

    Members of gzip and frames of Zstandard join, as pieces of a file do: RFC 1952, 2.2, and RFC 8878, 3.1.
    """
    codec = _external_codec(name, compression)
    return codec.start() if codec else None


def extension(name: str, compression: Compression | None) -> str:
    """Return the extension of such files, such as `csv.gz`."""
    codec = _external_codec(name, compression)
    return f"{FORMATS[name].extension}.{codec.extension}" if codec else FORMATS[name].extension


def _external_codec(name: str, compression: Compression | None) -> Codec | None:
    return CODECS[compression] if compression and FORMATS[name].compression == "external" else None


__all__ = [
    "FORMATS",
    "WHOLE",
    "Compression",
    "FileSpec",
    "Format",
    "PiecePosition",
    "RowKey",
    "compressor",
    "extension",
    "new_format",
    "reader_of",
]
