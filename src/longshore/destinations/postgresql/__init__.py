"""The kind of destination `postgresql`: results as tables of a PostgreSQL database."""

import contextlib
from collections.abc import AsyncIterator

from longshore.destinations.kind import Kind, OpenDestination
from longshore.destinations.postgresql.connect import PostgresqlSecret, PostgresqlSettings, check
from longshore.destinations.postgresql.errors import server_errors
from longshore.destinations.postgresql.place import PostgresqlPlace
from longshore.destinations.postgresql.steps import steps
from longshore.outbound import Network
from longshore.settings import Settings


def postgresql(_settings: Settings) -> Kind:
    return Kind(PostgresqlSettings, PostgresqlSecret, "tables", _open, steps, check, frozenset({"schema"}))


@contextlib.asynccontextmanager
async def _open(
    settings: PostgresqlSettings, secret: PostgresqlSecret, allow: tuple[Network, ...]
) -> AsyncIterator[OpenDestination]:
    place = PostgresqlPlace(settings, secret, allow)
    with server_errors(settings.address):
        await place.connect()
    try:
        yield place
    finally:
        await place.close()
