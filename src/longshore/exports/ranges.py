"""The plan of an export: the ranges that it is cut into, and the number of its rows, both by the planner's figures.

Where PostgreSQL would read the whole table, a range is one of blocks; where it would use an index, one of the index's
time column. The cut, and so the file, depends on the data alone and not on how many connections read it.

Several statements, on several connections, read the rows of one snapshot only if each of them sees the same rows: see
`query_plans.is_one_statement`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from longshore.database.connect import Connection
from longshore.exports.catalog import Index, quoted_identifier
from longshore.exports.query_plans import SUBPLAN_RELATIONS, explain, is_one_statement
from longshore.exports.row_query import RowQuery
from longshore.exports.time_cuts import time_cuts

RANGE_BLOCKS = 512  # of 8 KiB: 4 MiB of table
RANGE_ROWS = 50_000  # expected in a range of time
MAX_RANGES = 512
MAX_SLICES = 100  # so that each trial of a piece has 33 numbers of the 10,000 parts of an upload
MAX_SLICE_FACTOR = 8  # times as many slices of blocks as needed if a chain's rows lay all over the table
CHEAP_COST = 2_000  # of the planner: some ten thousand rows of one scan, a hundredth of a second

# Reading a system column such as `ctid` needs the right to read the whole table.
TABLE = """
select relkind = 'r' and not relhassubclass and has_table_privilege(oid, 'select') as plain,
       pg_catalog.pg_relation_size(oid) / pg_catalog.current_setting('block_size')::int as blocks
from pg_catalog.pg_class
where oid = $1::text::regclass
"""

MAY_READ = "select pg_catalog.has_column_privilege($1::text::regclass, $2::text, 'select')"

TABLE_ROWS = "select greatest(reltuples, 0)::bigint from pg_catalog.pg_class where oid = $1::text::regclass"


class Range(msgspec.Struct, frozen=True):
    """A part of a relation that one statement reads."""

    kind: Literal["blocks", "times", "no time"]
    low: int | str | None = None
    """The first block, or the first time as PostgreSQL writes it, that belongs to it; None is no bound."""
    high: int | str | None = None
    """The first one that does not belong to it any more."""

    def condition(self, index: Index) -> str:
        """Return SQL of the condition that its rows meet."""
        time = quoted_identifier(index.time)
        if self.kind == "no time":
            return f"{time} is null"
        name, value = ("ctid", "'({},0)'") if self.kind == "blocks" else (time, "'{}'")
        ends = (("<", self.high), (">=", self.low))
        bounds = [f"{name} {sign} {value.format(end)}" for sign, end in ends if end is not None]
        return " and ".join(reversed(bounds)) or f"{name} is not null"


class RangePlan(msgspec.Struct, frozen=True):
    """An export cut into ranges, in the order in which they are written."""

    expected_rows: int | None
    """The number of its rows."""
    exact: bool
    """Whether they were counted, rather than estimated by the planner."""
    ranges: list[Range]
    """Together they have each row once; none where the export is not cut."""
    one_statement: bool = False
    """Whether another statement might read other rows, even in the same snapshot; see `is_one_statement`."""


async def plan_ranges(
    connection: Connection, index: Index, query: str, rows: RowQuery, *, count: bool = True
) -> RangePlan:
    """Cut an export into ranges. `query`: all of it in one statement. `count`: count the rows if that is cheap."""
    explained = await explain(connection, query, rows.values, verbose=True)
    expected = explained.get("Plan Rows")
    leaf = explained
    while below := [node for node in leaf.get("Plans", ()) if node["Parent Relationship"] not in SUBPLAN_RELATIONS]:
        leaf = below[0]
    table = await connection.fetchrow(TABLE, index.regclass)
    ranges: list[Range] = []
    if one_statement := await is_one_statement(connection, explained):
        pass
    elif leaf["Node Type"] == "Seq Scan" and table and table["plain"]:
        ranges = _block_ranges(table["blocks"])
    elif "Scan" in leaf["Node Type"] and leaf["Node Type"] != "Seq Scan" and expected and expected > 2 * RANGE_ROWS:
        ranges = await _time_ranges(connection, index, rows, expected, explained["Total Cost"])
    counted = await _count(connection, rows) if count else None
    return RangePlan(expected if counted is None else counted, counted is not None, ranges, one_statement)


async def is_plain_table(connection: Connection, index: Index) -> bool:
    """Return whether each row of an index has a `ctid` of its own, in the order of the table, that may be read."""
    return bool(await connection.fetchval(TABLE, index.regclass))


def clauses(index: Index, rows: RowQuery, ranges: Sequence[Range]) -> list[str]:
    """Return the `from` clauses of ranges; without ranges, the one of all rows."""
    return [f"{rows.sql} and {range_.condition(index)}" for range_ in ranges] or [rows.sql]


async def ranges_of_slices(
    connection: Connection, index: Index, rows: RowQuery, plan: RangePlan, slice_rows: int
) -> list[list[Range]]:
    """Return the ranges of each slice of about `slice_rows` rows, the first of which is not empty.

    Times are cut by the planner's estimates. PostgreSQL does not know where in a table a chain's rows lie, so blocks
    are cut as if all rows of the table were exported, within MAX_SLICE_FACTOR: rows that lie together still fall into
    several slices.
    """
    ranges, expected = plan.ranges, plan.expected_rows or 0
    if not ranges:
        return []
    if ranges[0].kind == "blocks":
        table_rows = await connection.fetchval(TABLE_ROWS, index.regclass)
        count = min(
            -(-max(table_rows, expected) // slice_rows),
            MAX_SLICE_FACTOR * -(-expected // slice_rows),
            len(ranges),
            MAX_SLICES,
        )
        cuts = [len(ranges) * number // count for number in range(count + 1)]
        grouped = [ranges[start:end] for start, end in pairwise(cuts)]
    else:
        most = max(slice_rows, -(-expected // MAX_SLICES))
        grouped = [[]]
        collected = 0
        for range_, clause in zip(ranges, clauses(index, rows, ranges), strict=True):
            if collected >= most and len(grouped) < MAX_SLICES:
                grouped.append([])
                collected = 0
            grouped[-1].append(range_)
            collected += (await explain(connection, f"select 1 {clause}", rows.values))["Plan Rows"]
    while grouped and not await _any_row(connection, index, rows, grouped[0]):
        del grouped[0]
    return grouped


async def _any_row(connection: Connection, index: Index, rows: RowQuery, ranges: Sequence[Range]) -> bool:
    whole = [Range(ranges[0].kind, ranges[0].low, ranges[-1].high)] if ranges[-1].kind == ranges[0].kind else ranges
    for clause in clauses(index, rows, whole):
        if await connection.fetchval(f"select exists (select {clause})", *rows.values):  # from the catalog
            return True
    return False


async def _count(connection: Connection, rows: RowQuery) -> int | None:
    """Return the exact number of rows; None if counting them is expensive beside the export itself."""
    query = f"select count(*) {rows.sql}"
    if (await explain(connection, query, rows.values))["Total Cost"] > CHEAP_COST:
        return None
    return int(await connection.fetchval(query, *rows.values))


def _block_ranges(blocks: int) -> list[Range]:
    starts = list(range(0, blocks, RANGE_BLOCKS))
    if len(starts) < 2:
        return []
    return [Range("blocks", start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]


async def _time_ranges(connection: Connection, index: Index, rows: RowQuery, expected: int, cost: float) -> list[Range]:
    count = min(MAX_RANGES, -(-expected // RANGE_ROWS))
    if not index.time or count < 2 or not await connection.fetchval(MAY_READ, index.regclass, index.time):
        return []
    time = quoted_identifier(index.time)
    finite = f"{time} > '-infinity' and {time} < 'infinity'"
    extent = (
        f"select extract(epoch from min({time}))::numeric, extract(epoch from max({time}))::numeric "
        f"from {index.quoted_relation} where {quoted_identifier(index.chain)} = $1::bigint and {finite}"
    )
    if (await explain(connection, extent, rows.values[:1]))["Total Cost"] > cost / 100:
        return []
    first, last = await connection.fetchrow(extent, rows.values[0]) or (None, None)
    if first is None or last is None or first == last:
        return []

    async def estimate(low: str, high: str) -> int:
        (clause,) = clauses(index, rows, [Range("times", low, high)])
        return int((await explain(connection, f"select 1 {clause}", rows.values))["Plan Rows"])

    cuts = await time_cuts(connection, estimate, (float(first), float(last)), expected, count)
    ranges = [Range("times", low, high) for low, high in zip([None, *cuts], [*cuts, None], strict=True)]
    return [*ranges, Range("no time")]
