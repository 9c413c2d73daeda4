"""`longshore database url`, and the access of other commands to the service's database."""

import asyncio
import contextlib
import getpass
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click

from longshore.cli.app import app

if TYPE_CHECKING:
    from longshore.access.audit import Actor
    from longshore.database.connect import Connection
    from longshore.settings import Settings

T = TypeVar("T")

EXAMPLE = 'Example: longshore database url, as in psql "$(longshore database url)"'

database_app = app.add_group("database", help="The service's database.", epilog=EXAMPLE)


@database_app.command("url", epilog=EXAMPLE)
def print_url() -> None:
    """Print the address of the service's database, with its password, for psql and other clients."""
    from longshore.database.connection_uri import parse
    from longshore.database.embedded import embedded_url, is_running
    from longshore.settings_sources import load

    settings = load().settings
    if settings.database_url:
        click.echo(parse(settings.database_url).uri)
        return
    click.echo(embedded_url(settings.data))
    if not is_running(settings.data):
        click.echo("the embedded server is not running; it runs while `longshore serve` does", err=True)


def load_settings() -> "Settings":
    """Return the settings, with the log configured by them."""
    from longshore.settings_sources import load
    from longshore.telemetry import logs

    settings = load().settings
    logs.configure(settings)
    return settings


def with_connection(run: Callable[["Connection", "Actor"], Awaitable[T]], *, one_transaction: bool = True) -> T:
    """Run a function on a connection to the service's database; its actor, for the audit log, is the system user.

    `one_transaction`: whether it runs in one; else it begins its own.
    """
    from longshore.access.audit import Actor
    from longshore.database.migrate import connected_if_current

    async def connect(url: str) -> T:
        async with (
            connected_if_current(url) as connection,
            connection.transaction() if one_transaction else contextlib.nullcontext(),
        ):
            return await run(connection, Actor("command", system_user()))

    with existing_database(load_settings()) as url:
        return asyncio.run(connect(url))


def system_user() -> str:
    """Return the name of the system user, such as `anna`; `uid 12345` for one without an entry in /etc/passwd."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as of Python 3.13 an OSError
        return f"uid {os.getuid()}"


@contextlib.contextmanager
def existing_database(settings: "Settings") -> Iterator[str]:
    """Yield the address of the service's database. Raises LongshoreError if there is none yet."""
    from longshore.database.embedded import embedded_url
    from longshore.processes import database

    if not settings.database_url:
        embedded_url(settings.data)
    with database(settings) as url:
        yield url
