"""Administration of access: the changes of clients, tokens and users, each with its audit entries.

The API and the command line call these functions, in a transaction. A change has an entry in each chain that it
concerns, and none where it changes nothing. The entries of another chain say nothing of the client's own (promise 5).
"""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from longshore.access import audit, clients, tokens, users
from longshore.access.audit import Actor
from longshore.access.clients import ClientChange, ServiceClient
from longshore.access.tokens import Level, Scope
from longshore.access.users import LevelChange
from longshore.database.connect import Connection
from longshore.tasks.model import ChainId
from longshore.tasks.reads import LevelName


async def create_client(
    connection: Connection, actor: Actor, chain: ChainId | int, name: str, contact: str
) -> ServiceClient:
    """Create a client of a chain. Raises ProblemError."""
    client = await clients.create(connection, chain, name, contact)
    details = {"name": client.name, "contact": client.contact}
    await audit.record(connection, actor, chain, "client.create", f"client {client.id}", details)
    return client


async def change_client(
    connection: Connection, actor: Actor, chain: ChainId | None, client: int, fields: ClientChange
) -> ServiceClient:
    """Change fields of a client and return the client. Raises ProblemError.

    `chain`: the chain that asks; None for the command line, which changes clients of all chains.
    """
    old = await clients.lock(connection, chain, client)
    new = await clients.change(connection, client, fields)
    changed = _differences(old, new, fields)
    if changed:
        await audit.record(connection, actor, new.chain, "client.change", f"client {client}", changed)
    if "enabled" in changed:
        action = "token.enable" if new.enabled else "token.disable"
        for token, chains in await tokens.shared(connection, client):
            await audit.record_in(connection, actor, chains, action, f"token {token}")
    return new


async def create_token(
    connection: Connection, actor: Actor, client: ServiceClient, level: Level, scope: Scope
) -> tuple[UUID, str]:
    """Create a token of a client, and return its id and its secret, which is not stored."""
    token, secret = await tokens.create(connection, client.id, level, scope)
    limits = scope.audit_details(level.name.lower())
    details = {"client": client.id, "chains": [client.chain, *scope.more_chains], **limits}
    await audit.record(connection, actor, client.chain, "token.create", f"token {token}", details)
    await audit.record_in(connection, actor, scope.more_chains, "token.create", f"token {token}", limits)
    return token, secret


async def revoke_token(connection: Connection, actor: Actor, token: UUID, chain: ChainId | None = None) -> bool:
    """Revoke a token, and return whether it was not revoked yet.

    `chain`: the chain that asks; None for the command line. A token of another chain's client is revoked for this
    chain alone.
    """
    chains = await tokens.revoke(connection, token, chain)
    await audit.record_in(connection, actor, chains, "token.revoke", f"token {token}")
    return bool(chains)


async def create_user(connection: Connection, actor: Actor, name: str, password: str, levels: dict[int, Level]) -> int:
    """Create a user with a level for each of these chains, and return its id. Raises LongshoreError."""
    user = await users.create(connection, name, password)
    name, _ = await users.name_and_levels(connection, user)  # as it is stored
    for chain, level in levels.items():
        await users.set_level(connection, user, chain, level)
        details = {"username": name, "level": level.name.lower()}
        await audit.record(connection, actor, chain, "user.create", f"user {user}", details)
    return user


async def set_level(connection: Connection, actor: Actor, user: int, chain: int, level: LevelName) -> None:
    """Set a user's level for a chain, which can be used from then on."""
    old = await users.lock_level(connection, user, chain)
    await users.set_level(connection, user, chain, Level[level.upper()])
    new = LevelChange(level, True)
    if changed := _differences(old, new, new):
        await audit.record(connection, actor, chain, "user.change", f"user {user}", changed)


async def change_level(connection: Connection, actor: Actor, user: int, chain: int, fields: LevelChange) -> None:
    """Change a user's level for a chain. Raises ProblemError if the user has none."""
    old = await users.lock_level(connection, user, chain)
    await users.change_level(connection, user, chain, fields)
    if changed := _differences(old, fields, fields):
        await audit.record(connection, actor, chain, "user.change", f"user {user}", changed)


async def remove_level(connection: Connection, actor: Actor, user: int, chain: int) -> bool:
    """Remove a user's level for a chain, and return whether the user had one."""
    removed = await users.remove_level(connection, user, chain)
    if removed:
        await audit.record(connection, actor, chain, "user.remove", f"user {user}")
    return removed


def _differences(old: msgspec.Struct | None, new: msgspec.Struct, fields: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a change that have another value than before."""
    given = [name for name, value in msgspec.structs.asdict(fields).items() if value is not UNSET]
    return {name: getattr(new, name) for name in given if old is None or getattr(new, name) != getattr(old, name)}
