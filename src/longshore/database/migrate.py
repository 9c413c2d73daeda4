"""Migrations: numbered SQL files, forward only, each in its own transaction, one runner at a time.

PgQueuer's tables live in the same schema and are brought up to date by PgQueuer itself, in the same step.
"""

import contextlib
import re
from collections.abc import AsyncIterator
from importlib import resources

import asyncpg

from longshore.database.connect import SESSION, Connection, Pool
from longshore.database.queue_schema import queries_on
from longshore.errors import LongshoreError

LOCK = 0x106510AE  # any number that nothing else in this database locks

LEDGER = """
create schema if not exists longshore;
create table if not exists longshore.migrations (
    number integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
)
"""


class SchemaError(LongshoreError):
    """The database's schema is not the one this version works with; the message says which command helps."""


def known() -> dict[int, tuple[str, str]]:
    """The migrations of this version: number to name and SQL text, in order."""
    found = {}
    for file in (resources.files("longshore.database") / "migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name):
            found[int(match[1])] = (match[2], file.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


async def migrate(connection: Connection) -> list[str]:
    """Bring the schema up to this version and give the names of the migrations that ran.

    Two at once wait for each other. Raises SchemaError when the database is newer than this version.
    """
    await connection.execute("select pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(LEDGER)
        applied = await _applied(connection)
        _refuse_newer(applied)
        ran = []
        for number, (name, sql) in known().items():
            if number in applied:
                continue
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute(
                    "insert into longshore.migrations (number, name) values ($1, $2)", number, name
                )
            ran.append(f"{number:04} {name}")
        queue = queries_on(connection)
        if not await queue.schema_is_installed():
            await queue.install(create_schema=False)
            ran.append("the job queue")
        elif (await queue.apply_upgrade()).statements:
            ran.append("the job queue's upgrade")
        return ran
    finally:
        await connection.execute("select pg_advisory_unlock($1)", LOCK)


async def check(connection: Connection | Pool) -> None:
    """Raise SchemaError unless the schema is exactly this version's."""
    exists = await connection.fetchval("select to_regclass('longshore.migrations') is not null")
    applied = await _applied(connection) if exists else set()
    _refuse_newer(applied)
    if set(known()) - applied:
        raise SchemaError("the database's schema is older than this version; run `longshore migrate`")


async def pending(connection: Connection) -> list[str]:
    """The names of the migrations that would run. Raises SchemaError when the database is newer than this version."""
    exists = await connection.fetchval("select to_regclass('longshore.migrations') is not null")
    applied = await _applied(connection) if exists else set()
    _refuse_newer(applied)
    return [f"{number:04} {name}" for number, (name, _) in known().items() if number not in applied]


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """One connection to a database that is at this version. Raises SchemaError."""
    connection = await asyncpg.connect(url, server_settings=SESSION, timeout=10)
    try:
        await check(connection)
        yield connection
    finally:
        await connection.close()


async def check_at(url: str) -> None:
    """`check` for an address."""
    async with connected(url):
        pass


async def migrate_at(url: str) -> list[str]:
    """`migrate` for an address."""
    connection = await asyncpg.connect(url, server_settings=SESSION, timeout=10)
    try:
        return await migrate(connection)
    finally:
        await connection.close()


async def pending_at(url: str) -> list[str]:
    """`pending` for an address."""
    connection = await asyncpg.connect(url, server_settings=SESSION, timeout=10)
    try:
        return await pending(connection)
    finally:
        await connection.close()


async def _applied(connection: Connection | Pool) -> set[int]:
    return {row["number"] for row in await connection.fetch("select number from longshore.migrations")}


def _refuse_newer(applied: set[int]) -> None:
    if applied - set(known()):
        raise SchemaError("the database's schema is newer than this version; install the Longshore that made it")
