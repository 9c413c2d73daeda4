"""Who stands at the door with an `Authorization` header: looked up in the database, and remembered for a moment."""

import asyncio
import hashlib
import re
import time
from uuid import UUID

from longshore.access.tokens import Caller, ForbiddenError, Level, UnauthorizedError, limits_of
from longshore.database.connect import Pool
from longshore.tasks.model import ChainId

TTL = 1.0  # seconds; how long a revoked token may still be believed
MOST_REMEMBERED = 10_000

BEARER = re.compile(r"Bearer +([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([\x21-\x7e]{1,200})", re.IGNORECASE)

Key = tuple[str, bytes]
"""Id of a token, in lower case, and digest of its secret."""

FIND = """
select t.chain_id, t.more_chains, t.level, t.indexes, t.hidden_columns,
       extract(epoch from t.expires_at - now())::float8 as left,
       coalesce(t.used_at < now() - interval '1 minute', true) as stale
from longshore.access_tokens t
join longshore.service_clients c on c.id = t.client_id
where t.id = $1 and t.secret_sha256 = $2 and t.revoked_at is null
  and (t.expires_at is null or t.expires_at > now()) and c.enabled
"""

# Several processes see it used at once; one of them writes.
USED = """
update longshore.access_tokens set used_at = now()
where id = $1 and (used_at is null or used_at < now() - interval '1 minute')
"""


class TokenAuth:
    """Knows tokens by their header, and remembers what it found for TTL seconds.

    Only digests are remembered. A wrong secret is never remembered, so guessing cannot fill the memory.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[Key, tuple[float, dict[str, Caller]]] = {}
        self._asking: dict[Key, asyncio.Task[dict[str, Caller] | None]] = {}

    async def caller(self, authorization: str | None, chain: str | None, needed: Level) -> Caller:
        """Who sent this `Authorization` header, if their level suffices.

        `chain`: the one that the request names; None where it names none. Raises UnauthorizedError or ForbiddenError.
        """
        match = BEARER.fullmatch(authorization or "")
        if match is None:
            raise UnauthorizedError
        key = match[1].lower(), hashlib.sha256(match[2].encode()).digest()
        until, callers = self._known.get(key, (0.0, None))
        if callers is None or until < time.monotonic():
            callers = await self._ask(key)
        if callers is None:
            raise UnauthorizedError
        caller = callers.get(chain or "")
        if caller is None or caller.level < needed:
            raise ForbiddenError(needed)
        return caller

    async def _ask(self, key: Key) -> dict[str, Caller] | None:
        # Many polls with one token come at once; one of them asks and all get its answer.
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._find(key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _find(self, key: Key) -> dict[str, Caller] | None:
        """What the token makes its sender in each chain, by the chain's number as text, and by "" in the usual one."""
        asked_at = time.monotonic()
        row = await self._pool.fetchrow(FIND, UUID(key[0]), key[1])
        if row is None:
            self._known.pop(key, None)
            return None
        if row["stale"]:
            await self._pool.execute(USED, UUID(key[0]))
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        level, limits = Level[row["level"].upper()], limits_of(row["indexes"], row["hidden_columns"])
        callers = {
            str(chain): Caller(ChainId(chain), level, "token", key[0], limits)
            for chain in (row["chain_id"], *row["more_chains"])
        }
        callers[""] = callers[str(row["chain_id"])]
        left = TTL if row["left"] is None else min(TTL, row["left"])
        self._known[key] = (asked_at + left, callers)
        return callers
