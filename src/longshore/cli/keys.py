"""The command `longshore keys …`: the keys that sign manifests."""

from typing import TYPE_CHECKING

import click

from longshore.cli.app import app
from longshore.cli.database import with_connection

if TYPE_CHECKING:
    from longshore.access.audit import Actor
    from longshore.database.connect import Connection

EXAMPLE = "Example: longshore keys rotate"

keys_app = app.add_group("keys", help="The keys that sign manifests.", epilog=EXAMPLE)


@keys_app.command("rotate", epilog=EXAMPLE)
def rotate_keys() -> None:
    """Replace the key that signs manifests. The public keys before stay in the JWK Set, so old manifests verify."""
    from longshore.access import audit
    from longshore.exports import signing_keys
    from longshore.settings_sources import load
    from longshore.vault import SHARED_CHAIN, open_vault

    vault = open_vault(load().settings)

    async def run(connection: "Connection", actor: "Actor") -> tuple[str, int]:
        kid, count = await signing_keys.rotate(connection, vault)
        await audit.record(connection, actor, SHARED_CHAIN, "key.rotate", f"key {kid}")
        return kid, count

    kid, count = with_connection(run)
    click.echo(f"{kid} signs from now on; the JWK Set has {count:,} keys")
