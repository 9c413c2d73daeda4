"""Authentication by access token: the `Authorization` header is looked up in the database and cached for a second."""

import asyncio
import re
import time
from contextvars import Context
from uuid import UUID

from longshore.access.tokens import Caller, Level, UnauthorizedError, digest_of, limits_of
from longshore.database.connect import Pool
from longshore.tasks.model import ChainId

TTL_SECONDS = 1.0  # a revoked token may be accepted for as long
MAX_CACHED = 10_000

BEARER = re.compile(r"Bearer +([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([\x21-\x7e]{1,200})", re.IGNORECASE)

CacheKey = tuple[str, bytes]
"""Id of a token, in lower case, and the digest of its secret."""

FIND = """
select t.chain_id, t.more_chains, t.level, t.indexes, t.hidden_columns,
       extract(epoch from t.expires_at - now())::float8 as seconds_left,
       coalesce(t.used_at < now() - interval '1 minute', true) as stale
from longshore.access_tokens t
where t.id = $1 and t.secret_sha256 = $2
  and longshore.level_of('token', t.id::text, null, t.chain_id, 0, 0) is not null
"""

# Of several processes that see a request at once, one writes.
USED = """
update longshore.access_tokens set used_at = now()
where id = $1 and (used_at is null or used_at < now() - interval '1 minute')
"""


class TokenAuth:
    """Checks tokens and caches the result for TTL_SECONDS.

    The cache holds digests, not secrets, and no wrong secrets, so guesses cannot fill it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cache: dict[CacheKey, tuple[float, dict[str, Caller]]] = {}
        self._fetching: dict[CacheKey, asyncio.Task[dict[str, Caller] | None]] = {}

    async def callers(self, authorization: str | None) -> dict[str, Caller]:
        """Return the callers of a request's `Authorization` header by the chains of the token's scope, as text.

        "" is the chain of its client. Raises UnauthorizedError.
        """
        match = BEARER.fullmatch(authorization or "")
        if match is None:
            raise UnauthorizedError
        key = match[1].lower(), digest_of(match[2])
        until, callers = self._cache.get(key, (0.0, None))
        if callers is None or until < time.monotonic():
            callers = await self._fetch_once(key)
        if callers is None:
            raise UnauthorizedError
        return callers

    async def _fetch_once(self, key: CacheKey) -> dict[str, Caller] | None:
        # Of many polls with one token at once, one asks the database and all use its answer.
        fetching = self._fetching.get(key)
        if fetching is None:
            # An empty context: the answer serves requests for more chains than that of the first one.
            fetching = self._fetching[key] = asyncio.create_task(self._fetch(key), context=Context())
            fetching.add_done_callback(lambda _: self._fetching.pop(key, None))
        return await asyncio.shield(fetching)

    async def _fetch(self, key: CacheKey) -> dict[str, Caller] | None:
        """Return the callers of a token by chain, as text; "" is the chain of its client. None: not a valid token."""
        began = time.monotonic()
        row = await self._pool.fetchrow(FIND, UUID(key[0]), key[1])
        if row is None:
            self._cache.pop(key, None)
            return None
        if row["stale"]:
            await self._pool.execute(USED, UUID(key[0]))
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        level, limits = Level[row["level"].upper()], limits_of(row["indexes"], row["hidden_columns"])
        callers = {
            str(chain): Caller(ChainId(chain), level, "token", key[0], limits)
            for chain in (row["chain_id"], *row["more_chains"])
        }
        callers[""] = callers[str(row["chain_id"])]
        left = TTL_SECONDS if row["seconds_left"] is None else min(TTL_SECONDS, row["seconds_left"])
        self._cache[key] = (began + left, callers)
        return callers
