"""Reads workbooks, from the XML of their sheet."""

from collections.abc import Iterator
from decimal import Decimal
from typing import IO

from longshore.exports.formats.reader import BinaryReader, Layout, PartialSum
from longshore.exports.formats.xlsx_cells import cells, count_rows
from longshore.exports.totals import TotalColumns


class XlsxReader(BinaryReader):
    """Reads a workbook of one sheet."""

    def rows(self, file: IO[bytes], layout: Layout) -> int:  # noqa: ARG002  # of the base class
        return count_rows(file)

    def parts(self, file: IO[bytes], layout: Layout, columns: TotalColumns) -> Iterator[PartialSum]:
        numbers = [layout.names.index(columns.per), layout.names.index(columns.amount)]
        for value, text in cells(file, numbers):
            yield value, 1, Decimal(text or 0)
