"""Rate limits: how many requests one credential, and one address, may make.

`limits` counts; its counts are kept here, as it has no storage in PostgreSQL. Each API process counts for itself and
exchanges what it counted with the others in the background, in one statement for all counts, EXCHANGE_EVERY seconds. So
a request waits for nothing, and beyond a limit gets only what the processes let through within one exchange.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog
from limits import RateLimitItem
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

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


class _Count:
    """Requests in one window: those that all processes told of, and those that are still to be told."""

    __slots__ = ("ends", "shared", "untold")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.shared = 0
        self.untold = 0


class SharedCounts(Storage):
    """Counts of fixed windows that several processes share."""

    STORAGE_SCHEME = None

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool
        self._counts: dict[str, _Count] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """What going wrong looks like; nothing that a request waits for can."""
        return OSError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, and give how many there are in the window of `expiry` seconds."""
        count = self._counts.get(key)
        if count is None or count.ends <= time.monotonic():
            count = self._counts[key] = _Count(time.monotonic() + expiry)
        count.untold += amount
        return count.shared + count.untold

    async def get(self, key: str) -> int:
        """How many there are."""
        count = self._counts.get(key)
        return 0 if count is None else count.shared + count.untold

    async def get_expiry(self, key: str) -> float:
        """When the window ends, in seconds since 1970."""
        count = self._counts.get(key)
        return time.time() + (0 if count is None else count.ends - time.monotonic())

    async def check(self) -> bool:
        """It works while the process does."""
        return True

    async def reset(self) -> int | None:
        """Forget what this process counted."""
        self._counts.clear()
        return None

    async def clear(self, key: str) -> None:
        """Forget one count of this process."""
        self._counts.pop(key, None)

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
        self._limiter = FixedWindowRateLimiter(counts)
        self._limits = limits

    async def count(self, name: str, who: str) -> list[tuple[bytes, bytes]]:
        """Count a request, and give the header fields that tell what is left. Raises TooManyRequestsError.

        https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
        """
        limit = self._limits.get(name)
        if limit is None:
            return []
        good = await self._limiter.hit(limit, name, who)
        stats = await self._limiter.get_window_stats(limit, name, who)
        seconds = max(1, round(stats.reset_time - time.time()))
        if not good:
            raise TooManyRequestsError(name, seconds)
        return [
            (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (name.encode(), limit.amount, limit.get_expiry())),
            (b"ratelimit", b'"%s";r=%d;t=%d' % (name.encode(), stats.remaining, seconds)),
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
