"""Requirements on the PostgreSQL server of the service."""

import asyncpg

from longshore.database.connect import Connection, connected
from longshore.errors import LongshoreError

MIN_SERVER_VERSION = 15
NAME = "longshore start"

# In Turkish locales the lower case of I has no dot, and PgQueuer's triggers use lower case. The locale of a database
# with the provider ICU or builtin is in `datlocale`, until PostgreSQL 16 in `daticulocale`.
LOCALE = """
select pg_catalog.pg_encoding_to_char(encoding) as encoding,
       case datlocprovider when 'i' then 'ICU locale ' else 'locale ' end
       || coalesce(of ->> 'datlocale', of ->> 'daticulocale', datctype) as locale,
       pg_catalog.lower('I') = 'i' as plain
from pg_catalog.pg_database d, pg_catalog.to_jsonb(d) of where datname = pg_catalog.current_database()
"""
PROCESS = "select pg_catalog.pg_backend_pid()"
PROCESS_READS = 4  # on each connection

CREATE = "`create database longshore encoding 'UTF8' locale 'C.UTF-8' template template0`"


async def require_usable(connection: Connection) -> None:
    """Raise LongshoreError for a server that is too old, or a database of an unusable encoding or locale."""
    version = connection.get_server_version()
    if version.major < MIN_SERVER_VERSION:
        raise LongshoreError(
            f"the database is PostgreSQL {version.major}; Longshore needs {MIN_SERVER_VERSION} or later"
        )
    row = await connection.fetchrow(LOCALE)
    assert row is not None
    if row["encoding"] != "UTF8":
        raise LongshoreError(
            f"the database has the encoding {row['encoding']}, which cannot hold every text; make one with {CREATE}"
        )
    if not row["plain"]:
        raise LongshoreError(
            f"the database has the {row['locale']}, in which the lower case of I is not i; make one with {CREATE}"
        )


async def require_sessions(url: str) -> None:
    """Raise LongshoreError if a pooler shares server sessions between clients.

    Settings, snapshots, LISTEN and advisory locks belong to a session. Behind a pooler in transaction mode, one
    connection runs in several server processes, or two connections run in one.
    """
    async with connected(url, NAME) as first, connected(url, NAME) as second:
        try:
            found = [{await each.fetchval(PROCESS) for _ in range(PROCESS_READS)} for each in (first, second)]
        except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
            found = []
    if [len(each) for each in found] != [1, 1] or found[0] == found[1]:
        raise LongshoreError(
            "a pooler in transaction mode is between Longshore and the database; use its session mode"
            " (`pool_mode = session`) or the database's own address"
        )
