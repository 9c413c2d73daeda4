"""How an export is cut into shards, and how many rows it will have: both from the planner's own figures.

Where PostgreSQL would read the whole table, a shard is a range of its blocks; where it would use an index, a range of
the index's time column. The cut depends on the data alone and not on how many connections read it, so nor does the
file.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from longshore.database.connect import Connection
from longshore.exports.catalog import Index, quoted
from longshore.exports.conditions import Condition, condition
from longshore.exports.segment import Segment

BLOCKS = 512  # of 8 KiB in a shard: 4 MiB of table
ROWS = 50_000  # expected in a shard that is a range of time
MOST_RANGES = 512
ASIDE = ("InitPlan", "SubPlan")  # what is looked up beside the rows, as for row-level security
CHEAP = 2_000  # as the planner counts: some ten thousand rows of one scan, a hundredth of a second

TABLE = """
select relkind = 'r' and not relhassubclass as plain,
       pg_catalog.pg_relation_size(oid) / pg_catalog.current_setting('block_size')::int as blocks
from pg_catalog.pg_class
where oid = $1::text::regclass
"""


class Source(msgspec.Struct, frozen=True):
    """The rows to export: a `from` clause with its conditions, and the values of its parameters."""

    sql: str
    values: tuple[Any, ...]


def source_of(
    index: Index, chain: int, segment: Segment | None, began_at: datetime, increment: Condition | None = None
) -> Source:
    """The rows of a chain that a segment takes, within an increment; relative rules count back from `began_at`.

    The placeholders of `increment` begin with $2, behind the chain's.
    """
    # The chain is bound here and nowhere else: whatever a request says, its rows are those of its own chain.
    sql = index.rows
    values: tuple[Any, ...] = (chain,)
    if increment is not None:
        sql += f" and ({increment.sql})"
        values += increment.values
    if segment is not None:
        made = condition(segment, index, began_at, first=len(values) + 1)
        sql += f" and ({made.sql})"
        values += made.values
    return Source(sql, values)


class Plan(msgspec.Struct, frozen=True):
    """An export cut into shards, in the order in which they are written."""

    expected: int | None
    """Rows that it will have."""
    exact: bool
    """Whether they were counted, rather than estimated by the planner."""
    shards: list[str]
    """`from` clauses; together they give each row once."""


async def plan(connection: Connection, index: Index, query: str, source: Source, *, count: bool = True) -> Plan:
    """Cut an export into shards. `query`: the whole of it in one statement; `count`: count them if that is cheap."""
    explained = await explain(connection, query, source.values)
    expected = explained.get("Plan Rows")
    leaf = explained
    while below := [node for node in leaf.get("Plans", ()) if node["Parent Relationship"] not in ASIDE]:
        leaf = below[0]
    table = await connection.fetchrow(TABLE, quoted(index.relation))
    ranges = []
    if leaf["Node Type"] == "Seq Scan" and table and table["plain"]:
        ranges = _block_ranges(table["blocks"])
    elif "Scan" in leaf["Node Type"] and leaf["Node Type"] != "Seq Scan" and expected and expected > 2 * ROWS:
        ranges = await _time_ranges(connection, index, source, expected, explained["Total Cost"])
    counted = await _count(connection, source) if count else None
    shards = [f"{source.sql} and {condition}" for condition in ranges] or [source.sql]
    return Plan(expected if counted is None else counted, counted is not None, shards)


async def _count(connection: Connection, source: Source) -> int | None:
    """The exact number of rows, where counting them is cheap beside the export itself."""
    query = f"select count(*) {source.sql}"
    if (await explain(connection, query, source.values))["Total Cost"] > CHEAP:
        return None
    return int(await connection.fetchval(query, *source.values))


async def explain(connection: Connection, query: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """The topmost node of the plan that PostgreSQL makes of a query."""
    found: dict[str, Any] = json.loads(await connection.fetchval(f"explain (format json) {query}", *values))[0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan and all those below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def _block_ranges(blocks: int) -> list[str]:
    starts = list(range(0, blocks, BLOCKS))
    if len(starts) < 2:
        return []
    ends = [f" and ctid < '({start},0)'" for start in starts[1:]]
    return [f"ctid >= '({start},0)'{end}" for start, end in zip(starts, [*ends, ""], strict=True)]


async def _time_ranges(connection: Connection, index: Index, source: Source, expected: int, cost: float) -> list[str]:
    time = quoted(index.time)
    extent = f"select min({time}), max({time}) from {quoted(index.relation)} where {quoted(index.chain)} = $1"  # noqa: S608
    if (await explain(connection, extent, source.values[:1]))["Total Cost"] > cost / 100:
        return []
    first, last = await connection.fetchrow(extent, source.values[0]) or (None, None)
    if not isinstance(first, datetime) or not isinstance(last, datetime) or first == last:
        return []
    count = min(MOST_RANGES, -(-expected // ROWS))
    step: timedelta = (last - first) / count
    cuts = [f"'{(first + step * number).isoformat()}'" for number in range(1, count)]
    lower = ["", *(f"{time} >= {cut}" for cut in cuts)]
    upper = [*(f"{time} < {cut}" for cut in cuts), ""]
    ranges = [" and ".join(filter(None, pair)) for pair in zip(lower, upper, strict=True)]
    return [*ranges, f"{time} is null"] if cuts else []
