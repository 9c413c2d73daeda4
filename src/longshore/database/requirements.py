"""What a PostgreSQL server must be to carry the service."""

import asyncpg

from longshore.database.connect import Connection, connected
from longshore.errors import LongshoreError

OLDEST_VERSION = 15
NAME = "longshore start"

# In Turkish and its relatives, the small letter of I has no dot, and PgQueuer's triggers use small letters. The locale
# of a database whose provider is ICU or builtin is in `datlocale`, until PostgreSQL 16 in `daticulocale`.
LOCALE = """
select pg_catalog.pg_encoding_to_char(encoding) as encoding,
       case datlocprovider when 'i' then 'ICU locale ' else 'locale ' end
       || coalesce(of ->> 'datlocale', of ->> 'daticulocale', datctype) as locale,
       pg_catalog.lower('I') = 'i' as plain
from pg_catalog.pg_database d, pg_catalog.to_jsonb(d) of where datname = pg_catalog.current_database()
"""
CREATE = "`create database longshore encoding 'UTF8' locale 'C.UTF-8' template template0`"


class UnusableServerError(LongshoreError):
    """The server cannot carry the service; the message says why and what to do."""


async def require_usable(connection: Connection) -> None:
    """Raise UnusableServerError for a server that is too old, or a database of an unusable encoding or locale."""
    version = connection.get_server_version()
    if version.major < OLDEST_VERSION:
        raise UnusableServerError(
            f"the database is PostgreSQL {version.major}.{version.minor}; Longshore needs {OLDEST_VERSION} or later"
        )
    found = await connection.fetchrow(LOCALE)
    assert found is not None
    if found["encoding"] != "UTF8":
        raise UnusableServerError(
            f"the database has the encoding {found['encoding']}, which cannot hold every text; make one with {CREATE}"
        )
    if not found["plain"]:
        raise UnusableServerError(
            f"the database has the {found['locale']}, in which the small letter of I is not i; make one with {CREATE}"
        )


async def require_sessions(url: str) -> None:
    """Raise UnusableServerError where a pooler gives one server session to several clients in turn.

    Settings, snapshots, LISTEN and advisory locks belong to a session. A pooler in transaction mode is told by two
    clients that are connected at once and run in one server process.
    """
    async with connected(url, NAME) as first, connected(url, NAME) as second:
        try:
            processes = [await each.fetchval("select pg_catalog.pg_backend_pid()") for each in (first, second)]
        except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
            processes = [0, 0]
    if processes[0] == processes[1]:
        raise UnusableServerError(
            "a pooler in transaction mode is between Longshore and the database; use its session mode"
            " (`pool_mode = session`) or the database's own address"
        )
