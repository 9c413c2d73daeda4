"""`longshore login`, `logout`, `whoami` and `profiles`: the stored logins, and the one that commands use."""

import sys
from typing import TYPE_CHECKING, Annotated

import click
import msgspec

from longshore.cli import complete, options
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Argument, Option
from longshore.cli.exits import NOT_ALLOWED, CommandError
from longshore.cli.output import show, show_all, show_table
from longshore.cli.wait_notice import wait_notice

if TYPE_CHECKING:
    from longshore import Longshore

profiles_app = app.add_group("profiles", help="Profiles: the stored logins.", epilog="Example: longshore profiles list")

Name = Annotated[str, Argument(help="Name of the login.", shell_complete=complete.profiles)]


class Credential(msgspec.Struct, frozen=True):
    """The answer of `GET /credential`: the credential of a login."""

    kind: str
    id: str
    name: str
    chain: int
    level: str
    limited: bool
    expires: str | None


@app.command(epilog="Example: longshore login --address https://exports.example.com --chain 1764")
def login(
    chain: Annotated[int, Option(help="Chain that the token is for.", min=1)],
    address: Annotated[str, Option(help="Address of the service.")] = "http://127.0.0.1:8080",
    profile: Annotated[str, Option(help="Name of the login.")] = "default",
    json: options.Json = False,
) -> None:
    """Store the address of a service with a token, which is prompted for or read from standard input."""
    from longshore import Longshore
    from longshore.client import ProfileError
    from longshore.client.profiles import Profile, write_profile

    is_terminal = sys.stdin.isatty()
    token: str = click.prompt("Token (id:secret)", hide_input=True, err=True) if is_terminal else sys.stdin.readline()
    login = Profile(address.rstrip("/"), token.strip(), chain)
    if not login.address.startswith(("http://", "https://")):
        raise ProfileError(f"the address {address!r} does not begin with http:// or https://")
    if not login.token.isascii() or not login.token.isprintable() or ":" not in login.token:
        raise ProfileError("expected a token such as `longshore token create` prints: id:secret")
    with (
        Longshore(login.address, login.token, chain=chain, retry_for=5) as client,
        wait_notice(login.address),
    ):
        _check_chain(client, chain)
    file = write_profile(profile, login)
    if json:
        show({"profile": profile, "address": login.address, "chain": chain, "file": str(file)})
    else:
        click.echo(f"stored as {profile!r} in {file}")


def _check_chain(client: "Longshore", chain: int) -> None:
    """Raise CommandError if the token is not for the chain: every level may list tasks, so 403 means that."""
    from longshore.client import ForbiddenError

    try:
        client.tasks.list(limit=1)
    except ForbiddenError:
        raise CommandError(
            f"the token is not for chain {chain}; an admin can make one that is, with"
            f" `longshore token create --chain {chain}`",
            NOT_ALLOWED,
        ) from None


@app.command(epilog="Example: longshore logout --profile production")
def logout(profile: options.Profile = None) -> None:
    """Remove a stored login. The token stays valid; an admin revokes it with `longshore token revoke`."""
    from longshore.client.profiles import read_profile, remove_profile

    token = read_profile(profile).token.partition(":")[0]
    name = remove_profile(profile)
    click.echo(f"{name!r} is removed; its token {token} stays valid until it is revoked")


@app.command(epilog="Example: longshore whoami")
def whoami(profile: options.Profile = None, json: options.Json = False) -> None:
    """Show the login in use: service, chain, credential, level, and whether it may see all columns and indexes."""
    from longshore.client.errors import NoAnswerError
    from longshore.client.profiles import read_profiles

    name = profile or read_profiles().current
    with client_of(profile) as client:
        try:
            credential = msgspec.convert(client.request("GET", "/credential"), Credential)
        except msgspec.ValidationError as error:
            raise NoAnswerError(f"the answer is not Longshore's: {error}") from None
        address = client.address
    if json:
        show({"profile": name, "address": address, **msgspec.structs.asdict(credential)})
        return
    show_table(
        ("", ""),
        [
            ("profile", name),
            ("address", address),
            ("chain", credential.chain),
            (credential.kind, f"{credential.id} {credential.name}".rstrip()),
            ("level", f"{credential.level}{', some indexes or columns are hidden' if credential.limited else ''}"),
            ("expires", credential.expires or "never"),
        ],
    )


@profiles_app.command("list", epilog="Example: longshore profiles list")
def list_profiles(json: options.Json = False) -> None:
    """List the stored logins, without their tokens."""
    from longshore.client.profiles import read_profiles

    stored = read_profiles()
    found = [
        {"profile": name, "current": name == stored.current, "address": login.address, "chain": login.chain}
        for name, login in stored.logins.items()
    ]
    heads = ("", "profile", "address", "chain")
    show_all(
        found,
        heads,
        lambda one: ("*" if one["current"] else "", one["profile"], one["address"], one["chain"]),
        json=json,
    )


@profiles_app.command("use", epilog="Example: longshore profiles use production")
def use(name: Name) -> None:
    """Make a login the one that commands use where --profile names none."""
    from longshore.client.profiles import use_profile

    use_profile(name)
    click.echo(f"commands use {name!r}")
