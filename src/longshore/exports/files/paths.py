"""Paths of the files of a run, in the layout that Hive, Spark, DuckDB and Arrow read.

`INDEX/FIELD=VALUE/part-00001.EXT`: names and values are percent-encoded, so that each path is plain ASCII, no value
leads out of its folder, and two values never have one path, where upper and lower case differ.
"""

from collections.abc import Sequence
from urllib.parse import quote

from longshore.errors import LongshoreError

MAX_FILES = 10_000
MAX_NAME_BYTES = 255  # of a folder on Linux: https://man7.org/linux/man-pages/man3/NAME_MAX.3const.html
MAX_PATH_BYTES = 900  # of a run's file; the key of an object has 1,024 at most, with the bucket's prefix
DEFAULT = "__HIVE_DEFAULT_PARTITION__"
"""The folder of rows whose value is NULL or the empty string."""

Values = Sequence[str | None]
"""The values of a partition, one for each key; None stands for NULL and the empty string."""


def too_many_files() -> LongshoreError:
    """Return the error of an export that would have more than MAX_FILES files."""
    return LongshoreError(f"the export has more than {MAX_FILES:,} files; choose fewer partitions or larger parts")


def encoded(text: str) -> str:
    """Return a name or value with each byte percent-encoded but ASCII letters, digits and `-_.`."""
    return quote(text, safe="").replace("~", "%7E")


def index_folder(index: str) -> str:
    """Return the folder of an index, whose name alone must not lead out of the run's folder."""
    return encoded(index) if index.strip(".") else "%2E" * len(index)


def encoded_value(value: str | None) -> str:
    """Return the spelling of a partition's value in a path."""
    if value is None or value == "":
        return DEFAULT
    return f"%5F{DEFAULT[1:]}" if value == DEFAULT else encoded(value)  # a value of that name is another partition


def folder(index: str, keys: Sequence[str], values: Values) -> str:
    """Return the folder of a partition. `keys`: the names of the partition's keys.

    Raises LongshoreError where a value is too long for the name of a folder.
    """
    parts = [index_folder(index)]
    for key, value in zip(keys, values, strict=True):
        part = f"{encoded(key)}={encoded_value(value)}"
        if len(part) > MAX_NAME_BYTES:
            raise LongshoreError(
                f"the partition {key} = {(value or '')[:60]!r}… needs a folder name of {len(part):,} bytes, and a file"
                f" system takes {MAX_NAME_BYTES}; partition by a field with shorter values"
            )
        parts.append(part)
    path = "/".join(parts)
    if len(path) > MAX_PATH_BYTES:
        raise LongshoreError(f"the partition {path[:60]}… needs a path of more than {MAX_PATH_BYTES} bytes")
    return path


def part_name(number: int, extension: str, slice_number: int | None = None) -> str:
    """Return the name of a file: `part-00001.csv`, in the third slice of a large table `part-003-00001.csv`."""
    place = "" if slice_number is None else f"{slice_number:03}-"
    return f"part-{place}{number:05}.{extension}"
