"""Migrations: numbered SQL files, forward only, each in a transaction of its own, one process at a time.

They run while the version before serves. No statement waits long for a lock, as the service's statements would wait
behind it, and tests/database refuses a migration that breaks the version before. PgQueuer's tables are in the same
schema; PgQueuer upgrades them itself, as the last step.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

import asyncpg

from longshore.database.connect import Connection, Pool, connected
from longshore.database.export_role import GRANTS
from longshore.database.requirements import require_sessions, require_usable
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from pgqueuer.adapters.persistence.queries import Queries

APPLICATION_NAME = "longshore command"  # in pg_stat_activity

MIGRATION_LOCK = 0x106510AE  # of one migration at a time; any number that nothing else in this database locks

LOCK_TIMEOUT_SECONDS = 1.0  # of a statement; the service's statements on the table wait as long
PAUSE_SECONDS = 1.0  # between two tries, in which they run
MAX_LOCK_WAIT_SECONDS = 120.0  # after which the migration ends

# A role that may not create schemas may find this one created for it.
SCHEMA = """
do $$ begin
    if pg_catalog.to_regnamespace('longshore') is null then create schema longshore; end if;
end $$
"""

MIGRATIONS = """
create table if not exists longshore.migrations (
    number integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
)
"""


def all_migrations() -> dict[int, tuple[str, str]]:
    """Return the migrations of this version: number to name and SQL text, in order."""
    migrations = {}
    for file in (resources.files("longshore.database") / "migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name):
            migrations[int(match[1])] = (match[2], file.read_text(encoding="utf-8"))
    return dict(sorted(migrations.items()))


async def migrate(url: str) -> list[str]:
    """Bring the schema of a database to this version and return the names of the migrations that ran.

    A second process waits for the first. Raises LongshoreError if the server is unusable, if the database is newer than
    this version, or if a table stays locked (the migrations before it stay applied).
    """
    await require_sessions(url)
    async with connected(url, APPLICATION_NAME) as connection:
        await require_usable(connection)
        # This lock, and the limit for all others, hold until the connection is closed.
        await connection.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
        await connection.execute(f"set lock_timeout = {LOCK_TIMEOUT_SECONDS * 1000:.0f}")
        await connection.execute(SCHEMA)
        await connection.execute(MIGRATIONS)
        applied = await _applied(connection)
        _refuse_newer(applied)
        names = []
        for number, (name, sql) in all_migrations().items():
            if number not in applied:
                await _retry_locked(_apply, connection, number, name, sql)
                names.append(f"{number:04} {name}")
        if step := await _queue_step(connection):
            await _retry_locked(_upgrade_queue, connection)
            names.append(step)
        await connection.execute(GRANTS)
        return names


async def _apply(connection: Connection, number: int, name: str, sql: str) -> None:
    # PostgreSQL runs a script in one transaction. asyncpg's own hides why a connection was lost.
    entry = f"insert into longshore.migrations (number, name) values ({number}, '{name}')"
    await connection.execute(f"{sql};\n{entry}")


def _queue(connection: Connection) -> "Queries":
    # PgQueuer takes as long to load as all else that a process needs which only checks the schema.
    from longshore.database.queue_schema import queries_of_connection

    return queries_of_connection(connection)


async def _upgrade_queue(connection: Connection) -> None:
    queue = _queue(connection)
    if await queue.schema_is_installed():
        await queue.apply_upgrade()
    else:
        await queue.install(create_schema=False)


async def _queue_step(connection: Connection) -> str | None:
    """Return the name of the step that the job queue's tables need; None if they are up to date."""
    queue = _queue(connection)
    if not await queue.schema_is_installed():
        return "the job queue"
    return "the job queue's upgrade" if (await queue.plan_upgrade()).statements else None


async def _retry_locked(step: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run a step again while a table is locked. Raises LongshoreError after MAX_LOCK_WAIT_SECONDS."""
    deadline = time.monotonic() + MAX_LOCK_WAIT_SECONDS
    while True:
        try:
            return await step(*args)
        except asyncpg.LockNotAvailableError:
            if time.monotonic() > deadline:
                raise LongshoreError(
                    f"a table has been in use for {MAX_LOCK_WAIT_SECONDS:.0f} seconds, so nothing was changed there;"
                    " end the oldest transaction in pg_stat_activity and run `longshore migrate` again"
                ) from None
        await asyncio.sleep(PAUSE_SECONDS)


async def check_schema(connection: Connection | Pool) -> None:
    """Raise LongshoreError if the schema is not exactly this version's."""
    applied = await _applied(connection)
    _refuse_newer(applied)
    queue = await connection.fetchval("select to_regclass('longshore.pgqueuer') is not null")
    if set(all_migrations()) - applied or not queue:
        raise LongshoreError("the database's schema is older than this version; run `longshore migrate`")


async def pending(connection: Connection) -> list[str]:
    """Return the names of the migrations that would run. Raises LongshoreError if the database is newer."""
    applied = await _applied(connection)
    _refuse_newer(applied)
    step = await _queue_step(connection)
    missing = [f"{number:04} {name}" for number, (name, _) in all_migrations().items() if number not in applied]
    return [*missing, step] if step else missing


@contextlib.asynccontextmanager
async def connected_if_current(url: str) -> AsyncIterator[Connection]:
    """A connection to a database whose schema is this version's. Raises LongshoreError."""
    async with connected(url, APPLICATION_NAME) as connection:
        await check_schema(connection)
        yield connection


async def check_database(url: str) -> None:
    """Raise LongshoreError if the schema is not this version's, or a pooler shares server sessions between clients."""
    async with connected_if_current(url):
        pass
    await require_sessions(url)


async def _applied(connection: Connection | Pool) -> set[int]:
    if not await connection.fetchval("select to_regclass('longshore.migrations') is not null"):
        return set()
    return {row["number"] for row in await connection.fetch("select number from longshore.migrations")}


def _refuse_newer(applied: set[int]) -> None:
    if applied - set(all_migrations()):
        raise LongshoreError("the database's schema is newer than this version; install the Longshore that made it")
