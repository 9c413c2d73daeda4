"""The command `longshore secrets …`: the secrets that the vault seals with."""

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated

import click

from longshore.cli.commands import Commands, Option
from longshore.cli.database import existing_database
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from longshore.rotation import Rotation
    from longshore.settings import Settings

EXAMPLE = 'Example: LONGSHORE_SECRET="$NEW,$OLD" longshore secrets rotate'

secrets_app = Commands(help="The secrets of the vault, which LONGSHORE_SECRET lists.", epilog=EXAMPLE)


@secrets_app.command("rotate", epilog=EXAMPLE)
def rotate_secrets(
    force: Annotated[
        bool, Option("--force", help="Also while processes run that lack the first secret: they fail to read.")
    ] = False,
) -> None:
    """Seal all that is stored under the first secret of LONGSHORE_SECRET, so that the others are not needed any more.

    The service may run meanwhile: the command names the processes that lack the first secret, and then changes nothing.
    An interrupted rotation is run again.
    """
    from longshore.settings_sources import load
    from longshore.telemetry import logs

    settings = load().settings
    logs.configure(settings)
    if not settings.secrets:
        raise LongshoreError(
            "LONGSHORE_SECRET is not set: set it to a new secret, restart all processes, and run this command again"
        )
    with existing_database(settings) as url:
        outcomes = asyncio.run(_rotate(settings, url, force=force))
    for outcome in outcomes:
        click.echo(f"{outcome.name}: {outcome.rewrapped:,} sealed under the newest secret")
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    for failure in failures:
        click.echo(failure, err=True)
    if failures:
        raise LongshoreError(f"{len(failures):,} could not be read, and stay as they are")
    click.echo("All are sealed under the newest secret; LONGSHORE_SECRET needs no other one.")


async def _rotate(settings: "Settings", url: str, *, force: bool) -> list["Rotation"]:
    from longshore.access import audit
    from longshore.access.audit import Actor
    from longshore.database.migrate import connected_if_current
    from longshore.process_list import lacking
    from longshore.rotation import SEALED, rotate
    from longshore.vault import SHARED_CHAIN, open_vault

    vault = open_vault(settings)
    async with connected_if_current(url) as connection:
        if not force and (found := await lacking(connection, vault.newest_prefix)):
            named = ", ".join(f"{one.name} (seen {one.silent_seconds} s ago)" for one in found)
            raise LongshoreError(
                f"the first secret of LONGSHORE_SECRET is unknown to {named}: restart them with the same list, wait a"
                " minute where one has ended without a word, and run this command again; --force rotates all the same"
            )
        outcomes = [await rotate(connection, vault, values) for values in SEALED]
        details = {outcome.name: outcome.rewrapped for outcome in outcomes}
        actor = Actor("command", getpass.getuser())
        await audit.record(connection, actor, SHARED_CHAIN, "secret.rotate", "vault", details)
    return outcomes
