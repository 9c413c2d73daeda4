"""The test of a destination: each thing that a delivery does, with a table of its own that it removes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import BytesFile, DeliveryLine, DestinationError, Step, TableColumn, TableLoad
from longshore.destinations.postgresql import apply, deliveries_table
from longshore.destinations.postgresql.connect import PostgresqlSecret, PostgresqlSettings, connect, resolved
from longshore.destinations.postgresql.copying import stage
from longshore.destinations.postgresql.errors import translated
from longshore.destinations.postgresql.place import BEGIN, pin
from longshore.destinations.postgresql.table import Target, inspect_table, prepare, require_schema
from longshore.errors import LongshoreError
from longshore.outbound import Network

STEP_SECONDS = 30.0
ROWS = b"id,value\r\n1,one\r\n2,\r\n"

T = TypeVar("T")


class _FailedError(Exception):
    """A step has failed."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.detail)
        self.step = step


async def steps(
    settings: PostgresqlSettings, secret: PostgresqlSecret, allow: tuple[Network, ...]
) -> AsyncIterator[Step]:
    """Yield a step for each thing that was tried, up to the first that fails."""
    connection: DirectConnection | None = None
    try:
        addresses = await _tried("resolve", settings, resolved(settings, allow))
        yield Step("resolve", True)
        connection = await _connected(settings, secret, addresses)
        yield Step("connect", True)
        yield Step("authenticate", True)
        await _tried("schema", settings, require_schema(connection, settings.schema))
        yield Step("schema", True)
        load = _load()
        target = await _tried("create table", settings, _created(connection, settings, load))
        yield Step("create table", True)
        await _tried("copy", settings, stage(connection, target, load))
        yield Step("copy", True)
        await _tried("merge", settings, apply.apply(connection, target, load))
        yield Step("merge", True)
        await _tried("drop", settings, connection.execute(f"drop table {target.name}; commit"))
        yield Step("drop", True)
    except _FailedError as failed:
        if failed.step.step == "authenticate":
            yield Step("connect", True)
        yield failed.step
    finally:
        if connection is not None:
            connection.terminate()  # the server rolls back, so that no table is left


async def _tried(step: str, settings: PostgresqlSettings, work: Awaitable[T]) -> T:
    try:
        with translated(settings.address):
            async with asyncio.timeout(STEP_SECONDS):
                return await work
    except LongshoreError as error:
        raise _FailedError(Step(step, False, str(error))) from None


async def _connected(settings: PostgresqlSettings, secret: PostgresqlSecret, addresses: list[str]) -> DirectConnection:
    """Connect. An error of the server itself is one of the step `authenticate`."""

    async def connecting() -> DirectConnection | asyncpg.PostgresError | DestinationError:
        try:
            return await connect(settings, secret, addresses)
        except (asyncpg.PostgresError, DestinationError) as error:
            return error

    async def refused(error: Exception) -> Any:
        raise error

    found = await _tried("connect", settings, connecting())
    if isinstance(found, asyncpg.PostgresError | DestinationError):
        await _tried("authenticate", settings, refused(found))
    assert isinstance(found, asyncpg.Connection)
    return found


def _load() -> TableLoad:
    now = datetime.now(UTC)
    line = DeliveryLine(0, 0, None, now, None, None, 2, b"")
    columns = [TableColumn("id", "number", "int8"), TableColumn("value", "text", "text")]
    name = f"_longshore_test_{uuid4().hex}"
    return TableLoad(name, "merge", columns, ["id"], False, False, "csv", BytesFile(ROWS), None, line)


async def _created(connection: DirectConnection, settings: PostgresqlSettings, load: TableLoad) -> Target:
    await connection.execute(BEGIN)
    await pin(connection, sees_all=True)
    target = await inspect_table(connection, settings.schema, load)
    await prepare(connection, settings.schema, target, load.key)
    await deliveries_table.require_rights(connection, settings.schema)
    return target
