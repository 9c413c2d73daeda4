"""The test of a destination: each thing that a delivery does, with a table of its own that it removes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import asyncpg

from longshore.database.connect import DirectConnection
from longshore.destinations.destination_test import run_steps
from longshore.destinations.kind import BytesFile, DeliveryRecord, DestinationError, Step, TableColumn, TableLoad
from longshore.destinations.postgresql import apply, deliveries_table
from longshore.destinations.postgresql.connect import PostgresqlSecret, PostgresqlSettings, connect
from longshore.destinations.postgresql.copying import stage
from longshore.destinations.postgresql.errors import server_errors
from longshore.destinations.postgresql.place import BEGIN, pin
from longshore.destinations.postgresql.table import Target, inspect_table, prepare, require_schema
from longshore.destinations.servers import checked_addresses
from longshore.outbound import Address, Network

STEP_SECONDS = 30.0
ROWS = b"id,value\r\n1,one\r\n2,\r\n"


async def steps(
    settings: PostgresqlSettings, secret: PostgresqlSecret, allow: tuple[Network, ...]
) -> AsyncIterator[Step]:
    """Yield a step for each thing that was tried, up to the first that fails."""
    with contextlib.ExitStack() as stack:
        test = _Test(settings, secret, allow, stack)
        taken = {
            "resolve": test.resolve,
            "connect": test.connect,
            "authenticate": test.authenticate,
            "schema": test.find_schema,
            "create table": test.create_table,
            "copy": test.copy,
            "merge": test.merge,
            "drop": test.drop,
        }
        async for step in run_steps({name: partial(_in_time, take, settings) for name, take in taken.items()}):
            yield step


async def _in_time(take: Callable[[], Awaitable[None]], settings: PostgresqlSettings) -> None:
    with server_errors(settings.address):
        async with asyncio.timeout(STEP_SECONDS):
            await take()


class _Test:
    """The steps, and what each leaves to the next ones."""

    addresses: list[Address]
    connection: DirectConnection
    target: Target
    refused: Exception | None = None

    def __init__(
        self,
        settings: PostgresqlSettings,
        secret: PostgresqlSecret,
        allow: tuple[Network, ...],
        stack: contextlib.ExitStack,
    ) -> None:
        """`stack`: closed after the last step."""
        self.settings, self.secret, self.allow, self.stack = settings, secret, allow, stack
        line = DeliveryRecord(0, 0, None, datetime.now(UTC), None, None, 2, b"")
        columns = [TableColumn("id", "number", "int8"), TableColumn("value", "text", "text")]
        name = f"_longshore_test_{uuid4().hex}"
        self.load = TableLoad(name, "merge", columns, ["id"], False, False, "csv", BytesFile(ROWS), None, line)

    async def resolve(self) -> None:
        self.addresses = await checked_addresses(self.settings.host, self.settings.port, self.allow)

    async def connect(self) -> None:
        try:
            self.connection = await connect(self.settings, self.secret, self.addresses)
        except (asyncpg.PostgresError, DestinationError) as error:  # the answer of a server that was connected to
            self.refused = error
        else:
            self.stack.callback(self.connection.terminate)  # the server rolls back, so that no table is left

    async def authenticate(self) -> None:
        if self.refused is not None:
            raise self.refused

    async def find_schema(self) -> None:
        await require_schema(self.connection, self.settings.schema)

    async def create_table(self) -> None:
        await self.connection.execute(BEGIN)
        await pin(self.connection, sees_all=True)
        self.target = await inspect_table(self.connection, self.settings.schema, self.load)
        await prepare(self.connection, self.settings.schema, self.target, self.load.key)
        await deliveries_table.require_rights(self.connection, self.settings.schema)

    async def copy(self) -> None:
        await stage(self.connection, self.target, self.load)

    async def merge(self) -> None:
        await apply.apply(self.connection, self.target, self.load)

    async def drop(self) -> None:
        await self.connection.execute(f"drop table {self.target.name}; commit")
