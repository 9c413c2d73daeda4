"""A pool whose connections the chains take in turn, so that no chain holds all of them.

Statements of one chain wait for each other's locks: on its row of `chain_usage`, on its slots. Each waiting statement
holds a connection. In another pool the requests of one chain could hold all connections, and other chains would wait
for locks that are not theirs.
"""

import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import asyncpg

from longshore.fair_queue import FairQueue, QueueLimits

_chain: ContextVar[int | None] = ContextVar("chain that connections are counted for", default=None)
_has_turn: ContextVar[bool] = ContextVar("whether this request holds a connection", default=False)


def use_connections_of(chain: int | None) -> None:
    """Count the connections of the current request for a chain from now on; None: for no chain, without a turn."""
    _chain.set(chain)


class FairPool(asyncpg.Pool):
    """A pool with a limit of connections for each chain, and for all chains together."""

    def __init__(self, limits: QueueLimits, **options: Any) -> None:
        """`limits`: connections of all chains and of one chain, and requests that may wait for one.

        `options`: see asyncpg.create_pool.
        """
        usual = {"max_queries": 50_000, "max_inactive_connection_lifetime": 300.0, "record_class": asyncpg.Record}
        super().__init__(loop=None, **{**usual, **options})
        self._turns = FairQueue("requests of this chain", limits)

    def acquire(self, *, timeout: float | None = None) -> Any:
        """Return a context that holds a connection. Raises OverloadError if too many requests of the chain wait."""
        chain = _chain.get()
        # A request that holds a connection takes a second one without a turn, as it could wait for its own turn.
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
