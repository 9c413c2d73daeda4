r"""Excel workbooks, up to the row limit of a sheet. Text is written as strings, never as formulas or numbers.

The rows come in COPY's text format, in which a record is a line and NULL is `\N`; see
https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.worksheet import Worksheet

from longshore.errors import LongshoreError
from longshore.exports.catalog import FieldType
from longshore.exports.columns import FLOATS, INTEGERS, Column
from longshore.exports.formats.format import Format, cell_error
from longshore.exports.formats.nested import projected, select
from longshore.exports.formats.xlsx_reader import CHUNK_BYTES, count_rows
from longshore.exports.temporary_files import temporary_files

# https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3
MAX_ROWS = 1_048_575  # and a header; it has 16,384 columns, and a query of PostgreSQL has at most 1,664
MAX_SHEET_BYTES = 2_000_000_000  # of XML; zipfile takes 5 % less than 2 GiB, and Excel repairs files with ZIP64
MAX_UNITS = 32_767  # UTF-16 code units of a cell
EXACT_DIGITS = 15  # Excel keeps no more digits of a number
MAX_EXPONENT = 307  # of ten, for numbers that a binary double holds to EXACT_DIGITS, and Excel takes
EARLIEST = datetime(1900, 3, 1)  # before it, Excel's calendar has a day that never was
TIME_FORMAT = "yyyy-mm-dd hh:mm:ss.000"
DAY_FORMAT = "yyyy-mm-dd"

WORKBOOK = "a workbook"

NUMBERS = INTEGERS | FLOATS | {"numeric"}
ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class Xlsx(Format):
    """A workbook of one sheet, written to a temporary file row by row."""

    def query(self, from_clause: str) -> str:
        expressions = [
            projected(column) if column.field.type is FieldType.NESTED else column.copy_sql
            for column in self._spec.columns
        ]
        return select(self._spec, expressions, from_clause)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "format": "text"}

    def begin(self) -> bytes:
        with temporary_files(WORKBOOK):
            self._folder = tempfile.TemporaryDirectory(prefix="longshore-")
            self._path = Path(self._folder.name) / "export.xlsx"
            self._book = xlsxwriter.Workbook(str(self._path), {"constant_memory": True, "tmpdir": self._folder.name})
            # A workbook holds its time of creation, which is fixed so that the same rows give the same bytes.
            self._book.set_properties({"created": datetime(2000, 1, 1)})
            self._time = self._book.add_format({"num_format": TIME_FORMAT})
            self._day = self._book.add_format({"num_format": DAY_FORMAT})
            self._sheet: Worksheet = self._book.add_worksheet("Export")
            for position, column in enumerate(self._spec.columns):
                self._write_text(position, column.name)
        return b""

    def frame(self, block: bytes) -> bytes:
        with temporary_files(WORKBOOK):
            for line in block.split(b"\n")[:-1]:
                self._write(line.split(b"\t"))
            # The sheet alone is in the folder before `end`. A block adds less than the limit leaves.
            if sum(file.stat().st_size for file in self._path.parent.iterdir()) > MAX_SHEET_BYTES:
                raise LongshoreError(
                    f"a worksheet ends after {MAX_SHEET_BYTES:,} bytes of XML; choose another format, fewer fields, or"
                    " a segment"
                )
        return b""

    def end(self) -> Iterator[bytes]:
        with temporary_files(WORKBOOK):
            try:
                self._book.close()
            except FileCreateError as error:  # XlsxWriter raises errors of the disk while it compresses as its own
                raise error.args[0] from error
        with self._path.open("rb") as file:
            self.rows = count_rows(file)
            file.seek(0)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
        self._folder.cleanup()

    def _write(self, values: Sequence[bytes]) -> None:
        self.rows += 1
        if self.rows > MAX_ROWS:
            raise LongshoreError(f"a worksheet ends after {MAX_ROWS:,} rows; choose another format, or a segment")
        columns = self._spec.columns
        if all(value == rb"\N" for value in values[: len(columns)]):
            # XlsxWriter leaves out a row without cells, and writes a blank cell only with a format.
            self._sheet.write_blank(self.rows, 0, None, self._time)
        for position, (column, value) in enumerate(zip(columns, values, strict=False)):
            if value == rb"\N":
                continue
            try:
                text = _unescaped(value).decode()
            except UnicodeDecodeError:
                raise self._error(column, values, value.decode(errors="replace"), "which is not UTF-8") from None
            if not self._write_cell(position, column, text):
                units = len(text.encode("utf-16-le")) // 2
                reason = (
                    f"which has {units:,} characters (UTF-16 units); a cell of a workbook holds {MAX_UNITS:,}: "
                    "choose another format, or shorten the column by `sql` in the catalog"
                )
                raise self._error(column, values, text, reason)

    def _write_cell(self, position: int, column: Column, text: str) -> bool:
        """Write a value. Return False if the cell cannot hold it."""
        if column.pg_type == "bool":
            self._sheet.write_boolean(self.rows, position, text == "true")
        elif column.pg_type in NUMBERS and (number := _exact_number(text)) is not None:
            self._sheet.write_number(self.rows, position, number)
        elif column.pg_type in ("date", "timestamp", "timestamptz") and (moment := _excel_time(text)):
            shown = self._day if column.pg_type == "date" else self._time
            self._sheet.write_datetime(self.rows, position, moment, shown)
        else:
            return self._write_text(position, text)
        return True

    def _write_text(self, position: int, text: str) -> bool:
        if text.startswith("<r>") and text.endswith("</r>"):
            # XlsxWriter reads such a string as the markup of rich text, so it is written as rich text without formats.
            parts = (text[:1], text[1:2], text[2:])  # XlsxWriter refuses fewer than three
            return bool(self._sheet.write_rich_string(self.rows, position, *parts) == 0)
        return bool(self._sheet.write_string(self.rows, position, text) == 0)

    def _error(self, column: Column, values: Sequence[bytes], value: str, reason: str) -> LongshoreError:
        row = f"number {self.rows}"
        if self._spec.key is not None:
            row = f"{self._spec.key.name} {_unescaped(values[-1]).decode(errors='replace')}"
        return cell_error(column.name, row, value, reason)


def _unescaped(value: bytes) -> bytes:
    return ESCAPED.sub(lambda match: ESCAPES.get(match[1], match[1]), value) if b"\\" in value else value


def _exact_number(text: str) -> float | None:
    """Return a number whose digits Excel shows unchanged; None for others, which are written as text."""
    value = Decimal(text)
    if not value.is_finite():
        return None
    if not value:
        return None if value.is_signed() else 0.0
    digits = "".join(map(str, value.as_tuple().digits)).strip("0")
    fits = len(digits) <= EXACT_DIGITS and abs(value.adjusted()) < MAX_EXPONENT
    return float(value) if fits else None


def _excel_time(text: str) -> datetime | None:
    """Return a time that Excel holds; None for one before March 1900, after the year 9999 or finer than a ms."""
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None
    return moment if moment >= EARLIEST and moment.microsecond % 1000 == 0 else None
