"""`longshore shares …`: results as tables, for programs that know the Delta Sharing protocol."""

from pathlib import Path
from typing import Annotated

import click
import msgspec

from longshore.cli import download as downloads
from longshore.cli import options
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Argument, Option
from longshore.cli.output import show_all
from longshore.cli.wait_notice import wait_notice

EXAMPLE = "Example: longshore shares profile -o longshore.share"

shares_app = app.add_group("shares", help="Results as tables.", epilog=EXAMPLE)


@shares_app.command("list", epilog="Example: longshore shares list")
def list_shares(profile: options.Profile = None, json: options.Json = False) -> None:
    """List the tables that the login may read."""
    with client_of(profile) as client:
        found = client.shares.list()
    show_all(found, ("table",), lambda table: (table.full_name,), json=json)


@shares_app.command("profile", epilog=EXAMPLE)
def show_profile(
    output: Annotated[
        str | None,
        Option("-o", "--output", help="File, for its owner alone, or folder; standard output by default."),
    ] = None,
    clobber: downloads.Clobber = False,
    profile: options.Profile = None,
) -> None:
    """Write the profile file by which other programs read the tables. It has the token of the login."""
    from longshore.client.disk import FOR_OWNER, write_whole

    with client_of(profile) as client:
        file = _profile_path(output, client.chain)
        downloads.refuse_output(downloads.STDOUT if file is None else str(file), clobber=clobber)
        content = msgspec.json.format(msgspec.json.encode(client.shares.profile())) + b"\n"
    if file is None:
        click.echo(content, nl=False)
        return
    write_whole(file, content, FOR_OWNER)
    click.echo(file)


def _profile_path(output: str | None, chain: int) -> Path | None:
    """Return the path of a chain's profile file; None for standard output. `output`: a file or a folder."""
    if output is None or output == downloads.STDOUT:
        return None
    return Path(output) / f"longshore-{chain}.share" if Path(output).is_dir() else Path(output)


class _Share(msgspec.Struct, frozen=True):
    name: str
    """The chain's number."""


class _Shares(msgspec.Struct, frozen=True):
    items: list[_Share] = []


@shares_app.command("revoke", epilog="Example: longshore shares revoke longshore.share")
def revoke_profile(file: Annotated[Path, Argument(help="The profile file.")]) -> None:
    """Revoke the token in a profile file that a user made, with that token. No login is needed; the file stays."""
    from longshore import Longshore
    from longshore.client import ProfileError
    from longshore.client.errors import NOT_DECODED
    from longshore.client.shares import ShareProfile

    try:
        given = msgspec.json.decode(file.read_bytes(), type=ShareProfile)
    except (OSError, *NOT_DECODED) as error:
        raise ProfileError(f"the profile file {file} cannot be read: {error}") from None
    address, id = given.endpoint.rstrip("/").removesuffix("/delta-sharing"), given.bearer_token.partition(":")[0]
    # The file does not say the chain, which a client has to name; the protocol's own paths do without.
    with Longshore(address, given.bearer_token, chain=0) as client, wait_notice(address):
        listed = client.request("GET", "/delta-sharing/shares")
        try:
            chain = int(msgspec.convert(listed, _Shares).items[0].name)
        except (msgspec.ValidationError, IndexError, ValueError):
            raise ProfileError(f"the token of the profile file {file} reads no chain of {address}") from None
    with Longshore(address, given.bearer_token, chain=chain) as client, wait_notice(address):
        client.shares.revoke(id)
    click.echo(f"revoked {id}")
