"""`longshore login`: store the address of a service, a token and a chain as a profile."""

import sys
from typing import TYPE_CHECKING, Annotated

from longshore.cli import commands as typer
from longshore.cli import remote

if TYPE_CHECKING:
    from longshore import Longshore


def login(
    chain: Annotated[int, typer.Option(help="Chain that the token is for.", min=1)],
    address: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8080",
    profile: Annotated[str, typer.Option(help="Name of the profile.")] = "default",
    json: remote.Json = False,
) -> None:
    """Store the address of a service with a token, which is prompted for or read from standard input."""
    from longshore import Longshore
    from longshore.client import ProfileError
    from longshore.client.profiles import Profile, write_profile

    is_terminal = sys.stdin.isatty()
    token: str = typer.prompt("Token (id:secret)", hide_input=True) if is_terminal else sys.stdin.readline()
    login = Profile(address.rstrip("/"), token.strip(), chain)
    with remote.exit_on_client_error():
        if not login.address.startswith(("http://", "https://")):
            raise ProfileError(f"the address {address!r} does not begin with http:// or https://")
        if not login.token.isascii() or not login.token.isprintable() or ":" not in login.token:
            raise ProfileError("expected a token such as `longshore token create` prints: id:secret")
        with Longshore(login.address, login.token, chain=chain, retry_for=5) as client:
            _check_chain(client, chain)
        file = write_profile(profile, login)
    if json:
        remote.show({"profile": profile, "address": login.address, "chain": chain, "file": str(file)})
    else:
        typer.echo(f"stored as {profile!r} in {file}")


def _check_chain(client: "Longshore", chain: int) -> None:
    """Exit with NOT_ALLOWED if the token is not for the chain: every level may list tasks, so 403 means that."""
    from longshore.client import ForbiddenError

    try:
        client.tasks.list(limit=1)
    except ForbiddenError:
        typer.echo(
            f"longshore: the token is not for chain {chain}; an admin can make one that is, with"
            f" `longshore token create --chain {chain}`",
            err=True,
        )
        raise typer.Exit(remote.NOT_ALLOWED) from None
