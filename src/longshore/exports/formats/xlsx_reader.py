"""Reads workbooks, from the XML of their sheet, row by row.

See ECMA-376 Part 1, 18.3.1.4 (cells), 18.18.11 (their types) and 22.9.2.19 (escaped characters).
"""

import contextlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Context, Decimal
from typing import IO
from xml.sax.saxutils import unescape

from longshore.exports.formats.reader import BinaryReader, Layout, PartialSum
from longshore.exports.totals import TotalColumns

CHUNK_BYTES = 1 << 20
SHEET = "xl/worksheets/sheet1.xml"
ROW = b"<row "
SHOWN = Context(prec=15)  # the digits of a number that Excel keeps; `xlsx` writes numbers of more digits as text
FIRST_DAY = date(1899, 12, 30)
TEXT = re.compile(r"<t(?: [^>]*)?>(.*?)</t>", re.DOTALL)
ESCAPED = re.compile(r"_x([0-9A-F]{4})_")


class XlsxReader(BinaryReader):
    """Reads a workbook of one sheet."""

    def rows(self, file: IO[bytes], layout: Layout) -> int:  # noqa: ARG002  # of the base class
        return count_rows(file)

    def parts(self, file: IO[bytes], layout: Layout, columns: TotalColumns) -> Iterator[PartialSum]:
        numbers = [layout.names.index(columns.per), layout.names.index(columns.amount)]
        for value, text in cells(file, numbers):
            yield value, 1, Decimal(text or 0)


def cells(file: IO[bytes], columns: Sequence[int]) -> Iterator[list[str | None]]:
    """Yield the values of some columns of each row below the header; None for an empty cell.

    `columns`: numbers from 0. Raises ValueError for a file that is no workbook.
    """
    patterns = [
        re.compile(rf'<c r="{_letters(column)}[0-9]+"([^>/]*)>(.*?)</c>'.encode(), re.DOTALL) for column in columns
    ]
    for row in _rows(file):
        matches = (pattern.search(row) for pattern in patterns)
        yield [cell and _value(cell[1].decode(), cell[2].decode()) for cell in matches]


def count_rows(file: IO[bytes]) -> int:
    """Return the number of rows of a workbook's sheet without its header. Raises ValueError if it is no workbook."""
    rows, rest = 0, b""
    with _opened_sheet(file) as sheet:
        while chunk := sheet.read(CHUNK_BYTES):
            text = rest + chunk
            rows += text.count(ROW)  # in a value, "<" is escaped
            rest = text[-(len(ROW) - 1) :]
    return rows - 1


def _letters(column: int) -> str:
    """Return the name of a column by its number from 0: A to Z, AA to AZ, and so on."""
    more, last = divmod(column, 26)
    return (_letters(more - 1) if more else "") + chr(ord("A") + last)


@contextlib.contextmanager
def _opened_sheet(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Open the XML of a workbook's sheet. Raises ValueError, here and in reading, for a file that is no workbook."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(SHEET) as sheet:
            yield sheet
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError) as error:
        raise ValueError(f"it is no workbook: {error}") from None


def _rows(file: IO[bytes]) -> Iterator[bytes]:
    rest, skipped = b"", 2  # the text before the first row, and that row, which is the header
    with _opened_sheet(file) as sheet:
        while chunk := sheet.read(CHUNK_BYTES):
            *rows, rest = (rest + chunk).split(ROW)  # in a value, "<" is escaped
            yield from rows[skipped:]
            skipped = max(0, skipped - len(rows))
    if not skipped:
        yield rest


def _value(attributes: str, content: str) -> str:
    if 't="inlineStr"' in attributes:
        text = unescape("".join(TEXT.findall(content)))
        return ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    number: Decimal = SHOWN.create_decimal(content.removeprefix("<v>").removesuffix("</v>"))
    if ' s="' in attributes:  # the format of a day
        return (FIRST_DAY + timedelta(days=int(number))).isoformat()
    return format(number, "f")
