"""The formats: how rows become bytes. A new one is a file here and a line in FORMATS."""

from longshore.exports.formats.csv import Csv
from longshore.exports.formats.format import Format
from longshore.exports.formats.json import Json

FORMATS: dict[str, type[Format]] = {"csv": Csv, "json": Json}

__all__ = ["FORMATS", "Format"]
