"""Migrations: numbered SQL files, forward only, each in its own transaction, one runner at a time.

They run while the version before serves: none waits long for a lock, as whoever comes after would wait behind it, and
tests/database refuses what takes something from under that version. PgQueuer's tables live in the same schema and are
brought up to date by PgQueuer itself, in the same step.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any

import asyncpg

from longshore.database.connect import Connection, Pool
from longshore.database.connect import connected as connected_as
from longshore.database.export_role import GRANTS
from longshore.database.queue_schema import queries_on
from longshore.database.requirements import require_sessions, require_usable
from longshore.errors import LongshoreError

NAME = "longshore command"  # in pg_stat_activity

LOCK = 0x106510AE  # any number that nothing else in this database locks

LOCK_WAIT = 1.0  # seconds that a statement waits for a table, with the service's own statements waiting behind it
PAUSE = 1.0  # seconds between two tries, which are theirs
PATIENCE = 120.0  # seconds after which a table is given up that others hold

# A role that may not make schemas can be given this one.
SCHEMA = """
do $$ begin
    if pg_catalog.to_regnamespace('longshore') is null then create schema longshore; end if;
end $$
"""

LEDGER = """
create table if not exists longshore.migrations (
    number integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
)
"""


class SchemaError(LongshoreError):
    """The database's schema is not the one this version works with; the message says which command helps."""


class BlockedError(LongshoreError):
    """Others hold a table for too long."""


def known() -> dict[int, tuple[str, str]]:
    """The migrations of this version: number to name and SQL text, in order."""
    found = {}
    for file in (resources.files("longshore.database") / "migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name):
            found[int(match[1])] = (match[2], file.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


async def migrate(connection: Connection) -> list[str]:
    """Bring the schema up to this version and give the names of the migrations that ran.

    Two at once wait for each other. Raises SchemaError when the database is newer than this version, BlockedError when
    others hold a table for too long (what ran before stays), and UnusableServerError.
    """
    await require_usable(connection)
    await connection.execute("select pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(f"set lock_timeout = {LOCK_WAIT * 1000:.0f}")
        await connection.execute(SCHEMA)
        await connection.execute(LEDGER)
        applied = await _applied(connection)
        _refuse_newer(applied)
        ran = []
        for number, (name, sql) in known().items():
            if number not in applied:
                await _patiently(_apply, connection, number, name, sql)
                ran.append(f"{number:04} {name}")
        if queue := await _queue_lacks(connection):
            await _patiently(_converge, connection)
            ran.append(queue)
        await connection.execute(GRANTS)
        return ran
    finally:
        await connection.execute("reset lock_timeout")
        await connection.execute("select pg_advisory_unlock($1)", LOCK)


async def _apply(connection: Connection, number: int, name: str, sql: str) -> None:
    async with connection.transaction():
        await connection.execute(sql)
        await connection.execute("insert into longshore.migrations (number, name) values ($1, $2)", number, name)


async def _converge(connection: Connection) -> None:
    queue = queries_on(connection)
    if await queue.schema_is_installed():
        await queue.apply_upgrade()
    else:
        await queue.install(create_schema=False)


async def _queue_lacks(connection: Connection) -> str | None:
    queue = queries_on(connection)
    if not await queue.schema_is_installed():
        return "the job queue"
    return "the job queue's upgrade" if (await queue.plan_upgrade()).statements else None


async def _patiently(step: Callable[..., Awaitable[None]], *args: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await step(*args)
        except asyncpg.LockNotAvailableError:
            if time.monotonic() > deadline:
                raise BlockedError(
                    f"a table has been in use for {PATIENCE:.0f} seconds, so nothing was changed there; end the oldest"
                    " transaction in pg_stat_activity and run `longshore migrate` again"
                ) from None
        await asyncio.sleep(PAUSE)


async def check(connection: Connection | Pool) -> None:
    """Raise SchemaError unless the schema is exactly this version's."""
    applied = await _applied(connection)
    _refuse_newer(applied)
    queue = await connection.fetchval("select to_regclass('longshore.pgqueuer') is not null")
    if set(known()) - applied or not queue:
        raise SchemaError("the database's schema is older than this version; run `longshore migrate`")


async def pending(connection: Connection) -> list[str]:
    """The names of the migrations that would run. Raises SchemaError when the database is newer than this version."""
    applied = await _applied(connection)
    _refuse_newer(applied)
    queue = await _queue_lacks(connection)
    missing = [f"{number:04} {name}" for number, (name, _) in known().items() if number not in applied]
    return [*missing, queue] if queue else missing


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """One connection to a database that is at this version. Raises SchemaError."""
    async with connected_as(url, NAME) as connection:
        await check(connection)
        yield connection


async def check_at(url: str) -> None:
    """`check` for an address. Raises UnusableServerError too."""
    async with connected(url):
        pass
    await require_sessions(url)


async def migrate_at(url: str) -> list[str]:
    """`migrate` for an address."""
    await require_sessions(url)
    async with connected_as(url, NAME) as connection:
        return await migrate(connection)


async def pending_at(url: str) -> list[str]:
    """`pending` for an address."""
    async with connected_as(url, NAME) as connection:
        return await pending(connection)


async def _applied(connection: Connection | Pool) -> set[int]:
    if not await connection.fetchval("select to_regclass('longshore.migrations') is not null"):
        return set()
    return {row["number"] for row in await connection.fetch("select number from longshore.migrations")}


def _refuse_newer(applied: set[int]) -> None:
    if applied - set(known()):
        raise SchemaError("the database's schema is newer than this version; install the Longshore that made it")
