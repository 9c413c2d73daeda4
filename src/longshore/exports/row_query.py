"""The rows that a request selects, as SQL."""

from typing import Any

import msgspec

from longshore.database.connect import Connection
from longshore.exports.catalog import Index
from longshore.exports.columns import columns_of
from longshore.exports.segments.rules import Segment
from longshore.exports.segments.sql import Condition, columns_read, condition
from longshore.tasks.model import Interval


class RowQuery(msgspec.Struct, frozen=True):
    """Some rows of the source: a `from` clause with its conditions, and the values of its parameters."""

    sql: str
    values: tuple[Any, ...]

    def where(self, condition: Condition) -> "RowQuery":
        """Return the rows that meet a condition too, whose placeholders follow those of these rows."""
        return RowQuery(f"{self.sql} and ({condition.sql})", self.values + condition.values)


async def row_query(
    connection: Connection, index: Index, chain: int, segment: Segment | None, interval: Interval
) -> RowQuery:
    """Return the rows of a chain that a segment takes in a data interval.

    Raises asyncpg.PostgresError where the source lacks a column of a rule.
    """
    # The chain is bound here and nowhere else: whatever a request asks for, its rows are those of its own chain.
    rows = RowQuery(index.from_clause, (chain,))
    if segment is None:
        return rows
    read = columns_read(segment)
    columns = dict(zip(read, await columns_of(connection, index, [(name, name) for name in read]), strict=True))
    return rows.where(condition(segment, index, columns, interval, first=len(rows.values) + 1))
