"""What one attempt of an export reads: the same on each worker that has a part in it."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from longshore.database.connect import Connection
from longshore.exports import formats, row_security, totals
from longshore.exports.catalog import Index, quoted_part
from longshore.exports.columns import Column, choices, columns_of
from longshore.exports.export import ExportTarget
from longshore.exports.formats import WHOLE, Format, Place, RowKey
from longshore.exports.formats.dialect import CsvOptions, dialect
from longshore.exports.increments import transactions
from longshore.exports.increments.transactions import Bounds
from longshore.exports.ranges import Source, source_of
from longshore.exports.readback import Layout
from longshore.exports.segments.rules import Segment
from longshore.exports.totals import Counted
from longshore.tasks.model import ChainId


class Request(msgspec.Struct, frozen=True):
    """What is asked for, with all that was settled when the attempt began."""

    chain: ChainId
    target: ExportTarget
    segment: Segment | None
    counted_from: datetime
    """What relative rules count back from."""
    start: str | None = None
    """The mark that an increment begins at."""
    end: str | None = None
    """The one that it ends at; None: the snapshot's."""


class ExportQuery(msgspec.Struct, frozen=True):
    """A request as one snapshot of the source answers it."""

    request: Request
    index: Index
    source: Source
    columns: Sequence[Column]
    layout: Layout
    counted: Counted | None
    bounds: Bounds | None
    """What an increment takes."""
    key: RowKey | None
    """The column that names a row in errors."""

    def format(self, read: Callable[[Format], Format], place: Place = WHOLE) -> Format:
        """A format for the rows, in a file or a part of one; `read` as for `formats.make`."""
        target = self.request.target
        return formats.make(
            target.export_format, self.columns, self.layout.asked, target.compression, read, place, self.key
        )

    def fingerprint(self, form: Format) -> str:
        """What differs where another version or catalog would write other bytes for the same request."""
        text = repr((form.query(self.source.sql), self.source.values, form.options(), self.layout.names))
        return hashlib.sha256(text.encode()).hexdigest()


async def prepare(connection: Connection, index: Index, request: Request) -> ExportQuery:
    """Ready a request. `connection`: in the transaction that reads, which is held to the chain's rows.

    Raises IncrementError and what PostgreSQL raises.
    """
    await row_security.hold(connection, index, request.chain)
    target = request.target
    bounds = None
    if target.incremental:
        bounds = await transactions.bounds(connection, index, request.start, request.end, first=2)
    increment = bounds.condition if bounds else None
    source = await source_of(connection, index, request.chain, request.segment, request.counted_from, increment)
    columns = await columns_of(connection, index, choices(target.fields, index))
    asked = dialect(target.csv or CsvOptions())
    layout = Layout(target.export_format, [column.name for column in columns], asked)
    key = row_key(index, columns)
    return ExportQuery(request, index, source, columns, layout, totals.counted(index, columns), bounds, key)


def row_key(index: Index, columns: Sequence[Column]) -> RowKey | None:
    """Return the column that names a row in errors: the key of the index, else its time, if the export has that column.

    A log is shown to credentials by the columns that the run read, so an error names no value of another column.
    """
    exported = {column.expression for column in columns}
    names = [name for name in (index.key, index.time) if name is not None and quoted_part(name) in exported]
    return RowKey(names[0], quoted_part(names[0])) if names else None
