"""Shares of a pool's connections: however long its statements wait for each other, no chain has all connections.

Statements of one chain wait for each other: for the row that counts what it has stored, for its slots. Each of them
holds a connection meanwhile, so without shares the requests of one chain hold all of them, and those of other chains
wait behind locks that are not theirs.
"""

import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import asyncpg

from longshore.fair_queue import FairQueue, QueueLimits

_chain: ContextVar[int | None] = ContextVar("chain whose share is used", default=None)
_has_turn: ContextVar[bool] = ContextVar("whether a connection is held", default=False)


def use_share_of(chain: int | None) -> None:
    """Let the current request use the chain's share of connections from here on; None: no chain's."""
    _chain.set(chain)


class SharedPool(asyncpg.Pool):
    """A pool that gives a chain's requests their connections in turn with those of other chains."""

    def __init__(self, limits: QueueLimits, **options: Any) -> None:
        """`limits`: how many connections all chains and one chain may have, and how many requests may wait for one.

        `options`: see asyncpg.create_pool.
        """
        usual = {"max_queries": 50_000, "max_inactive_connection_lifetime": 300.0, "record_class": asyncpg.Record}
        super().__init__(loop=None, **{**usual, **options})
        self._turns = FairQueue("requests of this chain", limits)

    def acquire(self, *, timeout: float | None = None) -> Any:
        """Return a context that holds a connection. Raises OverloadError where too many of the chain wait already."""
        chain = _chain.get()
        # A request that holds one already does not wait for another turn: its own turn might be what it waits for.
        if chain is None or _has_turn.get():
            return super().acquire(timeout=timeout)
        return self._in_turn(chain, timeout)

    @contextlib.asynccontextmanager
    async def _in_turn(self, chain: int, timeout: float | None) -> AsyncIterator[Any]:  # noqa: ASYNC109  # asyncpg's own
        async with self._turns.turn(chain):
            had = _has_turn.set(True)
            try:
                async with super().acquire(timeout=timeout) as connection:
                    yield connection
            finally:
                _has_turn.reset(had)
