"""The file formats. A new one is a module here, a line in FORMATS and a case in `new_format`."""

from typing import Literal

import msgspec

from longshore.exports.formats.compression import CODECS, Codec, Compression, Compressor
from longshore.exports.formats.format import WHOLE, FileSpec, Format, PiecePosition, RowKey


class FormatInfo(msgspec.Struct, frozen=True):
    """The properties of a format that are known before its module is imported."""

    extension: str
    compression: Literal["external", "internal", "fixed"] = "external"
    """The compression of a target compresses the whole file (external), or parts inside it (internal); a format with a
    fixed compression of its own refuses another one."""
    is_concatenable: bool = False
    """Whether pieces of a file that are written apart make the file when they are put together."""


FORMATS = {
    "csv": FormatInfo("csv", is_concatenable=True),
    "json": FormatInfo("json", is_concatenable=True),
    "jsonl": FormatInfo("jsonl", is_concatenable=True),
    "parquet": FormatInfo("parquet", "internal"),
    "xlsx": FormatInfo("xlsx", "fixed"),
}


def new_format(name: str, spec: FileSpec) -> Format:
    """Return the format of this name for a file. Its module is imported when needed: Arrow takes 60 MB of memory."""
    match name:
        case "csv":
            from longshore.exports.formats.csv import Csv

            return Csv(spec)
        case "json":
            from longshore.exports.formats.json import Json

            return Json(spec)
        case "jsonl":
            from longshore.exports.formats.json import JsonLines

            return JsonLines(spec)
        case "parquet":
            from longshore.exports.formats.parquet import Parquet

            return Parquet(spec)
        case "xlsx":
            from longshore.exports.formats.xlsx import Xlsx

            return Xlsx(spec)
    raise AssertionError(name)


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
]
