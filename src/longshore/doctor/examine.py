"""All checks of an installation, in their order."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

import asyncpg

from longshore.database import migrate
from longshore.database.connect import Connection, connected_to_read
from longshore.doctor.databases import check_database, check_source
from longshore.doctor.store import check_disks, check_store
from longshore.errors import LongshoreError, first_line
from longshore.exports import catalog
from longshore.exports.catalog import Catalog
from longshore.exports.catalog_check import check_tokens
from longshore.findings import Finding
from longshore.process_list import lacking
from longshore.secret_rotation import backlog, has_sealed_values
from longshore.settings import Settings
from longshore.vault import Vault, VaultError, open_vault

NAME = "longshore doctor"
UNREACHABLE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, LongshoreError)
MAX_TRUSTED_ADDRESSES = 1 << 16


async def examine(settings: Settings, url: str) -> AsyncGenerator[Finding, None]:
    """Run all checks and yield their findings. Writes and deletes one small result, and changes nothing else.

    `url`: the service's database.
    """
    for finding in check_settings(settings):
        yield finding
    known: Catalog = {}
    try:
        known = catalog.load(settings.catalog)
    except LongshoreError as error:
        yield Finding("catalog", f"{first_line(error)}; correct the file that LONGSHORE_CATALOG names")
    try:
        async with connected_to_read(url, NAME) as connection:
            async for finding in check_database(settings, url, connection):
                yield finding
            if not await migrate.pending(connection):
                try:
                    yield await check_secrets(connection, open_vault(settings))
                except LongshoreError as error:  # its folder may not be searched
                    yield Finding("secrets", first_line(error))
                for one in await check_tokens(connection, known) if known else ():
                    yield Finding("catalog", f"{one.where}: {one.what}", one.level)
    except UNREACHABLE as error:
        setting = "LONGSHORE_DATABASE_URL" if settings.database_url else "the server in LONGSHORE_DATA"
        yield Finding("database", f"{first_line(error)}; check {setting}")
    try:
        async with connected_to_read(settings.source_url or url, NAME) as connection:
            async for finding in check_source(settings, connection, known):
                yield finding
    except UNREACHABLE as error:
        setting = "LONGSHORE_SOURCE_URL" if settings.source_url else "LONGSHORE_DATABASE_URL"
        yield Finding("source", f"{first_line(error)}; check {setting}")
    for finding in await asyncio.to_thread(check_store, settings):
        yield finding
    for finding in check_disks(settings):
        yield finding


async def check_secrets(connection: Connection, vault: Vault) -> Finding:
    """Check that this machine has the secrets that all stored ones are sealed under."""
    try:
        found = await backlog(connection, vault)
    except VaultError as error:
        return Finding("secrets", first_line(error), "wrong" if await has_sealed_values(connection) else "warning")
    if found.failures:
        more = f", and {len(found.failures) - 1:,} more" if len(found.failures) > 1 else ""
        return Finding("secrets", f"{found.failures[0]}{more}")
    if processes := await lacking(connection, vault.newest_prefix):
        named = ", ".join(sorted({one.name for one in processes}))
        what = f"the first of LONGSHORE_SECRET is unknown to {named}; restart all processes with the same list"
        return Finding("secrets", what)
    if found.older:
        what = f"{found.older:,} are sealed under earlier secrets; run longshore secrets rotate before you remove these"
        return Finding("secrets", what, "warning")
    return Finding("secrets", "all that are stored can be read", "ok")


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Check settings that were loaded."""
    broad = [network for network in settings.proxies if network.num_addresses > MAX_TRUSTED_ADDRESSES]
    for network in broad:
        what = f"LONGSHORE_TRUSTED_PROXIES trusts all of {network}; name the addresses of the proxies alone"
        yield Finding("settings", what, "warning")
    if not broad:
        yield Finding("settings", "usable", "ok")
