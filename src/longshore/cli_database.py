"""How commands reach the service's database: one transaction, as whoever is at the command line."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from longshore.access.audit import Actor
    from longshore.database.connect import Connection

T = TypeVar("T")


def with_connection(run: Callable[["Connection", "Actor"], Awaitable[T]]) -> T:
    """Do something in one transaction of the service's database; `run` gets the actor for the audit log."""
    from longshore import logging
    from longshore.access.audit import Actor
    from longshore.database.migrate import connected
    from longshore.serve import database
    from longshore.settings import load

    settings = load().settings
    logging.configure(settings)

    async def connect(url: str) -> T:
        async with connected(url) as connection, connection.transaction():
            return await run(connection, Actor("command", getpass.getuser()))

    with database(settings) as url:
        return asyncio.run(connect(url))
