"""All checks of an installation, in their order."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg

from longshore.database.connect import connected_to_read
from longshore.doctor.databases import of_database, of_source
from longshore.doctor.finding import Finding, first_line, wrong
from longshore.doctor.store import of_disk, of_store
from longshore.errors import LongshoreError
from longshore.exports import catalog
from longshore.exports.catalog import Catalog
from longshore.settings import Settings

MAX_TRUSTED_ADDRESSES = 1 << 16


async def examine(settings: Settings, url: str) -> AsyncIterator[Finding]:
    """Run all checks and yield their findings. Writes and deletes one small result, and changes nothing else.

    `url`: the service's database.
    """
    for finding in of_settings(settings):
        yield finding
    known: Catalog = {}
    try:
        known = catalog.load(settings.catalog)
    except LongshoreError as error:
        yield wrong("catalog", f"{first_line(error)}; correct the file that LONGSHORE_CATALOG names")
    try:
        async with connected_to_read(url, NAME) as connection:
            async for finding in of_database(settings, url, connection):
                yield finding
    except UNREACHABLE as error:
        setting = "LONGSHORE_DATABASE_URL" if settings.database_url else "the server in LONGSHORE_DATA"
        yield wrong("database", f"{first_line(error)}; check {setting}")
    try:
        async with connected_to_read(settings.source_url or url, NAME) as connection:
            async for finding in of_source(settings, connection, known):
                yield finding
    except UNREACHABLE as error:
        setting = "LONGSHORE_SOURCE_URL" if settings.source_url else "LONGSHORE_DATABASE_URL"
        yield wrong("source", f"{first_line(error)}; check {setting}")
    for finding in await asyncio.to_thread(of_store, settings):
        yield finding
    yield of_disk(settings)


NAME = "longshore doctor"
UNREACHABLE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, LongshoreError)


def of_settings(settings: Settings) -> Iterator[Finding]:
    """Check settings that were loaded."""
    warnings = []
    if settings.database_url and not settings.secret:
        what = "LONGSHORE_SECRET is not set, so no destination, webhook or one-time code can be stored; set it"
        warnings.append(what)
    for network in settings.proxies:
        if network.num_addresses > MAX_TRUSTED_ADDRESSES:
            what = f"LONGSHORE_TRUSTED_PROXIES trusts all of {network}; name the addresses of the proxies alone"
            warnings.append(what)
    yield from (Finding("settings", what, "warning") for what in warnings)
    if not warnings:
        yield Finding("settings", "usable")
