"""`longshore shares …`: results as tables, for programs that know the Delta Sharing protocol."""

from pathlib import Path
from typing import Annotated

import click

from longshore.cli import follow, remote, waiting
from longshore.cli.app import app
from longshore.cli.commands import Argument, Option
from longshore.cli.output import show_all

EXAMPLE = "Example: longshore shares profile -o longshore.share"

shares_app = app.add_group("shares", help="Results as tables.", epilog=EXAMPLE)


@shares_app.command("list", epilog="Example: longshore shares list")
def list_shares(profile: remote.Profile = None, json: remote.Json = False) -> None:
    """List the tables that the login may read."""
    with remote.client_of(profile) as client:
        found = client.shares.list()
    show_all(found, ("table",), lambda table: (table.full_name,), json=json)


@shares_app.command("profile", epilog=EXAMPLE)
def show_profile(
    output: Annotated[
        str | None,
        Option("-o", "--output", help="File, for its owner alone, or folder; standard output by default."),
    ] = None,
    clobber: follow.Clobber = False,
    profile: remote.Profile = None,
) -> None:
    """Write the profile file by which other programs read the tables. It has the token of the login."""
    import msgspec

    from longshore.client.profiles import write_for_owner

    follow.refuse_output(output, clobber=clobber)
    with remote.client_of(profile) as client:
        content = msgspec.json.format(msgspec.json.encode(client.shares.profile())) + b"\n"
        name = f"longshore-{client.chain}.share"
    if output is None or output == follow.STDOUT:
        click.echo(content, nl=False)
        return
    file = Path(output) / name if Path(output).is_dir() else Path(output)
    write_for_owner(file, content)
    click.echo(file)


@shares_app.command("revoke", epilog="Example: longshore shares revoke longshore.share")
def revoke_profile(file: Annotated[Path, Argument(help="The profile file.")]) -> None:
    """Revoke the token in a profile file that a user made, with that token. No login is needed; the file stays."""
    import msgspec

    from longshore import Longshore
    from longshore.client import ProfileError
    from longshore.client.shares import ShareProfile

    try:
        given = msgspec.json.decode(file.read_bytes(), type=ShareProfile)
    except (OSError, msgspec.MsgspecError) as error:
        raise ProfileError(f"the profile file {file} cannot be read: {error}") from None
    address, id = given.endpoint.rstrip("/").removesuffix("/delta-sharing"), given.bearer_token.partition(":")[0]
    # The file does not say the chain, which a client has to name; the protocol's own paths do without.
    with Longshore(address, given.bearer_token, chain=0) as client, waiting.noted(address):
        chain = int(client.request("GET", "/delta-sharing/shares")["items"][0]["name"])
    with Longshore(address, given.bearer_token, chain=chain) as client, waiting.noted(address):
        client.shares.revoke(id)
    click.echo(f"revoked {id}")
