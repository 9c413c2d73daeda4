"""The formats: how rows become bytes. A new one is a file here and a line in FORMATS."""

import importlib
from collections.abc import Callable, Sequence

import msgspec

from longshore.exports.columns import Column
from longshore.exports.formats.compression import CODECS, Compressed, Compression
from longshore.exports.formats.dialect import Dialect
from longshore.exports.formats.format import Format


class Kind(msgspec.Struct, frozen=True):
    """What is known of a format before its file is imported; Arrow alone would take every process 60 MB."""

    module: str
    name: str
    media_type: str
    extension: str
    compression: str = "around"
    """Whether a compression goes `around` the file, `inside`, or is `refused` as the format has its own."""


FORMATS = {
    "csv": Kind("csv", "Csv", "text/csv; charset=utf-8", "csv"),
    "json": Kind("json", "Json", "application/json", "json"),
    "jsonl": Kind("json", "JsonLines", "application/x-ndjson", "jsonl"),
    "parquet": Kind("parquet", "Parquet", "application/vnd.apache.parquet", "parquet", "inside"),
    "xlsx": Kind(
        "xlsx", "Xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx", "refused"
    ),
}


def make(
    name: str,
    columns: Sequence[Column],
    dialect: Dialect,
    compression: Compression | None,
    read: Callable[[Format], Format] = lambda form: form,
) -> Format:
    """A format by its name, compressed if that was asked for. `read` is put around what is not compressed yet."""
    kind = FORMATS[name]
    build: Callable[..., Format] = getattr(importlib.import_module(f"{__name__}.{kind.module}"), kind.name)
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


def media_type(file_name: str) -> str:
    """The media type of a result, by its name; bytes of any kind for one that no format here writes."""
    types = {kind.extension: kind.media_type for kind in FORMATS.values()}
    types |= {codec.extension: codec.media_type for codec in CODECS.values()}
    return types.get(file_name.rpartition(".")[2], "application/octet-stream")


__all__ = ["FORMATS", "Compression", "Format", "extension", "make", "media_type"]
