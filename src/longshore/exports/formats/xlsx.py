"""Excel workbooks, up to the row limit of a sheet. Words are strings and never formulas; identifiers stay words."""

import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from longshore.errors import LongshoreError
from longshore.exports.catalog import FieldType
from longshore.exports.columns import Column
from longshore.exports.formats.dialect import Dialect
from longshore.exports.formats.json import JsonLines

# https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3
MOST_ROWS = 1_048_575  # and a header
MOST_CHARACTERS = 32_767
EXACT_DIGITS = 15  # Excel keeps no more of a number
EARLIEST = datetime(1900, 3, 1)  # before, Excel's calendar has a day that never was
DATE_FORMAT = "yyyy-mm-dd hh:mm:ss.000"
CHUNK = 1 << 20

LINE = msgspec.json.Decoder(float_hook=Decimal)
NESTED = msgspec.json.Encoder(decimal_format="number")


class XlsxLimitError(LongshoreError):
    """The rows do not fit a worksheet."""


class Xlsx(JsonLines):
    """A workbook of one sheet, written to a temporary file row by row."""

    def __init__(self, columns: Sequence[Column], dialect: Dialect) -> None:
        super().__init__(columns, dialect)
        self._folder = tempfile.TemporaryDirectory(prefix="longshore-")
        self._path = Path(self._folder.name) / "export.xlsx"
        options = {"constant_memory": True, "tmpdir": self._folder.name, "default_date_format": DATE_FORMAT}
        self._book = xlsxwriter.Workbook(str(self._path), options)
        # A workbook says when it was made; the same rows shall make the same bytes.
        self._book.set_properties({"created": datetime(2000, 1, 1)})
        self._sheet: Worksheet = self._book.add_worksheet("Export")
        self._rest = b""
        for position, column in enumerate(columns):
            self._sheet.write_string(0, position, column.name)

    def frame(self, block: bytes) -> bytes:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._write(LINE.decode(line))
        return b""

    def end(self) -> Iterator[bytes]:
        self._book.close()
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
        self._folder.cleanup()

    def _write(self, row: dict[str, Any]) -> None:
        self.rows += 1
        if self.rows > MOST_ROWS:
            raise XlsxLimitError(f"a worksheet ends after {MOST_ROWS:,} rows; choose another format, or a segment")
        for position, column in enumerate(self._columns):
            value = row[column.name]
            if value is not None:
                self._write_cell(position, column, value)

    def _write_cell(self, position: int, column: Column, value: Any) -> None:
        if isinstance(value, bool):
            self._sheet.write_boolean(self.rows, position, value)
        elif isinstance(value, int | Decimal):
            if len(Decimal(value).normalize().as_tuple().digits) <= EXACT_DIGITS:
                self._sheet.write_number(self.rows, position, float(value))
            else:
                self._sheet.write_string(self.rows, position, str(value))
        elif column.field.type is FieldType.DATE and (moment := _excel_time(value)):
            self._sheet.write_datetime(self.rows, position, moment)
        else:
            text = value if isinstance(value, str) else NESTED.encode(value).decode()
            if len(text) > MOST_CHARACTERS:
                raise XlsxLimitError(
                    f"a cell holds {MOST_CHARACTERS:,} characters, and {column.name} has {len(text):,}"
                )
            self._sheet.write_string(self.rows, position, text)


def _excel_time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None
    return moment if moment >= EARLIEST else None
