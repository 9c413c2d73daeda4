"""The kind of destination `postgresql`: results as tables of a PostgreSQL database."""

import contextlib
from collections.abc import AsyncIterator

from longshore.database.connect import DirectConnection
from longshore.destinations.addresses import checked_addresses
from longshore.destinations.kind import Kind, OpenDestination
from longshore.destinations.postgresql.connect import PostgresqlSecret, PostgresqlSettings, check, connect
from longshore.destinations.postgresql.errors import translated
from longshore.destinations.postgresql.place import PostgresqlPlace
from longshore.destinations.postgresql.steps import steps
from longshore.outbound import Network
from longshore.settings import Settings


def postgresql(_settings: Settings) -> Kind:
    """Return the kind."""
    return Kind(PostgresqlSettings, PostgresqlSecret, "tables", _open, steps, check, frozenset({"schema"}))


@contextlib.asynccontextmanager
async def _open(
    settings: PostgresqlSettings, secret: PostgresqlSecret, allow: tuple[Network, ...]
) -> AsyncIterator[OpenDestination]:
    async def connected() -> DirectConnection:
        return await connect(settings, secret, await checked_addresses(settings.host, settings.port, allow))

    place = PostgresqlPlace(settings, connected)
    with translated(settings.address):
        await place.connection()
    try:
        yield place
    finally:
        await place.close()
