"""Rate limits of credentials and of addresses, in fixed windows.

Each API process counts requests in memory. Every EXCHANGE_SECONDS it adds its counts to those of the other processes,
in one statement in the background. No request waits for a count; the requests beyond a limit are at most those of one
exchange.
"""

import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator
from functools import lru_cache

from longshore.database.connect import Pool
from longshore.database.retry import repeating
from longshore.errors import ProblemError
from longshore.settings import Rate

EXCHANGE_SECONDS = 0.5
SWEEP_SECONDS = 60.0

# In the order of the keys, so that two processes do not deadlock. Only PostgreSQL's clock counts.
EXCHANGE = """
insert into longshore.rate_counts as c (key, hits, expires_at)
select key, hits, now() + seconds * interval '1 second'
from unnest($1::text[], $2::bigint[], $3::float8[]) as given (key, hits, seconds)
order by key
on conflict (key) do update
set hits = case when c.expires_at > now() then c.hits + excluded.hits else excluded.hits end,
    expires_at = case when c.expires_at > now() then c.expires_at else excluded.expires_at end
returning key, hits, extract(epoch from expires_at - now())::float8 as seconds
"""

SWEEP = "delete from longshore.rate_counts where expires_at < now()"


class Count:
    """Requests in one fixed window: those of all processes at the last exchange, and this process's since then."""

    __slots__ = ("ends", "pending", "shared")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.shared = 0
        self.pending = 0

    @property
    def hits(self) -> int:
        """Return the number of requests."""
        return self.shared + self.pending


class RateLimiter:
    """Limits by name, such as `address`. A name without a limit is not counted."""

    def __init__(self, pool: Pool, limits: dict[str, Rate]) -> None:
        self._pool = pool
        self._limits = limits
        self._counts: dict[str, Count] = {}

    def count(self, name: str, key: str) -> list[tuple[bytes, bytes]]:
        """Count a request and return the header fields with the requests left. Raises ProblemError.

        https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
        """
        limit = self._limits.get(name)
        if limit is None:
            return []
        key = f"{name} {key}"
        now = time.monotonic()
        count = self._counts.get(key)
        if count is None or count.ends <= now:
            count = self._counts[key] = Count(now + limit.seconds)
        count.pending += 1
        seconds = max(1, round(count.ends - now))
        fields = {
            "RateLimit-Policy": f'"{name}";q={limit.requests};w={limit.seconds}',
            "RateLimit": f'"{name}";r={max(0, limit.requests - count.hits)};t={seconds}',
        }
        if count.hits > limit.requests:
            detail = f"This {name} has made as many requests as it may for now."
            raise ProblemError("too-many-requests", detail, {"Retry-After": str(seconds), **fields})
        return [(field.lower().encode(), value.encode()) for field, value in fields.items()]

    async def exchange(self) -> None:
        """Add the counts since the last exchange to the database and read the counts of all processes."""
        now = time.monotonic()
        for key in [key for key, count in self._counts.items() if count.ends <= now]:
            del self._counts[key]
        pending = {key: count.pending for key, count in self._counts.items() if count.pending}
        if not pending:
            return
        left = [self._counts[key].ends - now for key in pending]
        rows = await self._pool.fetch(EXCHANGE, list(pending), list(pending.values()), left)
        for row in rows:
            count = self._counts.get(row["key"])
            if count is not None and count.pending >= pending[row["key"]]:  # else a new window began in the meantime
                count.pending -= pending[row["key"]]
                count.shared = row["hits"]
                count.ends = time.monotonic() + row["seconds"]

    async def sweep(self) -> None:
        """Delete windows that have ended from the database."""
        await self._pool.execute(SWEEP)


@contextlib.asynccontextmanager
async def open_rates(pool: Pool, limits: dict[str, Rate]) -> AsyncIterator[RateLimiter]:
    """The rate limits, whose counts are exchanged with other processes while the context is open."""
    rate_limiter = RateLimiter(pool, limits)
    async with (
        repeating("rate limits", EXCHANGE_SECONDS, rate_limiter.exchange),
        repeating("rate limits", SWEEP_SECONDS, rate_limiter.sweep),
    ):
        yield rate_limiter


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """Return the network that an address counts as: itself, or its /64 of IPv6, as one host has all of that."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
