"""Service clients: the other systems that use the API, each of one chain, each with tokens of its own.

Promise 5 is kept here: the chain is part of every `where`, so another chain's client and a missing one are the same.
"""

from datetime import datetime

import asyncpg
import msgspec

from longshore.access.names import NameTakenError
from longshore.database.connect import Connection, Pool
from longshore.errors import LongshoreError
from longshore.tasks.model import ChainId

CREATE = """
insert into longshore.service_clients (chain_id, name, contact) values ($1, $2, $3)
returning id, chain_id, name, contact, enabled, created_at
"""

# The same name twice at once is one client.
NAMED = """
insert into longshore.service_clients (chain_id, name) values ($1, $2)
on conflict (chain_id, lower(name)) do update set name = service_clients.name
returning id, chain_id, name, contact, enabled, created_at
"""

OF_CHAIN = """
select id, chain_id, name, contact, enabled, created_at
from longshore.service_clients
where chain_id = $1 and ($2::bigint is null or id = $2)
order by id
limit $3 offset $4
"""

CHANGE = """
update longshore.service_clients
set name = coalesce($3, name), contact = coalesce($4, contact), enabled = coalesce($5, enabled)
where chain_id = $1 and id = $2
returning id, chain_id, name, contact, enabled, created_at
"""

ALL = """
select id, chain_id, name, contact, enabled, created_at from longshore.service_clients order by id
"""

CHAIN_OF = "select chain_id from longshore.service_clients where id = $1"


class ClientNotFoundError(LongshoreError):
    """There is no such service client, or none in this chain, which looks the same."""


class ServiceClient(msgspec.Struct, frozen=True):
    """Another system that uses the API."""

    id: int
    chain: int
    name: str
    contact: str
    """Whom to tell when something is wrong with it: an address, a team."""
    enabled: bool
    """Whether its tokens are good for anything."""
    created: datetime


async def create(connection: Connection, chain: ChainId | int, name: str, contact: str) -> ServiceClient:
    """Make a client of a chain. Raises NameTakenError."""
    try:
        row = await connection.fetchrow(CREATE, chain, name, contact)
    except asyncpg.UniqueViolationError:
        raise NameTakenError(f"there is a service client {name!r} already") from None
    assert row is not None
    return _client(row)


async def named(connection: Connection, chain: ChainId | int, name: str) -> ServiceClient:
    """The client of this name, made now if the chain has none."""
    row = await connection.fetchrow(NAMED, chain, name)
    assert row is not None
    return _client(row)


async def of_chain(
    pool: Connection | Pool, chain: ChainId, limit: int, offset: int
) -> tuple[list[ServiceClient], bool]:
    """A page of a chain's clients, oldest first, and whether more follow."""
    rows = await pool.fetch(OF_CHAIN, chain, None, limit + 1, offset)
    return [_client(row) for row in rows[:limit]], len(rows) > limit


async def one_of_chain(pool: Connection | Pool, chain: ChainId, client: int) -> ServiceClient:
    """One of them. Raises ClientNotFoundError."""
    row = await pool.fetchrow(OF_CHAIN, chain, client, 1, 0)
    if row is None:
        raise ClientNotFoundError
    return _client(row)


async def change(
    connection: Connection,
    chain: ChainId,
    client: int,
    *,
    name: str | None = None,
    contact: str | None = None,
    enabled: bool | None = None,
) -> ServiceClient:
    """Change what is given. Raises ClientNotFoundError and NameTakenError."""
    try:
        row = await connection.fetchrow(CHANGE, chain, client, name, contact, enabled)
    except asyncpg.UniqueViolationError:
        raise NameTakenError(f"there is a service client {name!r} already") from None
    if row is None:
        raise ClientNotFoundError(f"there is no service client {client}")
    return _client(row)


async def everyone(connection: Connection) -> list[ServiceClient]:
    """All clients of all chains, oldest first."""
    return [_client(row) for row in await connection.fetch(ALL)]


async def chain_of(connection: Connection, client: int) -> ChainId:
    """The chain that a client belongs to. Raises ClientNotFoundError."""
    found = await connection.fetchval(CHAIN_OF, client)
    if found is None:
        raise ClientNotFoundError(f"there is no service client {client}")
    return ChainId(found)


def _client(row: asyncpg.Record) -> ServiceClient:
    return ServiceClient(
        id=row["id"],
        chain=row["chain_id"],
        name=row["name"],
        contact=row["contact"],
        enabled=row["enabled"],
        created=row["created_at"].replace(microsecond=0),
    )
