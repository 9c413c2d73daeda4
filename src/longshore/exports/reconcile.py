"""The comparison of a result with the source: control totals, and odd values in nested fields.

The source is asked in the snapshot of the export, while the rows are copied. A text format is added up block by block
on its way to the file, which costs far less than to read the file again; other formats are read from the finished file.
"""

import asyncio
import functools
from collections.abc import Sequence

from longshore.database.connect import Connection
from longshore.exports import odd_values, readback, source_totals, totals
from longshore.exports.manifest import Manifest
from longshore.exports.query import ExportQuery
from longshore.exports.ranges import Source
from longshore.exports.readback import TEXT_FORMATS, Opener, TextSums
from longshore.exports.source_totals import SourceTotalColumns
from longshore.exports.totals import Sum, Sums, Totals
from longshore.results.own_thread import in_own_thread


class Reconciler:
    """Compares one result with the source, or adds up one piece of a result."""

    def __init__(self, query: ExportQuery) -> None:
        self._query = query
        columns, layout = query.total_columns, query.layout
        self._columns = columns
        self._text = TextSums(layout, columns) if columns and layout.format in TEXT_FORMATS else None
        self._piece_sums: Sums | None = None
        self._expected: Sums = {}
        self._asked = False
        self.skips = 0
        """Odd values inside nested fields, which are NULL in the file."""

    @property
    def counts(self) -> bool:
        """Whether the source is asked for totals, so that its rows need not be counted before."""
        return self._columns is not None

    @property
    def rows(self) -> int | None:
        """The number of rows that the source reports, once it has answered."""
        return sum(rows for rows, _ in self._expected.values()) if self._asked and self._columns else None

    async def ask(self, connection: Connection) -> None:
        """Ask the source for the totals and for odd values. `connection`: holds the snapshot.

        Raises LongshoreError.
        """
        if self._asked:  # asked again as one piece, since the pieces did not fit together
            self._expected, self.skips = {}, 0
        await self.ask_of(connection, self._query.source)
        self._asked = True

    async def ask_of(self, connection: Connection, source: Source) -> None:
        """Ask the source for the totals and odd values of some rows of the result. Raises LongshoreError."""
        query = self._query
        self.skips += await odd_values.count(connection, source, query.columns, query.key)
        await self.ask_deleted(connection, source, self._columns)

    async def ask_deleted(self, connection: Connection, source: Source, columns: SourceTotalColumns | None) -> None:
        """Ask the source for the totals of rows whose `columns` have an SQL of their own."""
        if self._columns is not None and columns is not None:
            asked = await source_totals.in_source(connection, source, columns)
            totals.added(self._expected, totals.as_parts(asked.sums))

    def add(self, text: bytes) -> None:
        """Add up whole rows of the result's text. Blocking."""
        if self._text is not None:
            self._text.add(text)

    def piece_sums(self) -> list[Sum]:
        """Return the sums of a piece; empty where there is nothing to add up. Blocking."""
        return [] if self._text is None else totals.as_list(self._text.end())

    def add_pieces(self, pieces: Sequence[Sequence[Sum]]) -> None:
        """Take the sums of all pieces of the result."""
        self._piece_sums = {}
        for sums in pieces:
            totals.added(self._piece_sums, totals.as_parts(sums))

    async def check(self, opener: Opener, manifest: Manifest) -> Totals | None:
        """Return the totals of the result, which are those of the source; None where the catalog declares none.

        `opener`: opens the finished file. Raises LongshoreError, what reading raises, and ValueError where the
        file is not of its format.
        """
        if self._columns is None or self._piece_sums is not None:
            return self.check_pieces()
        if self._text is not None:
            self._piece_sums = await asyncio.to_thread(self._text.end)
        else:
            self._piece_sums = await in_own_thread(functools.partial(readback.sums, opener, manifest, self._columns))
        return self.check_pieces()

    def check_pieces(self) -> Totals | None:
        """Return the totals of the result by the sums of its pieces, as `check` does."""
        if self._columns is None or self._piece_sums is None:
            return None
        expected = Totals(self._columns.amount, self._columns.per, totals.as_list(self._expected))
        totals.compare(expected, self._piece_sums)
        return expected
