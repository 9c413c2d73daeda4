"""The first rows of a stored result, as text: read from the first bytes of the file, without the libraries of formats.

Blocking, and bounded by MAX_BYTES: call it in a thread.
"""

import csv
import functools
import io
from collections.abc import Sequence

import msgspec

from longshore.exports import readback
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import CsvOptions, dialect
from longshore.results.store import Store, StoreError
from longshore.validation import shortened

MAX_BYTES = 256 * 1024
"""Of text, read at most."""
MAX_CHARACTERS = 200  # of a value
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class FirstRows(msgspec.Struct, frozen=True):
    """The first rows of a result, or why they cannot be shown."""

    columns: list[str]
    rows: list[list[str]]
    why_not: str | None = None


def first_rows(store: Store, location: str, format: str, options: CsvOptions, count: int) -> FirstRows:
    """Return the first rows of a file in a format.

    A row that does not fit MAX_BYTES is left out. Raises StoreError.
    """
    info = FORMATS.get(format)  # None: of another version
    if info is None or info.why_no_first_rows:
        return FirstRows([], [], info.why_no_first_rows if info else f"This version has no format {format}.")
    try:
        with readback.open_text(functools.partial(store.open, location), location) as file:
            head = file.read(MAX_BYTES + 1)
    except (OSError, StoreError):
        if store.exists(location):
            raise
        return FirstRows([], [], "The file has expired or was deleted.")
    complete = len(head) <= MAX_BYTES
    text = head[:MAX_BYTES].decode("utf-8", "replace")
    if format == "csv":
        return _of_csv(text, options, count, complete=complete)
    return _of_json(text, count, complete=complete)


def _of_csv(text: str, options: CsvOptions, count: int, *, complete: bool) -> FirstRows:
    chosen = dialect(options)
    lines = io.StringIO(text.removeprefix("\ufeff"), newline="")
    wanted = count + chosen.header
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=chosen.delimiter):
            rows.append(row or [""])  # NULL in an only column is an empty line
            if len(rows) > wanted:
                break
    except csv.Error:  # such as a value of more than 128 KiB
        complete = False
    if len(rows) <= wanted and not complete:
        rows = rows[:-1]  # cut off
    columns = rows[0] if chosen.header and rows else [""] * max((len(row) for row in rows), default=0)
    return FirstRows(columns, [[_cut(value) for value in row] for row in rows[chosen.header :][:count]])


def _of_json(text: str, count: int, *, complete: bool) -> FirstRows:
    lines = text.removeprefix("[\n").split("\n")
    if not complete:
        lines = lines[:-1]  # cut off
    return rows_of([line.rstrip(",") for line in lines if line.startswith("{")][:count])


def rows_of(objects: Sequence[str | msgspec.Raw]) -> FirstRows:
    """Return JSON objects with the same keys as rows."""
    decoded = [OBJECT.decode(each) for each in objects]
    columns = list(decoded[0]) if decoded else []
    return FirstRows(columns, [[_cut(_text(row[name])) for name in columns] for row in decoded])


def _text(value: msgspec.Raw) -> str:
    """Return a value as the file has it: numbers keep their digits."""
    text = bytes(value).decode()
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    return "" if text == "null" else text


def _cut(text: str) -> str:
    return shortened(text, MAX_CHARACTERS)
