"""The command `longshore secrets …`: the secrets that the vault seals with."""

from typing import TYPE_CHECKING, Annotated

import click

from longshore.cli.app import app
from longshore.cli.commands import Option
from longshore.cli.database import load_settings, with_connection
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from longshore.access.audit import Actor
    from longshore.database.connect import Connection
    from longshore.secret_rotation import Rotation

EXAMPLE = 'Example: LONGSHORE_SECRET="$NEW,$OLD" longshore secrets rotate'

secrets_app = app.add_group("secrets", help="The secrets of the vault, which LONGSHORE_SECRET lists.", epilog=EXAMPLE)


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
    from longshore.access import audit
    from longshore.process_list import lacking
    from longshore.secret_rotation import SEALED, rotate
    from longshore.vault import SHARED_CHAIN, open_vault

    settings = load_settings()
    if not settings.secrets:
        raise LongshoreError(
            "LONGSHORE_SECRET is not set: set it to a new secret, restart all processes, and run this command again"
        )
    vault = open_vault(settings)

    async def run(connection: "Connection", actor: "Actor") -> "list[Rotation]":
        if not force and (found := await lacking(connection, vault.newest_prefix)):
            named = ", ".join(f"{one.name} (seen {one.silent_seconds} s ago)" for one in found)
            raise LongshoreError(
                f"the first secret of LONGSHORE_SECRET is unknown to {named}: restart them with the same list, wait a"
                " minute where one has ended without a word, and run this command again; --force rotates all the same"
            )
        outcomes = [await rotate(connection, vault, values) for values in SEALED]
        details = {outcome.name: outcome.rewrapped for outcome in outcomes}
        await audit.record(connection, actor, SHARED_CHAIN, "secret.rotate", "vault", details)
        return outcomes

    outcomes = with_connection(run, one_transaction=False)
    for outcome in outcomes:
        click.echo(f"{outcome.name}: {outcome.rewrapped:,} sealed under the newest secret")
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    for failure in failures:
        click.echo(failure, err=True)
    if failures:
        raise LongshoreError(f"{len(failures):,} could not be read, and stay as they are")
    click.echo("All are sealed under the newest secret; LONGSHORE_SECRET needs no other one.")
