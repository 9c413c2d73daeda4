"""The query of one attempt of an export: the same on each worker that writes a piece of it."""

import hashlib
from collections.abc import Sequence

import msgspec

from longshore.database.connect import Connection
from longshore.exports import formats, row_security, source_totals
from longshore.exports.catalog import Index, quoted_identifier
from longshore.exports.columns import Column, choices, columns_of
from longshore.exports.formats import WHOLE, FileSpec, Format, PiecePosition, RowKey
from longshore.exports.formats.dialect import CsvOptions, dialect
from longshore.exports.formats.nested import sql_text
from longshore.exports.formats.reader import Layout
from longshore.exports.increments import change_query, transactions
from longshore.exports.increments.change_query import ChangeQuery, ClientCopy
from longshore.exports.increments.keys import key_of
from longshore.exports.increments.transactions import Bounds
from longshore.exports.row_query import RowQuery, row_query
from longshore.exports.segments.rules import Segment
from longshore.exports.source_totals import SourceTotalColumns
from longshore.exports.target import IndexTarget
from longshore.tasks.model import ChainId, Interval


class ExportRequest(msgspec.Struct, frozen=True):
    """An export as it was requested, with everything that was resolved when the attempt began."""

    chain: ChainId
    target: IndexTarget
    segment: Segment | None
    interval: Interval
    """The data interval that rules are for: relative ones count back from its end."""
    start: str | None = None
    """The watermark that an increment begins at."""
    end: str | None = None
    """The watermark that it ends at; None: the snapshot's."""
    zone: str = "UTC"
    """The time zone of partitions by a date."""


class ExportQuery(msgspec.Struct, frozen=True):
    """A request, resolved in one snapshot of the source."""

    request: ExportRequest
    index: Index
    rows: RowQuery
    columns: Sequence[Column]
    layout: Layout
    total_columns: SourceTotalColumns | None
    bounds: Bounds | None
    """The transactions that an increment without deletes takes."""
    changes: ChangeQuery | None
    """The changes that an increment with deletes takes."""
    key: RowKey | None
    """The columns that name a row in errors."""

    def format(self, position: PiecePosition = WHOLE) -> Format:
        """Return the format of the result, or of a piece of it."""
        target = self.request.target
        part_bytes = target.split.bytes if target.split else None
        spec = FileSpec(self.columns, self.layout.dialect, target.compression, position, self.key, part_bytes)
        return formats.new_format(target.export_format, spec)

    def fingerprint(self) -> str:
        """Return a hash that differs where another version or catalog would write other bytes for the same request."""
        format = self.format()
        text = repr((format.query(self.rows.sql), self.rows.values, format.options(), self.layout.names))
        return hashlib.sha256(text.encode()).hexdigest()


async def prepare(connection: Connection, index: Index, request: ExportRequest) -> ExportQuery:
    """Resolve a request. `connection`: in the transaction that reads, which sees the chain's rows alone from then on.

    Raises LongshoreError and asyncpg.PostgresError.
    """
    await row_security.restrict(connection, index, request.chain)
    target = request.target
    rows = await row_query(connection, index, request.chain, request.segment, request.interval)
    columns = await columns_of(connection, index, choices(target.fields, index))
    bounds = changed = None
    if target.deletes:
        copy = ClientCopy(target.export_index, columns, rows, key_of(index, columns, target.export_format))
        changed = await change_query.resolve(connection, index, request.start, copy)
        # A worker that writes a shard resolves the same query from the request. Only full runs are cut into shards.
        request = msgspec.structs.replace(request, start=changed.start)
        rows = rows.where(changed.changed)
        columns = [*change_query.change_columns(), *columns]
    elif target.incremental:
        first = len(rows.values) + 1
        bounds = await transactions.bounds(connection, index, request.start, request.end, first)
        rows = rows.where(bounds.condition)
    layout = Layout(target.export_format, [column.name for column in columns], dialect(target.csv or CsvOptions()))
    return ExportQuery(
        request=request,
        index=index,
        rows=rows,
        columns=columns,
        layout=layout,
        total_columns=source_totals.total_columns(index, columns),
        bounds=bounds,
        changes=changed,
        key=row_key(index, columns),
    )


def row_key(index: Index, columns: Sequence[Column]) -> RowKey | None:
    """Return the columns that name a row in errors: those of the index's key, else its time, that the export has.

    A log is shown to credentials by the columns that the run read, so an error names no value of another column.
    """
    exported = {column.expression for column in columns}
    for names in (index.key_columns, [index.time]):
        if found := [(name, sql) for name in names if (sql := quoted_identifier(name)) in exported]:
            return row_key_of(found)
    return None


def row_key_of(columns: Sequence[tuple[str, str]]) -> RowKey:
    """Return the row key of some columns, each a name and SQL of its value."""
    (name, expression), *more = columns
    if more:  # by operators, as any function's name makes the export one statement where the source has one of its own
        texts = [f"coalesce(({value})::text, '')" for _, value in columns]
        names = [sql_text(f", {other} ") for other, _ in more]
        expression = "||".join([texts[0], *(f"{other}||{text}" for other, text in zip(names, texts[1:], strict=True))])
    return RowKey(name, expression)
