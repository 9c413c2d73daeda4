"""The comparison of a result with the source: control totals, and odd values in nested fields.

The totals of the source are read in the snapshot of the export, while the rows are copied. A text format is added up
block by block on its way to the file, which costs far less than to read the file again; other formats are read from the
finished file.
"""

import threading
from collections.abc import Sequence

from longshore.database.connect import Connection
from longshore.exports import odd_values, readback, source_totals, totals
from longshore.exports.formats import reader_of
from longshore.exports.formats.reader import TextReader
from longshore.exports.query import ExportQuery
from longshore.exports.readback import NEVER, Opener, RunningTextSums
from longshore.exports.row_query import RowQuery
from longshore.exports.source_totals import SourceTotalColumns
from longshore.exports.totals import Sum, Sums, Totals


class RunningFileSums:
    """The sums of one file, or of a piece of one, for the control totals. Blocking."""

    def __init__(self, query: ExportQuery) -> None:
        self._layout, self._columns = query.layout, query.total_columns
        reader = reader_of(self._layout.format)
        self._text: RunningTextSums | None = None
        if self._columns and isinstance(reader, TextReader):
            self._text = RunningTextSums(reader, self._layout, self._columns)

    def add(self, text: bytes) -> None:
        """Add up whole rows of the file's text."""
        if self._text is not None:
            self._text.add(text)

    def end(self, opener: Opener | None = None, cancelled: threading.Event = NEVER) -> Sums:
        """Return the sums of the whole file; none where the catalog declares no totals.

        `opener`: opens the finished file; a piece of text has none. Raises LongshoreError, what reading raises, and
        ValueError where the file is not of its format.
        """
        if self._columns is None:
            return {}
        if self._text is not None:
            return self._text.end()
        assert opener is not None, "a piece is text"
        return readback.binary_sums(opener, self._layout, self._columns, cancelled)


class Reconciler:
    """Compares the rows of one index in a result with the source."""

    def __init__(self, query: ExportQuery) -> None:
        self._query = query
        self._columns = query.total_columns
        self._expected: Sums = {}
        self._is_read = False
        self.skips = 0
        """Odd values inside nested fields, which are NULL in the file."""

    @property
    def knows_row_count(self) -> bool:
        """Whether the source has totals, so that its rows need not be counted before."""
        return self._columns is not None

    @property
    def rows(self) -> int | None:
        """The number of rows by the totals of the source, once they are read."""
        return sum(rows for rows, _ in self._expected.values()) if self._is_read and self._columns else None

    async def read_source(self, connection: Connection) -> None:
        """Read the totals and the number of odd values from the source. `connection`: holds the snapshot.

        Raises LongshoreError.
        """
        if self._is_read:  # read again for one piece, since the pieces did not fit together
            self._expected, self.skips = {}, 0
        await self.read_rows(connection, self._query.rows)
        self._is_read = True

    async def read_rows(self, connection: Connection, rows: RowQuery) -> None:
        """Read the totals and the number of odd values of some rows of the result. Raises LongshoreError."""
        query = self._query
        self.skips += await odd_values.count(connection, rows, query.columns, query.key)
        await self.read_totals(connection, rows, self._columns)

    async def read_totals(self, connection: Connection, rows: RowQuery, columns: SourceTotalColumns | None) -> None:
        """Read the totals of some rows, whose `columns` may have an SQL of their own."""
        if self._columns is not None and columns is not None:
            totals.merge(self._expected, await source_totals.in_source(connection, rows, columns))

    def check(self, sums: Sequence[Sum]) -> Totals | None:
        """Return the totals, which are those of the source; None where the catalog declares none.

        `sums`: of all files of the index. Raises LongshoreError where they differ.
        """
        if self._columns is None:
            return None
        expected = self._columns.totals(self._expected)
        totals.compare(expected, totals.of_list(sums))
        return expected
