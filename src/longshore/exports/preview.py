"""Previews: what a segment takes, before an export is made of it.

Every statement is under a timeout and only reads, so that a preview costs the source seconds at most, however wide the
segment. What cannot be known in that time is estimated, and the answer says so.
"""

import time
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.exports import row_security
from longshore.exports.catalog import Index
from longshore.exports.columns import Column, columns_of
from longshore.exports.formats import FileSpec
from longshore.exports.formats.csv import Csv
from longshore.exports.formats.json import object_of
from longshore.exports.ranges import Source, explain, nodes, source_of
from longshore.exports.segments.date_spans import moving
from longshore.exports.segments.rules import Segment
from longshore.exports.snapshot import refuse_outdated

TIMEOUT = 3.0  # seconds, for each statement
SHOWN = 10  # rows
PACED = 10_000  # rows that are copied at most, to see how large and how fast they are
PACING = 1.5  # seconds that this should take


class Notice(msgspec.Struct, frozen=True):
    """Something about a segment that whoever wrote it may not have meant."""

    code: Literal["nothing-matches", "summer-time", "no-index", "slow"]
    detail: str


class Preview(msgspec.Struct, frozen=True):
    """What an export of a segment would be, if it ran now."""

    rows: int
    rows_are: Literal["exact", "estimate"]
    """`estimate`: counting took too long; the figure is the query planner's."""
    sample: list[Any]
    """The first ten rows, as the format `json` writes them."""
    bytes: int | None
    """Forecast of the size as CSV, not compressed; null where the source was too slow to tell."""
    seconds: float | None
    """Forecast of the time that the export takes."""
    warnings: list[Notice]


class Pace(msgspec.Struct, frozen=True):
    """How the copy of the first rows went."""

    rows: int
    size: int
    header: int
    seconds: float
    whole: bool
    """Whether these were all rows."""


async def preview(pool: Pool, index: Index, chosen: list[tuple[str, str]], segment: Segment, chain: int) -> Preview:
    """Try a segment out.

    Raises asyncpg.QueryCanceledError when the source is too busy even to plan it, other asyncpg.PostgresErrors when it
    refuses the query, and SnapshotOutdatedError.
    """
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        began_at = await connection.fetchval("select now()")
        await connection.execute(f"set local statement_timeout = {TIMEOUT * 1000:.0f}")
        await row_security.hold(connection, index, chain)
        columns = await columns_of(connection, index, chosen)
        source = await source_of(connection, index, chain, segment, began_at)
        plan = await explain(connection, f"select 1 {source.sql}", source.values)
        await refuse_outdated(connection)
        rows = await _count(connection, source)
        asked_at = time.monotonic()
        sample = await _sample(connection, columns, source)
        # As many as the first ones promise to take no longer: of a copy that is cut off, the last rows are not seen.
        limit = int(SHOWN * PACING / (time.monotonic() - asked_at))
        pace = None
        if sample is not None:
            pace = await _pace(connection, columns, source, min(max(limit, SHOWN), PACED))
        expected = max(plan["Plan Rows"], pace.rows if pace else 0) if rows is None else rows
        served = await _is_served(connection, index, source, expected)
    notices = _of_summer_time(segment, began_at)
    if rows == 0:
        notices.append(Notice("nothing-matches", "no row of this chain matches just now"))
    if not served:
        notices.append(Notice("no-index", "no index serves these rules: every row of the chain is read to find these"))
    if sample is None:
        notices.append(Notice("slow", f"the first rows could not be found within {TIMEOUT:.0f} seconds"))
    size, seconds = _forecast(pace, expected)
    return Preview(expected, "estimate" if rows is None else "exact", sample or [], size, seconds, notices)


async def _count(connection: Connection, source: Source) -> int | None:
    """The number of rows, or None if counting takes too long."""
    try:
        async with connection.transaction():
            return int(await connection.fetchval(f"select count(*) {source.sql}", *source.values))
    except asyncpg.QueryCanceledError:
        return None


async def _sample(connection: Connection, columns: list[Column], source: Source) -> list[Any] | None:
    """The first rows as JSON objects, or None if finding them takes too long."""
    query = f"select {object_of(columns)} {source.sql} limit {SHOWN}"
    try:
        async with connection.transaction():
            return [msgspec.Raw(row[0].encode()) for row in await connection.fetch(query, *source.values)]
    except asyncpg.QueryCanceledError:
        return None


async def _pace(connection: Connection, columns: list[Column], source: Source, limit: int) -> Pace:
    """Copy the first rows as an export would, and throw them away."""
    form = Csv(FileSpec(columns))
    header = len(form.begin())
    size = 0

    async def take(data: bytes) -> None:
        nonlocal size
        size += len(form.frame(data))

    began = time.monotonic()
    whole = False
    try:
        async with connection.transaction():
            query = form.query(f"{source.sql} limit {limit}")
            await connection.copy_from_query(query, *source.values, output=take, **form.options())
            whole = form.rows < limit
    except asyncpg.QueryCanceledError:
        pass
    return Pace(form.rows, size, header, time.monotonic() - began, whole)


def _forecast(pace: Pace | None, expected: int) -> tuple[int | None, float | None]:
    if pace is None or not (pace.whole or pace.rows):
        return None, None
    if pace.whole:
        return pace.header + pace.size, round(pace.seconds, 2)
    return pace.header + pace.size * expected // pace.rows, round(pace.seconds * expected / pace.rows, 2)


async def _is_served(connection: Connection, index: Index, source: Source, expected: int) -> bool:
    """Whether an index finds the rows of a segment, or most rows of the chain are wanted anyway.

    Asked of the planner with sequential scans out of favour: what it then looks up in an index for the segment, beyond
    what it looks up for the chain alone, is what an index can do for the rules.
    """
    chain_alone = Source(index.rows, source.values[:1])
    await connection.execute("set local enable_seqscan = off")
    of_chain = await explain(connection, f"select 1 {chain_alone.sql}", chain_alone.values)
    of_segment = await explain(connection, f"select 1 {source.sql}", source.values)
    await connection.execute("set local enable_seqscan = on")
    wanted_anyway = expected * 2 > of_chain["Plan Rows"] or len(source.values) == 1
    return bool(_looked_up(of_segment) - (set() if wanted_anyway else _looked_up(of_chain)))


def _looked_up(plan: dict[str, Any]) -> set[str]:
    """The conditions that a plan looks up in indexes."""
    return {node["Index Cond"] for node in nodes(plan) if "Index Cond" in node}


def _of_summer_time(segment: Segment, began_at: datetime) -> list[Notice]:
    notices = []
    for number, rule in enumerate(segment.rules):
        if rule.operator == "is_in_window":
            zone = ZoneInfo(rule.timezone or "UTC")
            start, end = (edge.astimezone(zone) for edge in moving(rule, began_at) if edge)
            before, after = start.utcoffset(), end.utcoffset()
            if before is not None and after is not None and before != after:
                minutes = abs(after - before).total_seconds() / 60
                change = f"{minutes:.0f} minutes {'shorter' if after > before else 'longer'} than usual"
                what = (
                    f"/rules/{number}: {rule.window} in {rule.timezone} crosses a change of summer time and is {change}"
                )
                notices.append(Notice("summer-time", what))
    return notices
