"""Access tokens: a UUID and a secret that service clients send as `Authorization: Bearer ID:SECRET`.

Promise 5: a request is for exactly one chain. The chain of a token's request is that of the client, or another one of
the token's scope if the request names it.

The secret is 32 random bytes, so its SHA-256 is as hard to invert as the secret is to guess. A slow hash would add
milliseconds to each poll and no protection; passwords, which users choose, need one.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, Literal
from uuid import UUID

import msgspec

from longshore.access import audit
from longshore.access.audit import Actor
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page, structs
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.model import ChainId

SECRET_PREFIX = "longshore_"  # noqa: S105  # by which scanners recognize leaked secrets

INSERT = """
insert into longshore.access_tokens
    (client_id, chain_id, level, secret_sha256, more_chains, indexes, hidden_columns, expires_at, user_id)
select c.id, c.chain_id, $2, $3, $4, $5, $6, $7, $8 from longshore.service_clients c where c.id = $1
returning id
"""

# $1: the chain that asks, null for the command line. It sees less of a token of another chain's client.
IS_OWN_CLIENT = "coalesce(t.chain_id = $1::bigint, true)"

TOKENS = f"""
select t.id, case when {IS_OWN_CLIENT} then t.client_id end as client_id,
       case when {IS_OWN_CLIENT} then c.name else '' end as client,
       case when {IS_OWN_CLIENT} then t.chain_id else $1 end as chain,
       case when {IS_OWN_CLIENT} then t.chain_id || t.more_chains else array[$1] end as chains,
       case when {IS_OWN_CLIENT} then u.name end as user, t.level, t.indexes, t.hidden_columns,
       date_trunc('second', t.created_at) as created, t.expires_at as expires,
       date_trunc('minute', t.used_at) as used, date_trunc('second', t.revoked_at) as revoked,
       s.state, s.state = 'active' as active
from longshore.access_tokens t
join longshore.service_clients c on c.id = t.client_id
left join longshore.users u on u.id = t.user_id
cross join lateral (
    select case
        when t.revoked_at is not null then 'revoked'
        when t.expires_at <= now() then 'expired'
        when not c.enabled then 'client_off'
        when t.user_id is not null and longshore.level_of('user', t.user_id::text, null, t.chain_id, 0, 0) is null
            then 'user_off'
        else 'active'
    end as state
) s
"""

ALL = TOKENS + "order by t.created_at, t.id"

OF_CHAIN = f"""
{TOKENS}
where (t.chain_id = $1 or t.more_chains @> array[$1::bigint])
  and ($2::uuid is null or t.id = $2) and ($3::bigint is null or t.client_id = $3)
  and ($4::bigint is null or t.user_id = $4)
order by t.created_at desc, t.id
limit $5 offset $6
"""

REVOKE = """
update longshore.access_tokens set revoked_at = now()
where id = $1 and revoked_at is null and ($2::bigint is null or chain_id = $2)
returning chain_id || more_chains
"""

# A chain removes itself from the scope of a token of another chain's client.
REMOVE_CHAIN = """
update longshore.access_tokens set more_chains = array_remove(more_chains, $2)
where id = $1 and more_chains @> array[$2::bigint]
returning id
"""

TOKENS_OF_MORE_CHAINS = """
select id, more_chains
from longshore.access_tokens
where client_id = $1 and more_chains <> '{}' and revoked_at is null and coalesce(expires_at > now(), true)
order by id
"""

ADMIN_CHAINS = """
select chain_id from longshore.user_levels
where $1 = 'user' and user_id::text = $2 and level = 'admin' and enabled
union
select unnest(array[chain_id] || more_chains) from longshore.access_tokens
where $1 = 'token' and id::text = $2 and level = 'admin'
"""


TokenState = Literal["active", "revoked", "expired", "client_off", "user_off"]


class Level(IntEnum):
    """The level of a credential; each level includes those below it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


class TokenLimits(msgspec.Struct, frozen=True):
    """Restrictions of a token below its level."""

    indexes: frozenset[str] | None
    """The export indexes that the token may use; None: all."""
    hidden: frozenset[str]
    """Columns that the token may never see, such as `users.phone_number`."""


def limits_of(indexes: Sequence[str] | None, hidden: Sequence[str] | None) -> TokenLimits | None:
    """Return the limits of a token with these indexes and hidden columns; None if it has no limits."""
    if indexes is None and not hidden:
        return None
    return TokenLimits(None if indexes is None else frozenset(indexes), frozenset(hidden or ()))


class Caller(msgspec.Struct, frozen=True):
    """The credential of a request, with the chain that the request is for and the level for that chain."""

    chain: ChainId
    level: Level
    kind: Literal["token", "user"]
    id: str
    """Id of the token or the user."""
    limits: TokenLimits | None = None
    session: UUID | None = None
    """The session of a user's request."""


class UnauthorizedError(ProblemError):
    """The request has no valid credential."""

    def __init__(self) -> None:
        super().__init__("unauthorized", headers={"WWW-Authenticate": "Bearer"})


class ForbiddenError(ProblemError):
    """The credential is valid, and not for this request."""


def level_error(needed: Level) -> ForbiddenError:
    """Return the error for a credential whose level is below the one that is needed."""
    return ForbiddenError("forbidden", f"This needs the level {needed.name.lower()!r} for the chain.")


class Scope(msgspec.Struct, frozen=True):
    """The chains and limits of a token."""

    more_chains: Sequence[int] = ()
    indexes: Sequence[str] | None = None
    """Export indexes; None: all."""
    hidden_columns: Sequence[str] = ()
    expires: datetime | None = None
    user: int | None = None
    """The user whose profile file it is in: it ends with the user's right to the chain."""

    def audit_details(self, level: str) -> dict[str, Any]:
        """Return level and limits for the audit log of each chain that the token opens, without the chains."""
        return {"level": level, "indexes": self.indexes, "hidden": self.hidden_columns, "expires": self.expires}


class Token(msgspec.Struct, frozen=True):
    """An access token without its secret."""

    id: UUID
    client_id: int | None
    """Null for a token of another chain's client."""
    client: str
    """The client's name; empty for a token of another chain's client."""
    chain: int
    chains: list[int]
    """All chains of its scope; of a token of another chain's client only the chain that asks."""
    user: str | None
    """Name of the user whose profile file it is in; null for all others."""
    level: str
    indexes: list[str] | None
    """The export indexes that it may use; null: all."""
    hidden_columns: list[str]
    """Columns that it may never see, such as `users.phone_number`."""
    created: datetime
    expires: datetime | None
    used: datetime | None
    """Time of the last use; lags by up to two minutes."""
    revoked: datetime | None
    state: TokenState
    """`active`, or why it is not accepted: `revoked`; `expired`; its client is turned off; its user is, or has no level
    for the chain any more."""
    active: bool
    """Whether it is accepted now."""


def new_secret() -> str:
    """Return the secret of a new token or session."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """Return the hash that is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


async def insert(connection: Connection, client: int, level: Level, scope: Scope | None = None) -> tuple[UUID, str]:
    """Insert a token of a client and return its id and its secret, which is not stored. Raises ProblemError.

    The caller writes the audit entry.
    """
    scope = scope or Scope()
    secret = new_secret()
    limits = (list(scope.more_chains), scope.indexes and list(scope.indexes), list(scope.hidden_columns), scope.expires)
    token = await connection.fetchval(INSERT, client, level.name.lower(), digest_of(secret), *limits, scope.user)
    if token is None:
        raise NotFoundError("client-not-found", f"there is no service client {client}")
    return token, secret


async def administered_chains(pool: Connection | Pool, caller: Caller) -> set[int]:
    """Return the chains that a caller is an admin of."""
    return {row["chain_id"] for row in await pool.fetch(ADMIN_CHAINS, caller.kind, caller.id)}


async def all_tokens(connection: Connection) -> list[Token]:
    """Return the tokens of all chains, oldest first."""
    return structs(Token, await connection.fetch(ALL, None))


async def of_chain(pool: Connection | Pool, chain: ChainId, client: int | None, page: Page) -> tuple[list[Token], bool]:
    """Return a page of the tokens with a chain in their scope, newest first, and whether more follow.

    `client`: only tokens of this client; None: of all.
    """
    return await fetch_page(pool, Token, page, OF_CHAIN, chain, None, client, None)


async def of_user(pool: Pool, chain: ChainId, user: int, page: Page) -> tuple[list[Token], bool]:
    """Return a page of the tokens in a user's profile files for a chain, newest first, and whether more follow."""
    return await fetch_page(pool, Token, page, OF_CHAIN, chain, None, None, user)


async def one_of_chain(pool: Connection | Pool, chain: ChainId, token: UUID) -> Token:
    """Return a token with a chain in its scope. Raises ProblemError."""
    row = await pool.fetchrow(OF_CHAIN, chain, token, None, None, 1, 0)
    if row is None:
        raise NotFoundError("token-not-found")
    return Token(**row)


async def of_more_chains(connection: Connection, client: int) -> list[tuple[UUID, list[int]]]:
    """Return the tokens of a client that open other chains and have not ended, each with these chains."""
    return [(row["id"], row["more_chains"]) for row in await connection.fetch(TOKENS_OF_MORE_CHAINS, client)]


async def revoke(connection: Connection, actor: Actor, token: UUID, chain: ChainId | None = None) -> bool:
    """Revoke a token, with an audit entry in each of its chains, and return whether it was not revoked yet.

    `chain`: the chain that asks; None for the command line. A token of another chain's client is revoked for this
    chain alone.
    """
    ended: list[int] | None = await connection.fetchval(REVOKE, token, chain)
    if ended is None and chain is not None and await connection.fetchval(REMOVE_CHAIN, token, chain) is not None:
        ended = [chain]
    await audit.record_in(connection, actor, ended or [], "token.revoke", f"token {token}")
    return bool(ended)
