"""Service clients: other systems that use the API, each of one chain, each with access tokens of its own.

Promise 5: each statement of a request names the chain, so a client of another chain looks like one that does not exist.
"""

from datetime import datetime

import asyncpg
import msgspec

from longshore.access import audit
from longshore.access.audit import Actor
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page, structs
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.model import ChainId

COLUMNS = "id, chain_id as chain, name, contact, enabled, date_trunc('second', created_at) as created"

CREATE = f"""
insert into longshore.service_clients (chain_id, name, contact) values ($1, $2, $3)
returning {COLUMNS}
"""

# The update makes the row visible to `returning`: two requests with one name get one client. A row that it updates has
# an `xmax`, an inserted one has none.
GET_OR_CREATE = f"""
insert into longshore.service_clients (chain_id, name) values ($1, $2)
on conflict (chain_id, lower(name)) do update set name = service_clients.name
returning {COLUMNS}, xmax = 0 as is_new
"""

OF_CHAIN = f"""
select {COLUMNS}
from longshore.service_clients
where chain_id = $1 and ($2::bigint is null or id = $2)
order by id
limit $3 offset $4
"""

CHANGE = f"""
update longshore.service_clients
set name = coalesce($3, name), contact = coalesce($4, contact), enabled = coalesce($5, enabled)
where ($1::bigint is null or chain_id = $1) and id = $2
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


class ClientChange(msgspec.Struct, frozen=True):
    """Fields of a service client to change; None leaves a field as it is."""

    name: str | None = None
    contact: str | None = None
    enabled: bool | None = None
    """Whether its tokens are valid."""


async def create(connection: Connection, chain: ChainId | int, name: str, contact: str) -> ServiceClient:
    """Create a client of a chain. Raises ProblemError."""
    try:
        row = await connection.fetchrow(CREATE, chain, name, contact)
    except asyncpg.UniqueViolationError:
        raise ProblemError("name-taken", f"there is a service client {name!r} already") from None
    assert row is not None
    return ServiceClient(**row)


async def get_or_create(connection: Connection, actor: Actor, chain: ChainId | int, name: str) -> ServiceClient:
    """Return the chain's client of this name; if the chain has none, it is created, with its audit entry."""
    row = await connection.fetchrow(GET_OR_CREATE, chain, name)
    assert row is not None
    columns = dict(row)
    is_new = columns.pop("is_new")
    client = ServiceClient(**columns)
    if is_new:
        details = {"name": client.name, "contact": client.contact}
        await audit.record(connection, actor, chain, "client.create", f"client {client.id}", details)
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


async def change(connection: Connection, chain: ChainId | None, client: int, fields: ClientChange) -> ServiceClient:
    """Change fields of a client and return the client. Raises ProblemError.

    `chain`: the chain that asks; None for the command line, which changes clients of all chains.
    """
    try:
        row = await connection.fetchrow(CHANGE, chain, client, fields.name, fields.contact, fields.enabled)
    except asyncpg.UniqueViolationError:
        raise ProblemError("name-taken", f"there is a service client {fields.name!r} already") from None
    if row is None:
        raise NotFoundError("client-not-found", f"there is no service client {client}")
    return ServiceClient(**row)


async def all_clients(connection: Connection) -> list[ServiceClient]:
    """Return the clients of all chains, oldest first."""
    return structs(ServiceClient, await connection.fetch(ALL))
