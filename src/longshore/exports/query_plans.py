"""PostgreSQL's plans of queries: what they read, and whether several statements of one snapshot see the same rows.

A query that reads a foreign table, asks for the time, or takes some rows of many stays one statement.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from longshore.database.connect import Connection

SUBPLAN_RELATIONS = ("InitPlan", "SubPlan")  # plans beside that of the rows, as for row-level security

# A foreign server has a snapshot of its own for each connection; an extension's scan may read anything.
FOREIGN = frozenset({"Foreign Scan", "Custom Scan"})
# Nodes that may return other rows each time: some of many, a sample, or those of a function.
ROW_CHOOSING_NODES = frozenset({"Limit", "Unique", "WindowAgg", "Sample Scan", "Function Scan", "Table Function Scan"})

# Functions that may return other values in another session of the same snapshot: all that are volatile, those of the
# current time, and the source's own that are not immutable, as these may read anything. EXPLAIN names the functions
# that are called as such, but not those of operators and casts.
CALLED = re.compile(r'(?:([\w$]+)|"((?:[^"]|"")+)")\(')
# Views that were made before PostgreSQL 10 have `('now'::text)::date` where CURRENT_DATE was written. Nothing else that
# has these words asks for the time: a column `"current_date"`, or `(document ->> 'today'::text)::date`.
CURRENT_TIME = re.compile(
    r"\b(?:CURRENT_DATE|CURRENT_TIME|CURRENT_TIMESTAMP|LOCALTIME|LOCALTIMESTAMP)\b"
    r"|\('[^']*\b(?i:now|today|tomorrow|yesterday)\b[^']*'::(?:cstring|text|character varying|bpchar)\)+::(?:date|time)"
)
UNSTABLE_FUNCTION = """
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


async def explain(
    connection: Connection, query: str, values: tuple[Any, ...], *, verbose: bool = False
) -> dict[str, Any]:
    """Return the topmost node of PostgreSQL's plan of a query. `verbose`: with the expressions of its output."""
    options = "format json, verbose" if verbose else "format json"
    # Not from the connection's cache of statements: PostgreSQL does not notice that a type of one was dropped.
    statement = await connection.prepare(f"explain ({options}) {query}")
    plan: dict[str, Any] = json.loads(await statement.fetchval(*values))[0]["Plan"]
    return plan


async def is_one_statement(connection: Connection, plan: dict[str, Any]) -> bool:
    """Return whether a query must stay one statement to read the rows of one snapshot. `plan`: verbose."""
    if reads_elsewhere(plan):
        return True
    if any(node["Node Type"] in ROW_CHOOSING_NODES for node in nodes(plan, aside=False)):
        return True
    return await calls_unstable(connection, plan)


def reads_elsewhere(plan: dict[str, Any], *, aside: bool = True) -> bool:
    """Return whether a plan reads rows of a foreign server, or by an extension's own scan. `aside`: as of `nodes`."""
    return any(node["Node Type"] in FOREIGN for node in nodes(plan, aside=aside))


async def calls_unstable(connection: Connection, plan: dict[str, Any]) -> bool:
    """Return whether a plan asks for the time, or calls a function that may return another value for the same row."""
    expressions = "\n".join(_strings(plan))
    called = {plain or inside.replace('""', '"') for plain, inside in CALLED.findall(expressions)}
    return bool(CURRENT_TIME.search(expressions) or await connection.fetchval(UNSTABLE_FUNCTION, sorted(called)))


def _strings(value: Any) -> Iterator[str]:
    """Yield all strings inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def nodes(plan: dict[str, Any], *, aside: bool = True) -> Iterator[dict[str, Any]]:
    """Yield a node of a plan and all those below it. `aside`: also the plans beside that of the rows."""
    yield plan
    for below in plan.get("Plans", ()):
        if aside or below["Parent Relationship"] not in SUBPLAN_RELATIONS:
            yield from nodes(below, aside=aside)
