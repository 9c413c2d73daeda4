"""Access tokens: a UUID and a secret that service clients send as `Authorization: Bearer ID:SECRET`.

Promise 5 begins here: a request is for exactly one chain. That of a token is its client's chain, or one of the others
in its scope where the request names it.

The secret is 32 random bytes, so its SHA-256 is as hard to undo as the secret is to guess; a slow hash would protect
nothing here and cost every poll its milliseconds. (Passwords, which people choose, need a slow one.)
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from longshore.access.clients import ClientNotFoundError
from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId

SECRET_PREFIX = "longshore_"  # noqa: S105  # no secret, but how one begins, so that scanners for leaked secrets know one when they see it

CREATE = """
insert into longshore.access_tokens
    (client_id, chain_id, level, secret_sha256, more_chains, indexes, hidden_columns, expires_at)
select c.id, c.chain_id, $2, $3, $4, $5, $6, $7 from longshore.service_clients c where c.id = $1
returning id
"""

SHOWN = """
select t.id, t.client_id, c.name as client, t.chain_id, t.more_chains, t.level, t.indexes,
       t.hidden_columns, t.created_at, t.expires_at, t.used_at, t.revoked_at,
       t.revoked_at is null and coalesce(t.expires_at > now(), true) and c.enabled as active
from longshore.access_tokens t
join longshore.service_clients c on c.id = t.client_id
"""

ALL = SHOWN + "order by t.created_at, t.id"

OF_CHAIN = (
    SHOWN
    + """
where (t.chain_id = $1 or t.more_chains @> array[$1::bigint])
  and ($2::uuid is null or t.id = $2) and ($3::bigint is null or t.client_id = $3)
order by t.created_at desc, t.id
limit $4 offset $5
"""
)

REVOKE = """
update longshore.access_tokens set revoked_at = now()
where id = $1 and revoked_at is null and ($2::bigint is null or chain_id = $2)
returning chain_id
"""

# A chain that a token of another chain's client may see takes itself out of the token's scope, and leaves the rest.
LEAVE = """
update longshore.access_tokens set more_chains = array_remove(more_chains, $2)
where id = $1 and more_chains @> array[$2::bigint]
returning id
"""

ADMINISTERED = """
select chain_id from longshore.user_levels
where $1 = 'user' and user_id::text = $2 and level = 'admin' and enabled
union
select unnest(array[chain_id] || more_chains) from longshore.access_tokens
where $1 = 'token' and id::text = $2 and level = 'admin'
"""


class Level(IntEnum):
    """What a credential may do; each level includes those below it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


class Limits(msgspec.Struct, frozen=True):
    """What a token may not see of what its level lets it see."""

    indexes: frozenset[str] | None
    """The export indexes that it may use; None for all."""
    hidden: frozenset[str]
    """Columns that it may never see, such as `users.phone_number`."""


def limits_of(indexes: Sequence[str] | None, hidden: Sequence[str] | None) -> Limits | None:
    """The limits of a token that has these indexes and hidden columns; None where it has none."""
    if indexes is None and not hidden:
        return None
    return Limits(None if indexes is None else frozenset(indexes), frozenset(hidden or ()))


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the chain that the request is for, and the level of the credential there."""

    chain: ChainId
    level: Level
    kind: Literal["token", "user"]
    id: str
    """Of the token or of the user."""
    limits: Limits | None = None
    session: UUID | None = None
    """Of a user: the session that the request came with."""


class UnauthorizedError(Exception):
    """No credential, or none that is good."""


class ForbiddenError(Exception):
    """A good credential whose level is too low; carries the level that was needed."""

    def __init__(self, needed: Level) -> None:
        super().__init__(needed.name.lower())
        self.needed = needed


class TokenNotFoundError(Exception):
    """There is no such token, or none for this chain, which looks the same."""


class Scope(msgspec.Struct, frozen=True):
    """What a token is good for, beside its level in its client's chain."""

    more_chains: Sequence[int] = ()
    indexes: Sequence[str] | None = None
    """Export indexes; None for all."""
    hidden_columns: Sequence[str] = ()
    expires: datetime | None = None


class Token(msgspec.Struct, frozen=True):
    """What is kept of an access token; never its secret."""

    id: UUID
    client_id: int | None
    client: str
    """The client's name."""
    chain: int
    chains: list[int]
    """All that it is good for; of a token of another chain's client, just the chain that asks."""
    level: str
    indexes: list[str] | None
    """The export indexes that it may use; null for all."""
    hidden_columns: list[str]
    """What it may never see, such as `users.phone_number`."""
    created: datetime
    expires: datetime | None
    used: datetime | None
    """When it was last used, to the minute."""
    revoked: datetime | None
    active: bool
    """Whether it is good now: neither revoked nor expired, of a client that is enabled."""


async def create(connection: Connection, client: int, level: Level, scope: Scope | None = None) -> tuple[UUID, str]:
    """Make a token of a client; give its id and its secret, which cannot be had a second time.

    Raises ClientNotFoundError.
    """
    scope = scope or Scope()
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).digest()
    kept = (list(scope.more_chains), scope.indexes and list(scope.indexes), list(scope.hidden_columns), scope.expires)
    token = await connection.fetchval(CREATE, client, level.name.lower(), digest, *kept)
    if token is None:
        raise ClientNotFoundError(f"there is no service client {client}")
    return token, secret


async def administered(pool: Connection | Pool, caller: Caller) -> set[int]:
    """The chains that a caller is an admin of."""
    return {row["chain_id"] for row in await pool.fetch(ADMINISTERED, caller.kind, caller.id)}


async def all_tokens(connection: Connection) -> list[Token]:
    """All tokens of all chains, oldest first."""
    return [_token(row, None) for row in await connection.fetch(ALL)]


async def of_chain(
    pool: Connection | Pool, chain: ChainId, client: int | None, limit: int, offset: int
) -> tuple[list[Token], bool]:
    """A page of the tokens that are good for a chain, or were, newest first, and whether more follow.

    `client`: only those of this client; None for all.
    """
    rows = await pool.fetch(OF_CHAIN, chain, None, client, limit + 1, offset)
    return [_token(row, chain) for row in rows[:limit]], len(rows) > limit


async def one_of_chain(pool: Connection | Pool, chain: ChainId, token: UUID) -> Token:
    """One of them. Raises TokenNotFoundError."""
    row = await pool.fetchrow(OF_CHAIN, chain, token, None, 1, 0)
    if row is None:
        raise TokenNotFoundError
    return _token(row, chain)


async def revoke(connection: Connection, token: UUID, chain: ChainId | None = None) -> ChainId | None:
    """End a token, and give the chain of its client; None when there is none that is still good.

    `chain`: who asks. Where the token is of another chain's client, it ends for this chain alone.
    """
    ended: ChainId | None = await connection.fetchval(REVOKE, token, chain)
    if ended is None and chain is not None and await connection.fetchval(LEAVE, token, chain) is not None:
        return chain
    return ended


def _token(row: asyncpg.Record, asking: ChainId | None) -> Token:
    """A token as a chain sees it, or as the command line does."""
    ours = asking is None or asking == row["chain_id"]
    return Token(
        id=row["id"],
        client_id=row["client_id"] if ours else None,
        client=row["client"] if ours else "",
        chain=row["chain_id"] if ours else asking or 0,
        chains=[row["chain_id"], *row["more_chains"]] if ours or asking is None else [asking],
        level=row["level"],
        indexes=row["indexes"],
        hidden_columns=row["hidden_columns"],
        created=row["created_at"].replace(microsecond=0),
        expires=row["expires_at"],
        used=row["used_at"] and row["used_at"].replace(second=0, microsecond=0),
        revoked=row["revoked_at"] and row["revoked_at"].replace(microsecond=0),
        active=row["active"],
    )
