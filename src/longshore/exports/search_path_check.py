"""The check that the SQL of the catalog means the same as in psql.

A session of the service has a search path of its own, so an operator or a function may be another one than under the
path of the role: `citext = text` is exact where PostgreSQL does not find the operator of citext.
"""

import json
import re

import asyncpg

from longshore.database.connect import Connection
from longshore.exports.catalog import Index
from longshore.exports.query_plans import explain, nodes
from longshore.exports.row_security import SEARCH_PATH

# The search path of this role's sessions, which psql shows: a setting of the role or the database, else the server's. A
# session of the service has pinned another one, and would return to this one.
USUAL_PATH = "select reset_val from pg_catalog.pg_settings where name = 'search_path'"

EXPRESSIONS = (
    "Output",
    "Filter",
    "Index Cond",
    "Recheck Cond",
    "Join Filter",
    "Hash Cond",
    "Merge Cond",
    "One-Time Filter",
)


async def differences(connection: Connection, index: Index) -> list[str]:
    """Return a warning where the SQL of an index means something else under the role's own search path."""
    plan, usual = await _plan_under(connection, index, index.search_path_setting), await _usual_path(connection)
    if plan == await _plan_under(connection, index, usual):
        return []
    return [
        f"`filter` or `sql` means something else under this role's search path, {usual}, as psql has it; write"
        " operators and functions with their schema, or search_path = [...] in the catalog"
    ]


async def hint(connection: Connection, index: Index) -> str:
    """Return the correction of an index whose names are found under the role's own search path alone; else ""."""
    usual = await _usual_path(connection)
    if await _plan_under(connection, index, usual) is None:
        return ""
    return f"; it works under this role's search path, {usual}: name its schemas as search_path = [...] in the catalog"


async def _usual_path(connection: Connection) -> str:
    path: str = await connection.fetchval(USUAL_PATH)
    return path


async def _plan_under(connection: Connection, index: Index, path: str) -> str | None:
    """Return PostgreSQL's reading of an index's SQL under a search path, without schemas; None for an error."""
    values = ", ".join(index.expression(name) for name in index.fields)
    query = f"select {values} {index.from_clause}"
    before = await connection.fetchval("select current_setting('search_path')")
    try:
        async with connection.transaction():
            await connection.fetchval(SEARCH_PATH, path)
            plan = await explain(connection, query, (0,), verbose=True)
            schemas = await connection.fetch("select quote_ident(nspname) from pg_catalog.pg_namespace")
    except asyncpg.PostgresError:
        return None
    finally:
        await connection.fetchval(SEARCH_PATH, before)
    names = "|".join(re.escape(row[0]) for row in sorted(schemas, key=lambda row: -len(row[0])))
    sql = [(key, value) for node in nodes(plan) for key, value in sorted(node.items()) if key in EXPRESSIONS]
    return re.sub(r"\bOPERATOR\(([^)]*)\)", r"\1", re.sub(rf"\b(?:{names})\.", "", json.dumps(sql)))
