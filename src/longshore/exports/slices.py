"""Slices: the parts of an index that may be written apart, as pieces of one file or into files of their own.

The cut depends on the data and on no number of workers. With partitions, a slice is some of them, as their first key
says, so that it has whole partitions. Else a slice is some ranges of the table, and no file of a part crosses a slice.

The glossary has the words range, partition, slice, shard, piece and part.
"""

from collections.abc import Sequence

import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.exports.catalog import Index
from longshore.exports.copy import RowsToCopy
from longshore.exports.files import zones
from longshore.exports.files.partitions import Partition, PartitionQuery, partition_query
from longshore.exports.query import ExportQuery, ExportRequest, prepare
from longshore.exports.ranges import MAX_SLICES, Range, RangePlan, clauses, ranges_of_slices
from longshore.exports.snapshot import SourceConnections


class Slice(msgspec.Struct, frozen=True):
    """A part of the rows of one index."""

    number: int | None
    """From 1, as it is in the names of its files; None where no name needs it."""
    ranges: list[Range] = []
    """Ranges of the table; none: all of it."""
    partitions: list[Partition] | None = None
    """The partitions of the slice, in order; None where the request has none."""
    first_keys: list[str | None] | None = None
    """The first keys of its partitions; None: all rows of the index are in it."""


class IndexRows(msgspec.Struct, frozen=True):
    """The rows of one index, in a snapshot that is open."""

    database: SourceConnections
    connection: Connection
    """Holds the snapshot."""
    query: ExportQuery
    keys: PartitionQuery | None

    @property
    def key_names(self) -> list[str]:
        """Names of the partition's keys."""
        return self.keys.names if self.keys else []

    def rows(self, slice_: Slice, sent: int = 0) -> RowsToCopy:
        """Return the rows of a slice. `sent`: rows that the source has sent before."""
        rows = self.query.rows
        if self.keys is None:
            from_clauses = clauses(self.query.index, rows, slice_.ranges)
        else:
            rows = rows if slice_.first_keys is None else self.keys.with_first_keys(rows, slice_.first_keys)
            from_clauses = [f"{rows.sql} {self.keys.order}"]
        return RowsToCopy(self.database, self.connection, rows, from_clauses, sent)


async def prepare_index_rows(
    database: SourceConnections, connection: Connection, index: Index, request: ExportRequest
) -> IndexRows:
    """Return the rows that a request selects of an index. Raises LongshoreError and asyncpg.PostgresError.

    `connection`: holds the snapshot, and sees the chain's rows alone from then on.
    """
    query = await prepare(connection, index, request)
    keys = request.target.partition_by
    partitions = None if keys is None else await partition_query(connection, index, keys, request.zone)
    return IndexRows(database, connection, query, partitions)


async def plan_slices(index_rows: IndexRows, cut: RangePlan, slice_rows: int) -> tuple[RangePlan, list[Slice]]:
    """Cut an index into slices of about `slice_rows` rows. Return its plan, with the number of rows, and the slices.

    The first of several slices has rows, others may have none. Raises LongshoreError.
    """
    connection, query, keys = index_rows.connection, index_rows.query, index_rows.keys
    if keys is None:
        ranges: list[list[Range]] = []
        if (cut.expected_rows or 0) > slice_rows:
            ranges = await ranges_of_slices(connection, query.index, query.rows, cut, slice_rows)
        if len(ranges) < 2:
            return cut, [Slice(None, cut.ranges)]
        return cut, [Slice(number, some) for number, some in enumerate(ranges, 1)]
    if cut.one_statement:
        raise LongshoreError(
            f"{query.index.relation} reads a foreign table, or may give other rows each time, so its partitions cannot"
            " be counted before they are written; export it without `partition_by`"
        )
    if keys.zone is not None:
        await zones.refuse_unlike(connection, keys.zone, query.request.interval)
    partitions = await keys.partitions(connection, query.rows)
    rows = sum(partition.rows for partition in partitions)
    counted = msgspec.structs.replace(cut, expected_rows=rows, exact=True)
    grouped = _grouped(partitions, max(slice_rows, -(-rows // MAX_SLICES)))
    if len(grouped) < 2:
        return counted, [Slice(None, partitions=partitions)]
    keys_of_groups = [list(dict.fromkeys(each.first_key for each in some)) for some in grouped]
    return counted, [
        Slice(None, partitions=some, first_keys=first) for some, first in zip(grouped, keys_of_groups, strict=True)
    ]


def _grouped(partitions: Sequence[Partition], rows: int) -> list[list[Partition]]:
    """Return partitions in groups of about `rows` rows; those of one first key are together."""
    grouped: list[list[Partition]] = []
    collected = 0
    for partition in partitions:
        begins = not grouped or (collected >= rows and partition.first_key != grouped[-1][-1].first_key)
        if begins:
            grouped.append([])
            collected = 0
        grouped[-1].append(partition)
        collected += partition.rows
    return grouped
