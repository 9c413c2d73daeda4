"""Access tokens: a UUID and a secret that other systems send as `Authorization: Bearer ID:SECRET`.

Promise 5 begins here: a token is for exactly one chain, and what it asks is asked for that chain.

The secret is 32 random bytes, so its SHA-256 is as hard to undo as the secret is to guess; a slow hash would protect
nothing here and cost every poll its milliseconds. (Passwords, which people choose, need a slow one.)
"""

import asyncio
import hashlib
import re
import secrets
import time
from datetime import datetime
from enum import IntEnum
from typing import Literal
from uuid import UUID

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId

SECRET_PREFIX = "longshore_"  # noqa: S105  # no secret, but how one begins, so that scanners for leaked secrets know one when they see it
TTL = 1.0  # seconds; how long a revoked token may still be believed
MOST_REMEMBERED = 10_000

BEARER = re.compile(r"Bearer +([0-9a-fA-F-]{36}):([\x21-\x7e]{1,200})", re.IGNORECASE)

CREATE = """
insert into longshore.access_tokens (chain_id, name, level, secret_sha256) values ($1, $2, $3, $4) returning id
"""

FIND = """
select chain_id, level from longshore.access_tokens
where id = $1 and secret_sha256 = $2 and revoked_at is null
"""

LIST = """
select id, chain_id, name, level, created_at, revoked_at from longshore.access_tokens order by created_at, id
"""

REVOKE = """
update longshore.access_tokens set revoked_at = now() where id = $1 and revoked_at is null returning id
"""


class Level(IntEnum):
    """What a credential may do; each level includes those below it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the chain that the credential is for, and its level there."""

    chain: ChainId
    level: Level
    kind: Literal["token", "user"]
    id: str
    """Of the token or of the user."""


class UnauthorizedError(Exception):
    """No credential, or none that is good."""


class ForbiddenError(Exception):
    """A good credential whose level is too low; carries the level that was needed."""

    def __init__(self, needed: Level) -> None:
        super().__init__(needed.name.lower())
        self.needed = needed


class Token(msgspec.Struct, frozen=True):
    """What is kept of an access token; never its secret."""

    id: UUID
    chain: int
    name: str
    level: str
    created: datetime
    revoked: datetime | None


class Doorkeeper:
    """Knows tokens by their header, and remembers what it found for TTL seconds.

    Only digests are remembered. A wrong secret is never remembered, so guessing cannot fill the memory.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[tuple[UUID, bytes], tuple[float, Caller]] = {}
        self._asking: dict[tuple[UUID, bytes], asyncio.Task[Caller | None]] = {}

    async def caller(self, authorization: str | None, needed: Level) -> Caller:
        """Who sent this `Authorization` header, if their level suffices.

        Raises UnauthorizedError or ForbiddenError.
        """
        match = BEARER.fullmatch(authorization or "")
        if match is None:
            raise UnauthorizedError
        try:
            key = (UUID(match[1]), hashlib.sha256(match[2].encode()).digest())
        except ValueError:
            raise UnauthorizedError from None
        until, caller = self._known.get(key, (0.0, None))
        if caller is None or until < time.monotonic():
            caller = await self._ask(key)
        if caller is None:
            raise UnauthorizedError
        if caller.level < needed:
            raise ForbiddenError(needed)
        return caller

    async def _ask(self, key: tuple[UUID, bytes]) -> Caller | None:
        # Many polls with one token come at once; one of them asks and all get its answer.
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._find(key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _find(self, key: tuple[UUID, bytes]) -> Caller | None:
        asked_at = time.monotonic()
        row = await self._pool.fetchrow(FIND, *key)
        if row is None:
            self._known.pop(key, None)
            return None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        caller = Caller(ChainId(row["chain_id"]), Level[row["level"].upper()], "token", str(key[0]))
        self._known[key] = (asked_at + TTL, caller)
        return caller


async def create(connection: Connection, chain: int, level: Level, name: str) -> str:
    """Make a token and give its `id:secret`, which cannot be had a second time."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).digest()
    token = await connection.fetchval(CREATE, chain, name, level.name.lower(), digest)
    return f"{token}:{secret}"


async def list_tokens(connection: Connection) -> list[Token]:
    """All tokens, oldest first."""
    rows = await connection.fetch(LIST)
    return [
        Token(row["id"], row["chain_id"], row["name"], row["level"], row["created_at"], row["revoked_at"])
        for row in rows
    ]


async def revoke(connection: Connection, token: UUID) -> bool:
    """End a token; False when there is none that is still good."""
    return await connection.fetchval(REVOKE, token) is not None
