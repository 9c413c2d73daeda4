"""The commands `longshore client …` and `longshore token …`: service clients and their access tokens."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import click

from longshore.cli.app import app
from longshore.cli.commands import Argument, Option
from longshore.cli.database import with_connection
from longshore.cli.ongoing_work import StopOption, list_or_stop
from longshore.cli.output import printable
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from longshore.access.audit import Actor
    from longshore.access.clients import ServiceClient
    from longshore.access.tokens import Token
    from longshore.database.connect import Connection

client_app = app.add_group(
    "client",
    help="Service clients: the other systems that use the API.",
    epilog="Example: longshore client list",
)
token_app = app.add_group(
    "token",
    help="Access tokens: the credentials of service clients.",
    epilog="Example: longshore token list",
)

ClientId = Annotated[int, Argument(help="The client's number.", min=1, max=2**63 - 1)]


@client_app.command("create", epilog="Example: longshore client create warehouse --chain 1764 --contact data-team")
def client_create(
    name: Annotated[str, Argument(help="The new client's name.")],
    chain: Annotated[int, Option(help="Chain that it belongs to.", min=1, max=2**63 - 1)],
    contact: Annotated[str, Option(help="Whom to contact about it.")] = "",
) -> None:
    """Create a service client; `longshore token create` creates its tokens."""
    from longshore.access import clients, users

    for value, option in ((name, "name"), (contact, "contact")):
        if value and (expected := users.name_violation(value)) is not None:
            raise click.BadParameter(f"{option}: {expected}")

    async def run(connection: "Connection", actor: "Actor") -> int:
        return (await clients.create(connection, actor, chain, name, contact)).id

    click.echo(f"client {with_connection(run)}: {name}")


@client_app.command("list", epilog="Example: longshore client list")
def client_list() -> None:
    """List all service clients."""
    from longshore.access import clients

    async def run(connection: "Connection", _: "Actor") -> "list[ServiceClient]":
        return await clients.all_clients(connection)

    for client in with_connection(run):
        state = "enabled" if client.enabled else "disabled"
        named = printable(f"{client.name}  {client.contact}".rstrip())
        click.echo(f"{client.id}  chain {client.chain}  {state}  {named}")


@client_app.command("disable", epilog="Example: longshore client disable 3")
def client_disable(id: ClientId, stop: StopOption = False) -> None:
    """Disable all tokens of a client, within two seconds. Lists the active tasks and webhooks that they created."""
    from longshore.access import work_of_credentials

    async def disable(connection: "Connection", actor: "Actor") -> list[str]:
        await _enable(connection, actor, id, False)
        return await work_of_credentials.tokens_of(connection, id)

    credentials = with_connection(disable)
    click.echo(f"client {id} is disabled")
    list_or_stop(credentials, stop)


@client_app.command("enable", epilog="Example: longshore client enable 3")
def client_enable(id: ClientId) -> None:
    """Enable the tokens of a client again."""

    async def run(connection: "Connection", actor: "Actor") -> None:
        await _enable(connection, actor, id, True)

    with_connection(run)
    click.echo(f"client {id} is enabled")


async def _enable(connection: "Connection", actor: "Actor", id: int, enabled: bool) -> None:
    from longshore.access import clients

    await clients.change(connection, actor, None, id, clients.ClientChange(enabled=enabled))


@token_app.command("create", epilog="Example: longshore token create --chain 1764 --level write --client warehouse")
def token_create(  # noqa: PLR0913 (the options of the command)
    chain: Annotated[int, Option(help="Chain that the token is for.", min=0, max=2**63 - 1)],
    level: Annotated[Literal["read", "write", "admin"], Option(help="Level of the token.")],
    client: Annotated[str, Option(help="Service client of the chain; created if missing.")] = "default",
    more_chain: Annotated[
        list[int] | None, Option(help="Another chain that the token is for; repeatable.", min=0, max=2**63 - 1)
    ] = None,
    index: Annotated[list[str] | None, Option(help="Export index that it may use; repeatable; all by default.")] = None,
    hide: Annotated[list[str] | None, Option(help="Column to hide, such as users.phone_number; repeatable.")] = None,
    days: Annotated[int | None, Option(help="Days until it expires.", min=1, max=36500)] = None,
) -> None:
    """Create a token and print its id:secret, which cannot be shown again."""
    from longshore.access import clients, tokens, users
    from longshore.api.clients import scope_violations
    from longshore.exports import catalog
    from longshore.settings_sources import load

    if (expected := users.name_violation(client)) is not None:
        raise click.BadParameter(f"client: {expected}")
    violations = scope_violations(catalog.load(load().settings.catalog), level, index or None, hide or [])
    if violations:
        option = "--index" if (violations[0].pointer or "").startswith("/indexes") else "--hide"
        raise LongshoreError(f"{option}: {violations[0].detail}")
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    scope = tokens.Scope(list(dict.fromkeys(set(more_chain or ()) - {chain})), index or None, hide or [], expires)

    async def run(connection: "Connection", actor: "Actor") -> str:
        owner = await clients.get_or_create(connection, actor, chain, client)
        id, secret = await clients.create_token(connection, actor, owner, tokens.Level[level.upper()], scope)
        return f"{id}:{secret}"

    pair = with_connection(run)
    click.echo("Keep this; the secret cannot be shown again.", err=True)
    click.echo(pair)


@token_app.command("list", epilog="Example: longshore token list")
def token_list() -> None:
    """List all tokens, without their secrets."""
    from longshore.access import tokens

    async def run(connection: "Connection", _: "Actor") -> "list[Token]":
        return await tokens.all_tokens(connection)

    for token in with_connection(run):
        chains = ", ".join(map(str, token.chains))
        limits = [*(f"only {name}" for name in token.indexes or ()), *(f"no {name}" for name in token.hidden_columns)]
        scope = f"  {', '.join(limits)}" if limits else ""
        click.echo(f"{token.id}  chain {chains}  {token.level:5}  {_state(token)}  {printable(token.client)}{scope}")


ENDED = {"client_off": "its client is disabled", "user_off": "its user is disabled, or has no level for the chain"}


def _state(token: "Token") -> str:
    if token.revoked:
        return f"revoked {token.revoked:%Y-%m-%d %H:%M}Z"
    if token.active:
        return "valid" if token.expires is None else f"valid until {token.expires:%Y-%m-%d %H:%M}Z"
    return ENDED.get(token.state, token.state)


@token_app.command("revoke", epilog="Example: longshore token revoke 0b9f1b0e-7f53-4f5e-9d1a-3f8f6f0a2c11")
def token_revoke(id: Annotated[UUID, Argument(help="The token's id.")], stop: StopOption = False) -> None:
    """Revoke a token and its download addresses, within two seconds. Lists the active tasks and webhooks it created."""
    from longshore.access import tokens

    async def revoke(connection: "Connection", actor: "Actor") -> bool:
        revoked = await tokens.revoke(connection, actor, id)
        return revoked or (stop and any(token.id == id for token in await tokens.all_tokens(connection)))

    if not with_connection(revoke):
        raise LongshoreError(f"there is no valid token {id}")
    click.echo(f"revoked {id}")
    list_or_stop([f"token {id}"], stop)
