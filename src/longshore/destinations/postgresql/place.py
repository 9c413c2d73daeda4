"""A PostgreSQL schema that takes tables: rows are staged, applied and recorded in one transaction.

All of it is one transaction with settings of its own, so that it works through poolers in transaction mode too, and
whatever ends it leaves nothing. A connection that is lost at the commit leaves open whether the load is there; the line
in `_longshore_deliveries` tells the next attempt.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import (
    DestinationError,
    DestinationUnavailableError,
    TableEvidence,
    TableLoad,
)
from longshore.destinations.postgresql import apply, deliveries_table, rows
from longshore.destinations.postgresql.connect import PINNED, PostgresqlSettings
from longshore.destinations.postgresql.errors import needing, translated
from longshore.destinations.postgresql.table import (
    FIND,
    Target,
    check_names,
    inspected,
    prepare,
    refuse_cascades,
    require_rights,
    require_schema,
)
from longshore.destinations.postgresql.types import quoted
from longshore.exports.export import CHANGE_NAMES

LOAD_LOCK_TIMEOUT = "1h"  # for another load of the table, which keeps no reader waiting
LOCK_TIMEOUT = "60s"  # for sessions of others, which wait behind this one

# `row_security` is off where rows that a policy hides would be left in the table: the server then raises an error.
PIN = """
select pg_catalog.set_config(name, value, true)
from unnest($1::text[], $2::text[]) as s (name, value)
where pg_catalog.current_setting(name, true) is not null
"""

COMPARES_HEADER = (15,)  # the version of PostgreSQL that compares the header with the columns

# In one message, as a role's own timeouts may be short.
BEGIN = """
begin isolation level read committed;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0
"""
ROLLBACK_SECONDS = CLOSE_SECONDS = 5.0

LOST_SECONDS = 1.0  # that asyncpg may take to report a lost connection


class PostgresqlPlace:
    """An open schema."""

    def __init__(self, settings: PostgresqlSettings, connect: Callable[[], Awaitable[DirectConnection]]) -> None:
        """`connect`: opens a connection."""
        self._settings = settings
        self._connect = connect
        self._open: DirectConnection | None = None

    def address(self, table: str) -> str:
        """Return the address of a table."""
        return f"{self._settings.address}.{table}"

    async def connection(self) -> DirectConnection:
        """Return an open connection. Raises as `connect`."""
        if self._open is None or self._open.is_closed():
            self._open = await self._connect()
        return self._open

    async def close(self) -> None:
        """Close the connection."""
        if self._open is not None and not self._open.is_closed():
            with contextlib.suppress(Exception):
                await self._open.close(timeout=CLOSE_SECONDS)
            self._open.terminate()

    async def load(self, load: TableLoad) -> TableEvidence:
        """Load rows and write the line of the delivery, see `TablePlace.load`. Raises what reading the file raises."""
        check_names(load)
        try:
            with translated(self.address(load.table)):
                connection = await self.connection()
                try:
                    return await _in_transaction(connection, self._settings.schema, load)
                except BaseException:
                    await _roll_back(connection)
                    raise
        except rows.ReadError as error:
            raise error.reason from None


async def _in_transaction(connection: DirectConnection, schema: str, load: TableLoad) -> TableEvidence:
    await connection.execute(BEGIN)
    await require_schema(connection, schema)
    await deliveries_table.ensure(connection, schema)
    await connection.execute(f"commit; {BEGIN}")
    evidence = await _loaded(connection, schema, load)
    if await connection.execute("commit") != "COMMIT":
        raise DestinationUnavailableError("the transaction was rolled back")
    return evidence


async def _roll_back(connection: DirectConnection) -> None:
    """End the transaction and the statement that runs, if the server answers soon, and close the connection."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(ROLLBACK_SECONDS):
            await connection.execute("rollback")
    connection.terminate()


async def _loaded(connection: DirectConnection, schema: str, load: TableLoad) -> TableEvidence:
    """Load rows in the connection's transaction."""
    await pin(connection, sees_all=load.mode != "append")
    if found := await _there(connection, schema, load):
        return found
    staged = await inspected(connection, schema, load)
    rows = await stage(connection, staged, load)
    load.require_rows(rows, staged.name)
    await deliveries_table.lock_table(connection, schema, load.table)
    # Each statement sees what was committed before it, so also what the load before this one did.
    if found := await _there(connection, schema, load):
        return found
    await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
    target = await inspected(connection, schema, load)
    if [column.type for column in target.columns] != [column.type for column in staged.columns]:
        raise DestinationUnavailableError(f"{target.name} was changed during the load")
    await require_rights(connection, target, load)
    if target.oid is None:
        await deliveries_table.forget(connection, schema, load.table)
    elif load.mode == "replace":
        await refuse_cascades(connection, target)
    await prepare(connection, schema, target, load.key if load.mode == "merge" else ())
    evidence = await apply.apply(connection, target, load)
    load.require(evidence, target.name)
    await deliveries_table.write_line(connection, schema, load.table, load.line)
    return evidence


async def _there(connection: DirectConnection, schema: str, load: TableLoad) -> TableEvidence | None:
    """Return the evidence of an earlier delivery of the load; None where there is none.

    Lines of a table that was dropped do not count. Raises DestinationError for an increment that the table has not the
    rows before of.
    """
    name = f"{quoted(schema)}.{quoted(load.table)}"
    # Not by to_regclass: the server remembers for a while that a name was missing, also where another load has made it.
    if await connection.fetchrow(FIND, schema, load.table) is None:
        if load.line.mark_from is not None and not load.is_whole:
            raise _lacking(load, f"{name} does not exist")
        return None
    found = await deliveries_table.delivered_rows(connection, schema, load)
    if found is not None:
        return TableEvidence(found, None, was_there=True)
    if load.line.mark_to is not None and not load.is_whole:
        await _require_earlier(connection, name, load, await deliveries_table.earlier_lines(connection, schema, load))
    return None


async def _require_earlier(
    connection: DirectConnection, name: str, load: TableLoad, earlier: deliveries_table.EarlierLines
) -> None:
    """Raise DestinationError unless the table has the rows up to where an increment begins, and none after that."""
    line = load.line
    if line.mark_from is None:  # an append of all rows
        if earlier.rows:
            raise DestinationError(
                f"{name} has {earlier.rows:,} rows of earlier runs of task {line.task}, which this run would repeat, as"
                " it begins with the first row: drop the table, and deliver the run again"
            )
        return
    # An update may be repeated; an appended row, or a key that came and went in between, may not.
    may_repeat = load.mode == "merge" and not load.has_changes
    if not (earlier.has_mark if may_repeat else earlier.ends_at_mark):
        raise _lacking(load, f"the table {deliveries_table.NAME} has no line for {name} that ends there")
    filled = f"select exists (select from {name})"  # noqa: S608  # a quoted name
    if may_repeat and earlier.rows and not await connection.fetchval(filled):
        raise _lacking(load, f"{name} was emptied")


def _lacking(load: TableLoad, why: str) -> DestinationError:
    first = "drop the table if it is there, and " if load.mode == "append" else ""
    return DestinationError(
        f"the rows before this increment of task {load.line.task} are missing: {why}; {first}{load.full_run}"
    )


async def pin(connection: DirectConnection, *, sees_all: bool) -> None:
    """Set the settings of a load for its transaction.

    `sees_all`: raise an error where row-level security hides rows of a table.
    """
    settings = {**PINNED, "lock_timeout": LOAD_LOCK_TIMEOUT, "row_security": "off" if sees_all else "on"}
    await connection.execute(PIN, list(settings), list(settings.values()))


async def stage(connection: DirectConnection, target: Target, load: TableLoad) -> int:
    """Copy the file into the temporary table `apply.STAGING`, which has the types that the table will have.

    Return the number of rows.
    """
    names = [column.name for column in load.columns]
    columns = target.defined(load.key if load.mode == "merge" else ())
    if load.has_changes:
        names = [*CHANGE_NAMES, *names]
        columns = [*(f"{quoted(name)} text" for name in CHANGE_NAMES), *columns]
    with needing("create temporary tables", "grant temporary on database … to the role"):
        await connection.execute(f"create temporary table {apply.STAGING_NAME} ({', '.join(columns)}) on commit drop")
    if load.format == "parquet":
        return await copy(connection, rows.parquet_chunks(load.file, names), names, header=False)
    compares = connection.get_server_version() >= COMPARES_HEADER
    return await copy(connection, rows.csv_chunks(load.file), names, header="match" if compares else True)


async def copy(connection: DirectConnection, chunks: rows.Chunks, names: Sequence[str], *, header: Any) -> int:
    """Copy CSV into the temporary table, and return the number of rows. `header`: COPY's option.

    asyncpg waits for ever where a connection is lost while it waits to send, so this watches the connection.
    """
    lost = asyncio.Event()

    def lose(_: object) -> None:
        lost.set()

    async with contextlib.aclosing(rows.in_thread(chunks)) as source:
        copying = asyncio.ensure_future(
            connection.copy_to_table(
                apply.STAGING_NAME, source=source, columns=names, schema_name="pg_temp", format="csv", header=header
            )
        )
        watching = asyncio.ensure_future(lost.wait())
        connection.add_termination_listener(lose)
        try:
            await asyncio.wait({copying, watching}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({copying}, timeout=LOST_SECONDS)
            if not copying.done():
                raise ConnectionError("the connection was lost")
            return int((await copying).rpartition(" ")[2])
        finally:
            connection.remove_termination_listener(lose)
            watching.cancel()
            copying.cancel()
            await asyncio.gather(copying, watching, return_exceptions=True)
