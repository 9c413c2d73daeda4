"""Service clients: other systems that use the API, each of one chain, each with access tokens of its own.

Promise 5: each statement of a request names the chain, so a client of another chain looks like one that does not exist.
"""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from longshore.access import audit, tokens
from longshore.access.audit import Actor
from longshore.access.tokens import Level, Scope
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page, given_values, structs
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.model import ChainId

PROFILES = "profile files"
"""The name that the client of a chain's profile files is created with."""

COLUMNS = "id, chain_id as chain, name, contact, enabled, date_trunc('second', created_at) as created"

CREATE = f"""
insert into longshore.service_clients (chain_id, name, contact) values ($1, normalize($2), $3)
returning {COLUMNS}
"""

# The update makes the row visible to `returning`: two requests at once get one client. A row that it updates has an
# `xmax`, an inserted one has none.
GET_OR_CREATE = f"""
insert into longshore.service_clients (chain_id, name) values ($1, normalize($2))
on conflict (chain_id, lower(normalize(name))) where not for_profiles do update set name = service_clients.name
returning {COLUMNS}, xmax = 0 as is_new
"""

GET_OR_CREATE_FOR_PROFILES = f"""
insert into longshore.service_clients (chain_id, name, for_profiles) values ($1, $2, true)
on conflict (chain_id) where for_profiles do update set name = service_clients.name
returning {COLUMNS}, xmax = 0 as is_new
"""

OF_CHAIN = f"""
select {COLUMNS}
from longshore.service_clients
where chain_id = $1 and ($2::bigint is null or id = $2)
order by id
limit $3 offset $4
"""

LOCK = f"""
select {COLUMNS}
from longshore.service_clients
where ($1::bigint is null or chain_id = $1) and id = $2
for update
"""

CHANGE = f"""
update longshore.service_clients
set name = coalesce(normalize($2), name), contact = coalesce($3, contact), enabled = coalesce($4, enabled)
where id = $1
returning {COLUMNS}
"""

ALL = f"select {COLUMNS} from longshore.service_clients order by id"


class ServiceClient(msgspec.Struct, frozen=True):
    """Another system that uses the API."""

    id: int
    chain: int
    name: str
    contact: str
    """An address or a team to contact about it."""
    enabled: bool
    """Whether its tokens are accepted."""
    created: datetime


class ClientChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a service client to change; those without a value stay."""

    name: str | UnsetType = UNSET
    contact: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    """Whether its tokens are valid."""


async def create(connection: Connection, actor: Actor, chain: ChainId | int, name: str, contact: str) -> ServiceClient:
    """Create a client of a chain, with its audit entry. Raises ProblemError."""
    try:
        row = await connection.fetchrow(CREATE, chain, name, contact)
    except asyncpg.UniqueViolationError:
        raise ProblemError("name-taken", f"there is a service client {name!r} already") from None
    assert row is not None
    return await _recorded(connection, actor, ServiceClient(**row))


async def get_or_create(connection: Connection, actor: Actor, chain: ChainId | int, name: str) -> ServiceClient:
    """Return the chain's client of this name; if the chain has none, it is created, with its audit entry."""
    return await _get_or_create(connection, actor, GET_OR_CREATE, chain, name)


async def for_profiles(connection: Connection, actor: Actor, chain: ChainId) -> ServiceClient:
    """Return the client of the chain's profile files, whatever it is named; created, with its entry, if missing.

    It is locked until the transaction ends.
    """
    return await _get_or_create(connection, actor, GET_OR_CREATE_FOR_PROFILES, chain, PROFILES)


async def _get_or_create(
    connection: Connection, actor: Actor, statement: str, chain: ChainId | int, name: str
) -> ServiceClient:
    row = await connection.fetchrow(statement, chain, name)
    assert row is not None
    columns = dict(row)
    is_new = columns.pop("is_new")
    client = ServiceClient(**columns)
    return await _recorded(connection, actor, client) if is_new else client


async def _recorded(connection: Connection, actor: Actor, client: ServiceClient) -> ServiceClient:
    """Return a new client, once its audit entry is written."""
    details = {"name": client.name, "contact": client.contact}
    await audit.record(connection, actor, client.chain, "client.create", f"client {client.id}", details)
    return client


async def of_chain(pool: Connection | Pool, chain: ChainId, page: Page) -> tuple[list[ServiceClient], bool]:
    """Return a page of the chain's clients, oldest first, and whether more follow."""
    return await fetch_page(pool, ServiceClient, page, OF_CHAIN, chain, None)


async def one_of_chain(pool: Connection | Pool, chain: ChainId, client: int) -> ServiceClient:
    """Return a client of the chain. Raises ProblemError."""
    row = await pool.fetchrow(OF_CHAIN, chain, client, 1, 0)
    if row is None:
        raise NotFoundError("client-not-found")
    return ServiceClient(**row)


async def change(
    connection: Connection, actor: Actor, chain: ChainId | None, client: int, fields: ClientChange
) -> ServiceClient:
    """Change fields of a client, with the audit entries, and return the client. Raises ProblemError.

    `chain`: the chain that asks; None for the command line, which changes clients of all chains. Other chains of the
    client's tokens have an entry where these are turned off or on.
    """
    locked = await connection.fetchrow(LOCK, chain, client)
    if locked is None:
        raise NotFoundError("client-not-found", f"there is no service client {client}")
    try:
        row = await connection.fetchrow(CHANGE, client, *given_values(fields))
    except asyncpg.UniqueViolationError:
        raise ProblemError("name-taken", f"there is a service client {fields.name!r} already") from None
    assert row is not None
    new = ServiceClient(**row)
    changed = audit.differences(ServiceClient(**locked), new, fields)
    if changed:
        await audit.record(connection, actor, new.chain, "client.change", f"client {client}", changed)
    if "enabled" in changed:
        action = "token.enable" if new.enabled else "token.disable"
        for token, chains in await tokens.of_more_chains(connection, client):
            await audit.record_in(connection, actor, chains, action, f"token {token}")
    return new


async def create_token(
    connection: Connection, actor: Actor, client: ServiceClient, level: Level, scope: Scope
) -> tuple[UUID, str]:
    """Create a token of a client, with an audit entry in each of its chains, and return its id and its secret.

    The secret is not stored.
    """
    token, secret = await tokens.insert(connection, client.id, level, scope)
    limits = scope.audit_details(level.name.lower())
    details = {"client": client.id, "chains": [client.chain, *scope.more_chains], **limits}
    await audit.record(connection, actor, client.chain, "token.create", f"token {token}", details)
    await audit.record_in(connection, actor, scope.more_chains, "token.create", f"token {token}", limits)
    return token, secret


async def all_clients(connection: Connection) -> list[ServiceClient]:
    """Return the clients of all chains, oldest first."""
    return structs(ServiceClient, await connection.fetch(ALL))
