"""Limits and authorization of requests that stay open: long polls, event streams, `execute`.

A credential is checked when its request begins. Every RECHECK_SECONDS one statement checks the credentials of all open
requests of this process again. It closes those whose credential was revoked, expired or disabled on any machine, whose
level is below the one that the request needs, or whose session has ended. The others continue with the level that the
credential has by then. Requests that are answered at once are not rechecked.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from longshore.access.sessions import Lifetimes
from longshore.access.tokens import Caller, Level, UnauthorizedError, level_error
from longshore.database.connect import Pool
from longshore.database.retry import repeating
from longshore.errors import OverloadError

RECHECK_SECONDS = 1.0
RETRY_AFTER_SECONDS = 30  # a long poll or stream ends within a minute, usually sooner

# One row for each credential; `level_of` is in the initial migration.
LEVELS = """
select longshore.level_of(kind, id, session, chain, $5, $6) as level
from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) with ordinality as c (kind, id, session, chain, number)
order by number
"""


class OpenRequest:
    """A request that stays open. It counts until `close` is called."""

    def __init__(self, caller: Caller, needed: Level, close: Callable[[], None]) -> None:
        self.caller = caller
        """The caller, with the level of the last check: for each read of what the request shows."""
        self.close = close
        self._needed = needed
        self._on_end: Callable[[Exception], None] = lambda _: None

    def on_end(self, call: Callable[[Exception], None]) -> None:
        """Register a callback for the end of the credential, with UnauthorizedError or ForbiddenError as argument."""
        self._on_end = call

    def check_level(self, level: Level | None) -> None:
        """Take over the credential's level, and call the callback if it is too low. None: the credential has ended."""
        if level is None:
            self._on_end(UnauthorizedError())
        elif level < self._needed:
            self._on_end(level_error(self._needed))
        elif level != self.caller.level:
            self.caller = msgspec.structs.replace(self.caller, level=level)


class OpenRequests:
    """The open requests of this process."""

    def __init__(self, pool: Pool, lifetimes: Lifetimes, limits: Mapping[str, int]) -> None:
        """`limits`: the requests of one `credential`, one `chain`, one `address`, and of the `service`."""
        self._pool = pool
        self._lifetimes = lifetimes
        self._limits = limits
        self._open: set[OpenRequest] = set()
        self._counts: Counter[tuple[str, object]] = Counter()

    def open(self, caller: Caller, address: str, needed: Level) -> OpenRequest:
        """Count a request that stays open. Raises OverloadError if there are too many.

        `address`: its origin, as `rate_limits.network` returns it. `needed`: the level of its endpoint.
        """
        keys = [
            ("credential", (caller.kind, caller.id)),
            ("chain", caller.chain),
            ("address", address),
            ("service", ""),
        ]
        for name, key in keys:
            limit = self._limits[name]
            if self._counts[name, key] >= limit:
                raise OverloadError(
                    f"This {name} has {limit} requests open that wait, as many as it may have here; end some first.",
                    RETRY_AFTER_SECONDS,
                )

        def close() -> None:
            if opened in self._open:
                self._open.discard(opened)
                for key in keys:
                    self._counts[key] -= 1
                    if not self._counts[key]:
                        del self._counts[key]

        opened = OpenRequest(caller, needed, close)
        self._open.add(opened)
        self._counts.update(keys)
        return opened

    async def recheck(self) -> None:
        """Close the requests whose credential has ended."""
        by_credential: dict[tuple[object, ...], list[OpenRequest]] = {}
        for opened in self._open:
            caller = opened.caller
            by_credential.setdefault((caller.kind, caller.id, caller.session, caller.chain), []).append(opened)
        if not by_credential:
            return
        columns = [list(column) for column in zip(*by_credential, strict=True)]
        rows = await self._pool.fetch(LEVELS, *columns, self._lifetimes.idle, self._lifetimes.total)
        for row, requests in zip(rows, by_credential.values(), strict=True):
            level = row["level"] and Level[row["level"].upper()]
            for opened in requests:
                opened.check_level(level)


@contextlib.asynccontextmanager
async def recheck_open_requests(
    pool: Pool, lifetimes: Lifetimes, limits: Mapping[str, int]
) -> AsyncIterator[OpenRequests]:
    """The open requests of this process, whose credentials are rechecked while the context is open."""
    requests = OpenRequests(pool, lifetimes, limits)
    async with repeating("recheck of open requests", RECHECK_SECONDS, requests.recheck):
        yield requests
