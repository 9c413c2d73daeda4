"""A PostgreSQL schema that takes tables: rows are staged, applied and recorded in one transaction.

All of it is one transaction with settings of its own, so that it works through poolers in transaction mode too, and
whatever ends it leaves nothing. After a connection that was lost at the commit, the record in `_longshore_deliveries`
says whether the load is there.
"""

import asyncio
import contextlib

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, TableEvidence, TableLoad
from longshore.destinations.postgresql import apply, deliveries_table, rows
from longshore.destinations.postgresql.connect import PINNED, PostgresqlSecret, PostgresqlSettings, connect
from longshore.destinations.postgresql.copying import copy, stage
from longshore.destinations.postgresql.errors import server_errors
from longshore.destinations.postgresql.table import (
    FIND,
    check_names,
    inspect_table,
    prepare,
    require_allowed,
    require_schema,
)
from longshore.destinations.postgresql.types import quoted
from longshore.destinations.servers import checked_addresses
from longshore.outbound import Network

LOAD_LOCK_TIMEOUT = "1h"  # for another load of the table, which keeps no reader waiting
LOCK_TIMEOUT = "60s"  # for sessions of others, which wait behind this one

PIN = """
select pg_catalog.set_config(name, value, true)
from unnest($1::text[], $2::text[]) as s (name, value)
where pg_catalog.current_setting(name, true) is not null
"""

# In one message, as a role's own timeouts may be short.
BEGIN = """
begin isolation level read committed;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0
"""
ROLLBACK_SECONDS = CLOSE_SECONDS = 5.0


class PostgresqlPlace:
    """An open schema."""

    def __init__(self, settings: PostgresqlSettings, secret: PostgresqlSecret, allow: tuple[Network, ...]) -> None:
        self._settings, self._secret, self._allow = settings, secret, allow
        self._connection: DirectConnection | None = None

    def address(self, table: str) -> str:
        """Return the address of a table."""
        return f"{self._settings.address}.{table}"

    async def connect(self) -> DirectConnection:
        """Return the open connection, a new one where it is closed. Raises as `connect.connect`."""
        if self._connection is None or self._connection.is_closed():
            addresses = await checked_addresses(self._settings.host, self._settings.port, self._allow)
            self._connection = await connect(self._settings, self._secret, addresses)
        return self._connection

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and not self._connection.is_closed():
            with contextlib.suppress(Exception):
                await self._connection.close(timeout=CLOSE_SECONDS)
            self._connection.terminate()

    async def load(self, load: TableLoad) -> TableEvidence:
        """Load rows and write the line of the delivery, see `TablePlace.load`. Raises what reading the file raises."""
        check_names(load)
        try:
            with server_errors(self.address(load.table)):
                connection = await self.connect()
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
    evidence = await _load(connection, schema, load)
    if await connection.execute("commit") != "COMMIT":
        raise DestinationUnavailableError("the transaction was rolled back")
    return evidence


async def _roll_back(connection: DirectConnection) -> None:
    """End the transaction and the statement that runs, if the server answers soon, and close the connection."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(ROLLBACK_SECONDS):
            await connection.execute("rollback")
    connection.terminate()


async def _load(connection: DirectConnection, schema: str, load: TableLoad) -> TableEvidence:
    await pin(connection, sees_all=load.mode != "append")
    if found := await _earlier_delivery(connection, schema, load):
        return found
    planned = await inspect_table(connection, schema, load)
    await require_allowed(connection, planned, load)  # before a long file is staged
    # A new table, which nobody sees yet, takes the file itself: rows that are written once take a quarter less time.
    is_direct = planned.oid is None and load.mode != "merge"
    if not is_direct:
        await stage(connection, planned, load)
    await deliveries_table.lock_table(connection, schema, load.table)
    # Each statement sees what was committed before it, so also what the load before this one did.
    if found := await _earlier_delivery(connection, schema, load):
        return found
    await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
    target = await inspect_table(connection, schema, load)
    await require_allowed(connection, target, load)
    if is_direct and target.oid is not None:  # another load has made it meanwhile
        is_direct, planned = False, target
        await stage(connection, planned, load)
    if [column.type for column in target.columns] != [column.type for column in planned.columns]:
        raise DestinationUnavailableError(f"{target.name} was changed during the load")
    if target.oid is None:
        await deliveries_table.forget(connection, schema, load.table)
    await prepare(connection, schema, target, load.key if load.mode == "merge" else ())
    if is_direct:
        await copy(connection, load, schema, load.table)
        evidence = await apply.table_evidence(connection, target, load.totals)
    else:
        evidence = await apply.apply(connection, target, load)
    load.require(evidence, target.name)
    await deliveries_table.write_line(connection, schema, load.table, load.line)
    return evidence


async def _earlier_delivery(connection: DirectConnection, schema: str, load: TableLoad) -> TableEvidence | None:
    """Return the evidence of an earlier delivery of the load; None where there is none.

    Records of a table that was dropped do not count. Raises DestinationError for an increment of a table that lacks the
    rows before it.
    """
    name = f"{quoted(schema)}.{quoted(load.table)}"
    # Not by to_regclass: the server remembers for a while that a name was missing, also where another load has made it.
    if await connection.fetchrow(FIND, schema, load.table) is None:
        if load.line.watermark_from_hash is not None and not load.replaces_all_rows:
            raise _missing_rows_error(load, f"{name} does not exist")
        return None
    found = await deliveries_table.delivered_rows(connection, schema, load)
    if found is not None:
        return TableEvidence(found, None, already_loaded=True)
    if load.line.watermark_to_hash is not None and not load.replaces_all_rows:
        await _require_earlier(connection, name, load, await deliveries_table.earlier_lines(connection, schema, load))
    return None


async def _require_earlier(
    connection: DirectConnection, name: str, load: TableLoad, earlier: deliveries_table.EarlierLines
) -> None:
    """Raise DestinationError unless the table has the rows up to where an increment begins, and none after that."""
    line = load.line
    if line.watermark_from_hash is None:  # an append of all rows
        if earlier.rows:
            raise DestinationError(
                f"{name} has {earlier.rows:,} rows of earlier runs of task {line.task}, which this run would repeat, as"
                " it begins with the first row: drop the table, and deliver the run again"
            )
        return
    # An update may be repeated; an appended row, or a key that came and went in between, may not.
    may_repeat = load.mode == "merge" and not load.has_changes
    if not (earlier.has_watermark if may_repeat else earlier.ends_at_watermark):
        raise _missing_rows_error(load, f"the table {deliveries_table.NAME} has no line for {name} that ends there")
    filled = f"select exists (select from {name})"
    if may_repeat and earlier.rows and not await connection.fetchval(filled):
        raise _missing_rows_error(load, f"{name} was emptied")


def _missing_rows_error(load: TableLoad, why: str) -> DestinationError:
    first = "drop the table if it is there, and " if load.mode == "append" else ""
    return DestinationError(
        f"the rows before this increment of task {load.line.task} are missing: {why}; {first}{load.full_run_advice}"
    )


async def pin(connection: DirectConnection, *, sees_all: bool) -> None:
    """Set the settings of a load for its transaction.

    `sees_all`: the server raises an error where row-level security hides rows of a table, which would be left there.
    """
    settings = {**PINNED, "lock_timeout": LOAD_LOCK_TIMEOUT, "row_security": "off" if sees_all else "on"}
    await connection.execute(PIN, list(settings), list(settings.values()))
