"""The command `longshore user …`: users and their levels. No password is an argument, which other users could see."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import click

from longshore.cli.app import app
from longshore.cli.commands import Argument, Option
from longshore.cli.database import with_connection
from longshore.cli.ongoing_work import StopOption, list_or_stop
from longshore.cli.output import printable
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from longshore.access.audit import Actor
    from longshore.database.connect import Connection

user_app = app.add_group(
    "user",
    help="Users: they sign in to the console with a password.",
    epilog="Example: longshore user list",
)

Name = Annotated[str, Argument(help="Name of the user; case does not matter.")]
ChainOption = Annotated[int, Option(help="Chain that the level is for.", min=1, max=2**63 - 1)]


LevelName = Literal["none", "read", "write", "admin"]


@user_app.command("create", epilog="Example: longshore user create anna --chain 1764 --level admin")
def user_create(
    name: Annotated[str, Argument(help="The new user's name.")],
    chain: Annotated[
        int | None, Option(help="Chain that the level is for; with --level.", min=1, max=2**63 - 1)
    ] = None,
    level: Annotated[LevelName | None, Option(help="Level for the chain; with --chain.")] = None,
) -> None:
    """Create a user. The password is prompted for, or read from standard input."""
    from longshore.access import users
    from longshore.access.tokens import Level

    if (chain is None) != (level is None):
        raise click.UsageError("--chain and --level go together: the level is for that chain")
    if (expected := users.user_name_violation(name)) is not None:
        raise LongshoreError(expected)
    password = _new_password()

    async def run(connection: "Connection", actor: "Actor") -> int:
        levels = {}
        if chain is not None and level is not None and level != "none":
            levels[chain] = Level[level.upper()]
        return await users.create(connection, actor, name, password, levels)

    click.echo(f"user {with_connection(run)}: {name}")


@user_app.command("list", epilog="Example: longshore user list")
def user_list() -> None:
    """List all users with their levels."""
    from longshore.access import users

    async def run(connection: "Connection", _: "Actor") -> list[users.UserWithLevels]:
        return await users.all_users(connection)

    for user in with_connection(run):
        levels = ", ".join(f"{chain}: {level}{'' if on else ' (off)'}" for chain, level, on in user.levels)
        marks = f"{'' if user.enabled else '  disabled'}{'  passcode' if user.passcode else ''}"
        click.echo(f"{user.id}  {printable(user.name)}  {levels or 'no level'}{marks}")


@user_app.command("level", epilog="Example: longshore user level anna --chain 1764 write")
def user_level(
    name: Name,
    level: Annotated[LevelName, Argument(help="Level for the chain; `none` removes it.")],
    chain: ChainOption,
    stop: StopOption = False,
) -> None:
    """Set or remove the level of a user for a chain, from their next request on.

    Set to `read` or removed, the active tasks and webhooks that the user created in the chain are listed.
    """
    from longshore.access import users
    from longshore.tasks.model import ChainId

    ends = level in ("none", "read")
    if stop and not ends:
        raise click.UsageError("--stop is for the levels none and read")

    async def run(connection: "Connection", actor: "Actor") -> int:
        user = await users.find(connection, name)
        if level != "none":
            await users.set_level(connection, actor, user, chain, level)
        elif not await users.remove_level(connection, actor, user, chain) and not stop:
            raise LongshoreError(f"{name} has no level for chain {chain}")
        return user

    user = with_connection(run)
    click.echo(f"{name}: {level} for chain {chain}")
    if ends:
        list_or_stop([f"user {user}"], stop, ChainId(chain))


@user_app.command("password", epilog="Example: longshore user password anna")
def user_password(name: Name) -> None:
    """Set the password of a user, which is prompted for or read from standard input. All their sessions end."""
    from longshore.access import sign_in, users

    password = _new_password()

    async def run(connection: "Connection", actor: "Actor") -> None:
        user = await users.find(connection, name)
        await users.set_password(connection, actor, user, password)
        await sign_in.forget_failures(connection, name)

    with_connection(run)
    click.echo(f"{name} has a new password; all their sessions have ended")


@user_app.command("totp", epilog="Example: longshore user totp anna on")
def user_totp(
    name: Name,
    turn: Annotated[Literal["on", "off"], Argument(help="on (with a new secret) or off.")],
) -> None:
    """Require one-time codes of a user, and print the address for authenticator apps. All their sessions end."""
    from longshore.access import one_time_codes, users
    from longshore.settings_sources import load
    from longshore.vault import open_vault

    settings = load().settings
    secret = one_time_codes.new_secret() if turn == "on" else None

    async def run(connection: "Connection", actor: "Actor") -> None:
        user = await users.find(connection, name)
        sealed = None
        if secret is not None:
            sealed = one_time_codes.seal(open_vault(settings), user, secret)
        await users.set_one_time_codes(connection, actor, user, sealed)

    with_connection(run)
    if secret is None:
        click.echo(f"{name} signs in without a one-time code now")
    else:
        click.echo("Keep this secret; it cannot be shown again.", err=True)
        click.echo(one_time_codes.otpauth_uri(secret, name))


@user_app.command("disable", epilog="Example: longshore user disable anna")
def user_disable(name: Name, stop: StopOption = False) -> None:
    """Disable a user, who can no longer sign in; all their sessions end. Lists their active tasks and webhooks."""
    user = _set_enabled(name, False)
    click.echo(f"{name} can no longer sign in")
    list_or_stop([f"user {user}"], stop)


@user_app.command("enable", epilog="Example: longshore user enable anna")
def user_enable(name: Name) -> None:
    """Enable a user, who can sign in again."""
    _set_enabled(name, True)
    click.echo(f"{name} can sign in")


def _set_enabled(name: str, enabled: bool) -> int:
    """Return the id of the user."""
    from longshore.access import users

    async def run(connection: "Connection", actor: "Actor") -> int:
        user = await users.find(connection, name)
        await users.set_enabled(connection, actor, user, enabled)
        return user

    return with_connection(run)


def _new_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password
