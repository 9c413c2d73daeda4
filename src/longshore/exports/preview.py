"""Previews: the forecast of an export of a segment: how many rows, the first ten of them, size, time and warnings.

Every statement has a timeout and only reads, so that a preview costs the source seconds at most, however many rows the
segment takes. Figures that take longer are estimated, and the preview says so.
"""

import time
from typing import Any, Literal

import asyncpg
import msgspec

from longshore.database.connect import Connection
from longshore.exports import row_security
from longshore.exports.catalog import Index
from longshore.exports.columns import Column, columns_of
from longshore.exports.formats import FileSpec
from longshore.exports.formats.csv import Csv
from longshore.exports.formats.json import object_of
from longshore.exports.query_plans import explain, nodes
from longshore.exports.row_query import RowQuery, row_query
from longshore.exports.segments.date_spans import interval_times, zone_of
from longshore.exports.segments.rules import Segment
from longshore.exports.snapshot import refuse_outdated
from longshore.tasks.model import Interval

STATEMENT_TIMEOUT_SECONDS = 3.0
SAMPLE_ROWS = 10
MAX_SAMPLE_ROW_BYTES = 64 << 10  # of a row of the sample; a larger one is left out, as the API holds it in memory
MAX_MEASURED_ROWS = 10_000  # made to measure their size and speed
MEASURED_SECONDS = 1.5  # that this should take


class PreviewWarning(msgspec.Struct, frozen=True):
    """A warning about a segment that is probably not as intended."""

    code: Literal["nothing-matches", "summer-time", "no-index", "slow", "no-deletes"]
    detail: str


NO_DELETES = PreviewWarning(
    "no-deletes",
    "increments without `deletes` say nothing of rows that leave these rules or are deleted, so a copy keeps them, and"
    " lack rows that come to match without being written; add `deletes` to the target",
)


class Preview(msgspec.Struct, frozen=True):
    """The forecast of an export of a segment, if it ran now."""

    rows: int
    rows_are: Literal["exact", "estimate"]
    """`estimate`: counting took too long; the figure is the query planner's."""
    sample: list[Any]
    """The first ten rows, as the format `json` writes them, without those of more than MAX_SAMPLE_ROW_BYTES."""
    bytes: int | None
    """Forecast of the size as CSV, not compressed; null if the source was too slow for one."""
    seconds: float | None
    """Forecast of the time that the export takes."""
    warnings: list[PreviewWarning]


class MeasuredCopy(msgspec.Struct, frozen=True):
    """The size of the first rows, and the time that PostgreSQL takes to make them."""

    rows: int
    size: int
    header: int
    seconds: float
    complete: bool
    """Whether these were all rows."""


async def preview(
    connection: Connection, index: Index, chosen: list[tuple[str, str]], segment: Segment, chain: int
) -> Preview:
    """Return the preview of a segment. `connection`: to the database of the index.

    Raises asyncpg.QueryCanceledError if the source is too busy even to plan the query, other asyncpg.PostgresErrors if
    it refuses the query, and SnapshotOutdatedError.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        interval = Interval(None, await connection.fetchval("select date_trunc('second', now())"))
        await connection.execute(f"set local statement_timeout = {STATEMENT_TIMEOUT_SECONDS * 1000:.0f}")
        await row_security.restrict(connection, index, chain)
        columns = await columns_of(connection, index, chosen)
        rows = await row_query(connection, index, chain, segment, interval)
        plan = await explain(connection, f"select 1 {rows.sql}", rows.values)
        await refuse_outdated(connection)
        count = await _count(connection, rows)
        asked_at = time.monotonic()
        sample = await _sample(connection, columns, rows)
        # As many rows as fit MEASURED_SECONDS at the speed of the sample: a copy that times out loses its last rows.
        limit = int(SAMPLE_ROWS * MEASURED_SECONDS / (time.monotonic() - asked_at))
        measured = None
        if sample is not None:
            measured = await _measured_copy(connection, columns, rows, min(max(limit, SAMPLE_ROWS), MAX_MEASURED_ROWS))
        expected = max(plan["Plan Rows"], measured.rows if measured else 0) if count is None else count
        served = await _is_served(connection, index, rows, expected, has_rules=bool(segment.rules))
    notices = _clock_changes(segment, interval)
    if count == 0:
        notices.append(PreviewWarning("nothing-matches", "no row of this chain matches just now"))
    if not served:
        notices.append(
            PreviewWarning("no-index", "no index serves these rules: every row of the chain is read to find these")
        )
    if sample is None:
        detail = f"the first rows could not be found within {STATEMENT_TIMEOUT_SECONDS:.0f} seconds"
        notices.append(PreviewWarning("slow", detail))
    size, seconds = _forecast(measured, expected)
    return Preview(expected, "estimate" if count is None else "exact", sample or [], size, seconds, notices)


async def _count(connection: Connection, rows: RowQuery) -> int | None:
    """Return the number of rows; None if counting takes too long."""
    try:
        async with connection.transaction():
            return int(await connection.fetchval(f"select count(*) {rows.sql}", *rows.values))
    except asyncpg.QueryCanceledError:
        return None


async def _sample(connection: Connection, columns: list[Column], rows: RowQuery) -> list[Any] | None:
    """Return the first rows as JSON objects; None if finding them takes too long."""
    first = f"select {object_of(columns)} as object {rows.sql} limit {SAMPLE_ROWS}"
    # PostgreSQL makes the objects of all of them, which shows the speed of an export, and sends those that fit.
    fitting = f"case when octet_length(object) <= {MAX_SAMPLE_ROW_BYTES} then object end"
    query = f"select {fitting} from ({first}) first_rows"
    try:
        async with connection.transaction():
            found = await connection.fetch(query, *rows.values)
            return [msgspec.Raw(row[0].encode()) for row in found if row[0] is not None]
    except asyncpg.QueryCanceledError:
        return None


async def _measured_copy(connection: Connection, columns: list[Column], rows: RowQuery, limit: int) -> MeasuredCopy:
    """Have PostgreSQL make the first rows as for an export, and send their lengths: the API cannot hold large rows."""
    format = Csv(FileSpec(columns))
    first = format.query(f"{rows.sql} limit {limit}")
    # The text of a row has parentheses in place of the line's end, and quotes values with spaces too.
    lengths = f"select octet_length((measured.*)::text) from ({first}) measured"
    count = size = 0

    async def take(data: bytes) -> None:
        nonlocal count, size
        sent = data.split()
        count += len(sent)
        size += sum(map(int, sent))

    began = time.monotonic()
    is_ended = False
    try:
        async with connection.transaction():
            await connection.copy_from_query(lengths, *rows.values, output=take)
            is_ended = True
    except asyncpg.QueryCanceledError:
        pass
    complete = is_ended and count < limit
    return MeasuredCopy(count, size, len(format.begin()), time.monotonic() - began, complete)


def _forecast(measured: MeasuredCopy | None, expected: int) -> tuple[int | None, float | None]:
    """Return bytes and seconds of the export."""
    if measured is None or not (measured.complete or measured.rows):
        return None, None
    if measured.complete:
        return measured.header + measured.size, round(measured.seconds, 2)
    return measured.header + measured.size * expected // measured.rows, round(
        measured.seconds * expected / measured.rows, 2
    )


async def _is_served(connection: Connection, index: Index, rows: RowQuery, expected: int, *, has_rules: bool) -> bool:
    """Return whether an index finds the rows of a segment, or the segment takes most rows of the chain anyway.

    An index serves the rules where the plan of the segment, made without sequential scans, has an index condition that
    the plan of the whole chain has not.
    """
    chain_alone = RowQuery(index.from_clause, rows.values[:1])
    await connection.execute("set local enable_seqscan = off")
    of_chain = await explain(connection, f"select 1 {chain_alone.sql}", chain_alone.values)
    of_segment = await explain(connection, f"select 1 {rows.sql}", rows.values)
    await connection.execute("set local enable_seqscan = on")
    takes_most = expected * 2 > of_chain["Plan Rows"] or not has_rules
    return bool(_index_conditions(of_segment) - (set() if takes_most else _index_conditions(of_chain)))


def _index_conditions(plan: dict[str, Any]) -> set[str]:
    return {node["Index Cond"] for node in nodes(plan) if "Index Cond" in node}


def _clock_changes(segment: Segment, interval: Interval) -> list[PreviewWarning]:
    notices = []
    for number, rule in enumerate(segment.rules):
        if rule.operator == "is_in_window":
            zone = zone_of(rule)
            start, end = (edge.astimezone(zone) for edge in interval_times(rule, interval) if edge)
            before, after = start.utcoffset(), end.utcoffset()
            if before is not None and after is not None and before != after:
                minutes = abs(after - before).total_seconds() / 60
                change = f"{minutes:.0f} minutes {'shorter' if after > before else 'longer'} than usual"
                what = (
                    f"/rules/{number}: {rule.window} in {rule.timezone} crosses a change of summer time and is {change}"
                )
                notices.append(PreviewWarning("summer-time", what))
    return notices
