"""Rate limits: how many requests one credential, and one address, may make.

Windows are fixed, as `limits` names them. Each API process counts for itself and exchanges what it counted with the
others in the background, in one statement for all counts, EXCHANGE_EVERY seconds. So a request waits for nothing, and
beyond a limit gets only what the processes let through within one exchange.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog
from limits import RateLimitItem

from longshore.database.connect import Pool

log = structlog.get_logger()

EXCHANGE_EVERY = 0.5  # seconds
SWEEP_EVERY = 120  # exchanges

# In the order of the keys, so that two processes never wait for each other. All clocks are PostgreSQL's.
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
    """Requests in one window: those that all processes told of, and those that are still to be told."""

    __slots__ = ("ends", "shared", "untold")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.shared = 0
        self.untold = 0

    @property
    def hits(self) -> int:
        """How many there are."""
        return self.shared + self.untold

    @property
    def left(self) -> float:
        """Seconds until the window ends."""
        return self.ends - time.monotonic()


class SharedCounts:
    """Counts of fixed windows that several processes share."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._counts: dict[str, Count] = {}

    def add(self, key: str, window: int) -> Count:
        """Count a request in the key's window, which is so many seconds long."""
        now = time.monotonic()
        count = self._counts.get(key)
        if count is None or count.ends <= now:
            count = self._counts[key] = Count(now + window)
        count.untold += 1
        return count

    async def exchange(self) -> None:
        """Tell what was counted since the last time, and hear what the others did."""
        now = time.monotonic()
        for key in [key for key, count in self._counts.items() if count.ends <= now]:
            del self._counts[key]
        told = {key: count.untold for key, count in self._counts.items() if count.untold}
        if not told:
            return
        left = [self._counts[key].ends - now for key in told]
        rows = await self._pool.fetch(EXCHANGE, list(told), list(told.values()), left)
        for row in rows:
            count = self._counts.get(row["key"])
            if count is not None and count.untold >= told[row["key"]]:  # else a new window began meanwhile
                count.untold -= told[row["key"]]
                count.shared = row["hits"]
                count.ends = time.monotonic() + row["seconds"]

    async def sweep(self) -> None:
        """Remove what is over from the database."""
        await self._pool.execute(SWEEP)


class TooManyRequestsError(Exception):
    """A limit is reached; carries its name and the seconds until its window ends."""

    def __init__(self, name: str, seconds: int) -> None:
        super().__init__(name)
        self.name = name
        self.seconds = seconds


class Rates:
    """The limits by name (`address`, `credential`), as far as there are any."""

    def __init__(self, counts: SharedCounts, limits: dict[str, RateLimitItem]) -> None:
        self._counts = counts
        self._limits = limits

    def count(self, name: str, who: str) -> list[tuple[bytes, bytes]]:
        """Count a request, and give the header fields that tell what is left. Raises TooManyRequestsError.

        https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
        """
        limit = self._limits.get(name)
        if limit is None:
            return []
        window = limit.get_expiry()
        count = self._counts.add(limit.key_for(name, who), window)
        seconds = max(1, round(count.left))
        if count.hits > limit.amount:
            raise TooManyRequestsError(name, seconds)
        return [
            (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (name.encode(), limit.amount, window)),
            (b"ratelimit", b'"%s";r=%d;t=%d' % (name.encode(), limit.amount - count.hits, seconds)),
        ]


@contextlib.asynccontextmanager
async def open_rates(pool: Pool, limits: dict[str, RateLimitItem | None]) -> AsyncIterator[Rates]:
    """The limits, exchanged with other processes for as long as this is held."""
    counts = SharedCounts(pool)
    exchanging = asyncio.create_task(_keep_exchanging(counts), name="rates")
    try:
        yield Rates(counts, {name: limit for name, limit in limits.items() if limit is not None})
    finally:
        exchanging.cancel()
        await asyncio.wait({exchanging})


async def _keep_exchanging(counts: SharedCounts) -> None:
    turn = 0
    while True:
        await asyncio.sleep(EXCHANGE_EVERY)
        try:
            await counts.exchange()
            if turn % SWEEP_EVERY == 0:
                await counts.sweep()
            turn += 1
        except Exception as error:  # each process goes on with its own counts
            log.warning("rates not exchanged", error=str(error))
