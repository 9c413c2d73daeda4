"""How an export is cut into ranges, and how many rows it will have: both from the planner's own figures.

Where PostgreSQL would read the whole table, a range is of its blocks; where it would use an index, of the index's time
column. The cut depends on the data alone and not on how many connections read it, so nor does the file.

Several statements, on several connections, give the rows of one snapshot only where each of them sees the same rows.
Where a query reads a foreign table, asks for the time, or takes some rows of many, it stays one statement: `_is_one`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

import msgspec

from longshore.database.connect import Connection
from longshore.exports.catalog import Index, quoted, quoted_part, regclass
from longshore.exports.columns import columns_of
from longshore.exports.segments.rules import Segment
from longshore.exports.segments.sql import Condition, columns_read, condition

BLOCKS = 512  # of 8 KiB in a range: 4 MiB of table
ROWS = 50_000  # expected in a range of time
MOST_RANGES = 512
ASIDE = ("InitPlan", "SubPlan")  # what is looked up beside the rows, as for row-level security
MOST_GROUPS = 100  # so that each has a hundred parts of an upload
SPREAD = 8  # times as many groups of blocks as would do if a chain's rows lay all over the table
CHEAP = 2_000  # as the planner counts: some ten thousand rows of one scan, a hundredth of a second

# A system column such as `ctid` can be read only by who may read the whole table.
TABLE = """
select relkind = 'r' and not relhassubclass and has_table_privilege(oid, 'select') as plain,
       pg_catalog.pg_relation_size(oid) / pg_catalog.current_setting('block_size')::int as blocks
from pg_catalog.pg_class
where oid = $1::text::regclass
"""

TABLE_ROWS = "select greatest(reltuples, 0)::bigint from pg_catalog.pg_class where oid = $1::text::regclass"


# The cut of a time column that has dates of any year: neither Python's calendar nor an interval of PostgreSQL's reaches
# from its first to its last one. A `date` reaches further than a `timestamp`, which ends 9.2e12 seconds after 1970.
CUTS = """
select to_timestamp(($1::numeric + (least($2::numeric, 9e12) - $1::numeric) * n / $3::int)::float8)::text
from generate_series(1, $3::int - 1) n
"""

# A foreign server has a snapshot of its own for each connection; an extension's scan may read anything.
FOREIGN = frozenset({"Foreign Scan", "Custom Scan"})
# Nodes that may take other rows each time: some of those that would do, a sample, what a function returns.
CHOOSING = frozenset({"Limit", "Unique", "WindowAgg", "Sample Scan", "Function Scan", "Table Function Scan"})

# Functions that may give something else in another session of the same snapshot: all that are volatile, those that tell
# the time, and the source's own that are not immutable, as these may look anything up.
CALLED = re.compile(r'(?:([\w$]+)|"((?:[^"]|"")+)")\(')
TELLS_TIME = re.compile(r"\b(?:CURRENT_DATE|CURRENT_TIME|CURRENT_TIMESTAMP|LOCALTIME|LOCALTIMESTAMP)\b")
UNSTEADY = """
select exists (
    select from pg_catalog.pg_proc
    where proname = any($1::text[])
      and (
          provolatile = 'v'
          or oid >= 16384 and provolatile <> 'i'
          or proname in ('now', 'transaction_timestamp', 'statement_timestamp', 'age')
      )
)
"""


class Source(msgspec.Struct, frozen=True):
    """The rows to export: a `from` clause with its conditions, and the values of its parameters."""

    sql: str
    values: tuple[Any, ...]


async def source_of(
    connection: Connection,
    index: Index,
    chain: int,
    segment: Segment | None,
    counted_from: datetime,
    increment: Condition | None = None,
) -> Source:
    """The rows of a chain that a segment takes, within an increment; relative rules count from `counted_from`.

    The placeholders of `increment` begin with $2, behind the chain's. Raises asyncpg.PostgresError where the source
    lacks what a rule looks at.
    """
    # The chain is bound here and nowhere else: whatever a request says, its rows are those of its own chain.
    sql = index.rows
    values: tuple[Any, ...] = (chain,)
    if increment is not None:
        sql += f" and ({increment.sql})"
        values += increment.values
    if segment is not None:
        read = columns_read(segment)
        columns = dict(zip(read, await columns_of(connection, index, [(name, name) for name in read]), strict=True))
        made = condition(segment, index, columns, counted_from, first=len(values) + 1)
        sql += f" and ({made.sql})"
        values += made.values
    return Source(sql, values)


class Range(msgspec.Struct, frozen=True):
    """A part of a relation."""

    of: Literal["blocks", "times", "no time"]
    low: int | str | None = None
    """The first block, or the first time as PostgreSQL writes it, that belongs to it; None is no bound."""
    high: int | str | None = None
    """The first one that does not belong to it any more."""

    def condition(self, index: Index) -> str:
        """SQL of the condition that its rows meet."""
        time = quoted_part(index.time)
        if self.of == "no time":
            return f"{time} is null"
        name, value = ("ctid", "'({},0)'") if self.of == "blocks" else (time, "'{}'")
        ends = (("<", self.high), (">=", self.low))
        bounds = [f"{name} {sign} {value.format(end)}" for sign, end in ends if end is not None]
        return " and ".join(reversed(bounds))


class Plan(msgspec.Struct, frozen=True):
    """An export cut into ranges, in the order in which they are written."""

    expected: int | None
    """Rows that it will have."""
    exact: bool
    """Whether they were counted, rather than estimated by the planner."""
    clauses: list[str]
    """`from` clauses; together they give each row once."""
    ranges: list[Range]
    """What each of them takes; none where there is one `from` clause, which takes everything."""


async def plan(connection: Connection, index: Index, query: str, source: Source, *, count: bool = True) -> Plan:
    """Cut an export into ranges. `query`: the whole of it in one statement; `count`: count them if that is cheap."""
    explained = await explain(connection, query, source.values, verbose=True)
    expected = explained.get("Plan Rows")
    leaf = explained
    while below := [node for node in leaf.get("Plans", ()) if node["Parent Relationship"] not in ASIDE]:
        leaf = below[0]
    table = await connection.fetchrow(TABLE, regclass(index.relation))
    ranges: list[Range] = []
    if await is_one_statement(connection, explained):
        pass
    elif leaf["Node Type"] == "Seq Scan" and table and table["plain"]:
        ranges = _block_ranges(table["blocks"])
    elif "Scan" in leaf["Node Type"] and leaf["Node Type"] != "Seq Scan" and expected and expected > 2 * ROWS:
        ranges = await _time_ranges(connection, index, source, expected, explained["Total Cost"])
    counted = await _count(connection, source) if count else None
    found = clauses(index, source, ranges) or [source.sql]
    return Plan(expected if counted is None else counted, counted is not None, found, ranges)


def clauses(index: Index, source: Source, ranges: Sequence[Range]) -> list[str]:
    """The `from` clauses of ranges."""
    return [f"{source.sql} and {part.condition(index)}" for part in ranges]


async def groups(connection: Connection, index: Index, source: Source, plan: Plan, rows: int) -> list[list[Range]]:
    """The ranges of a plan in runs that have about so many rows each, the first of which is not empty.

    Times are grouped by the planner's histogram. Nothing tells where in a table a chain's rows lie, so blocks are
    grouped as if all rows of the table were wanted, within SPREAD: where they lie together, several groups have them.
    """
    ranges, expected = plan.ranges, plan.expected or 0
    if not ranges:
        return []
    if ranges[0].of == "blocks":
        table_rows = await connection.fetchval(TABLE_ROWS, regclass(index.relation))
        count = min(-(-max(table_rows, expected) // rows), SPREAD * -(-expected // rows), len(ranges), MOST_GROUPS)
        cuts = [len(ranges) * number // count for number in range(count + 1)]
        found = [ranges[start:end] for start, end in pairwise(cuts)]
    else:
        most = max(rows, -(-expected // MOST_GROUPS))
        found = [[]]
        collected = 0
        for part, clause in zip(ranges, clauses(index, source, ranges), strict=True):
            if collected >= most:
                found.append([])
                collected = 0
            found[-1].append(part)
            collected += (await explain(connection, f"select 1 {clause}", source.values))["Plan Rows"]
    while found and not await _any_row(connection, index, source, found[0]):
        del found[0]
    return found


async def _any_row(connection: Connection, index: Index, source: Source, ranges: Sequence[Range]) -> bool:
    whole = [Range(ranges[0].of, ranges[0].low, ranges[-1].high)] if ranges[-1].of == ranges[0].of else ranges
    for clause in clauses(index, source, whole):
        if await connection.fetchval(f"select exists (select {clause})", *source.values):  # from the catalog
            return True
    return False


async def _count(connection: Connection, source: Source) -> int | None:
    """The exact number of rows, where counting them is cheap beside the export itself."""
    query = f"select count(*) {source.sql}"
    if (await explain(connection, query, source.values))["Total Cost"] > CHEAP:
        return None
    return int(await connection.fetchval(query, *source.values))


async def explain(
    connection: Connection, query: str, values: tuple[Any, ...], *, verbose: bool = False
) -> dict[str, Any]:
    """The topmost node of the plan that PostgreSQL makes of a query. `verbose`: with the expressions of its output."""
    options = "format json, verbose" if verbose else "format json"
    found: dict[str, Any] = json.loads(await connection.fetchval(f"explain ({options}) {query}", *values))[0]["Plan"]
    return found


async def is_one_statement(connection: Connection, plan: dict[str, Any]) -> bool:
    """Whether a query must stay one statement to give the rows of one snapshot. `plan`: verbose."""
    if any(node["Node Type"] in FOREIGN for node in nodes(plan)):
        return True
    if any(node["Node Type"] in CHOOSING for node in nodes(plan, aside=False)):
        return True
    expressions = "\n".join(_strings(plan))
    called = {plain or inside.replace('""', '"') for plain, inside in CALLED.findall(expressions)}
    return bool(TELLS_TIME.search(expressions) or await connection.fetchval(UNSTEADY, sorted(called)))


def _strings(value: Any) -> Iterator[str]:
    """All strings inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def nodes(plan: dict[str, Any], *, aside: bool = True) -> Iterator[dict[str, Any]]:
    """A node of a plan and all those below it. `aside`: also what is looked up beside the rows."""
    yield plan
    for below in plan.get("Plans", ()):
        if aside or below["Parent Relationship"] not in ASIDE:
            yield from nodes(below, aside=aside)


def _block_ranges(blocks: int) -> list[Range]:
    starts = list(range(0, blocks, BLOCKS))
    if len(starts) < 2:
        return []
    return [Range("blocks", start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]


async def _time_ranges(connection: Connection, index: Index, source: Source, expected: int, cost: float) -> list[Range]:
    count = min(MOST_RANGES, -(-expected // ROWS))
    if not index.time or count < 2:
        return []
    time = quoted_part(index.time)
    finite = f"{time} > '-infinity' and {time} < 'infinity'"
    extent = (
        f"select extract(epoch from min({time}))::numeric, extract(epoch from max({time}))::numeric "  # noqa: S608
        f"from {quoted(index.relation)} where {quoted_part(index.chain)} = $1::bigint and {finite}"
    )
    if (await explain(connection, extent, source.values[:1]))["Total Cost"] > cost / 100:
        return []
    first, last = await connection.fetchrow(extent, source.values[0]) or (None, None)
    if first is None or first == last:
        return []
    cuts = [row[0] for row in await connection.fetch(CUTS, first, last, count)]
    ranges = [Range("times", low, high) for low, high in zip([None, *cuts], [*cuts, None], strict=True)]
    return [*ranges, Range("no time")]
