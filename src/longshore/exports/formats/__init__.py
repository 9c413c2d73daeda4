"""The formats: how rows become bytes. A new one is a file here and a line in FORMATS."""

from collections.abc import Callable, Sequence

from longshore.exports.columns import Column
from longshore.exports.formats.compression import CODECS, Compressed, Compression
from longshore.exports.formats.csv import Csv
from longshore.exports.formats.dialect import Dialect
from longshore.exports.formats.format import Format
from longshore.exports.formats.json import Json, JsonLines
from longshore.exports.formats.parquet import Parquet
from longshore.exports.formats.xlsx import Xlsx

FORMATS: dict[str, type[Csv | JsonLines]] = {
    "csv": Csv,
    "json": Json,
    "jsonl": JsonLines,
    "parquet": Parquet,
    "xlsx": Xlsx,
}

# Formats that compress themselves; a compression asked for is used inside (Parquet), or refused (xlsx is a zip).
INSIDE: dict[str, Callable[[Sequence[Column], Dialect, Compression], Format]] = {"parquet": Parquet}
NEVER = frozenset({"xlsx"})


def make(name: str, columns: Sequence[Column], dialect: Dialect, compression: Compression | None) -> Format:
    """A format by its name, compressed if that was asked for."""
    if compression is None:
        return FORMATS[name](columns, dialect)
    if name in INSIDE:
        return INSIDE[name](columns, dialect, compression)
    return Compressed(FORMATS[name](columns, dialect), compression)


def extension(name: str, compression: Compression | None) -> str:
    """How the names of such files end."""
    outside = compression is not None and name not in INSIDE
    return FORMATS[name].extension + (f".{CODECS[compression][0]}" if outside and compression else "")


def media_type(file_name: str) -> str:
    """The media type of a result, by its name."""
    ending = file_name.rpartition(".")[2]
    known = {form.extension: form.media_type for form in FORMATS.values()}
    return known.get(ending) or next(kind for suffix, kind, _ in CODECS.values() if suffix == ending)


__all__ = ["FORMATS", "NEVER", "Compression", "Format", "extension", "make", "media_type"]
