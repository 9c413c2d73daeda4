"""Waiting for a task to change without asking again and again: one listening connection wakes all waiters of a process.

A waiter costs neither a database connection nor a thread. A lost notification costs at most RECHECK seconds.
"""

import asyncio
from collections import defaultdict

from longshore.database.connect import Listener, Pool
from longshore.tasks import read
from longshore.tasks.model import ENDED, ChainId, State, TaskId

CHANNEL = "longshore_tasks"
RECHECK = 5.0  # seconds


class Watch:
    """Wakes those who wait for a task. To be entered once in a process."""

    def __init__(self, pool: Pool, url: str) -> None:
        self._pool = pool
        self._waiters: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
        self._listener = Listener(url, CHANNEL, self._changed, self._wake_all)

    async def __aenter__(self) -> "Watch":
        await self._listener.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.__aexit__()

    async def until_run_ended(self, chain: ChainId, task: TaskId, run: int) -> State:
        """The state of a task once its run number `run`, or a later one, has ended. Raises TaskNotFoundError."""
        changed = asyncio.Event()
        self._waiters[task].add(changed)
        try:
            while True:
                changed.clear()
                standing = await read.standing(self._pool, chain, task)
                if standing.run >= run and standing.state.code in ENDED:
                    return standing.state
                try:
                    await asyncio.wait_for(changed.wait(), RECHECK)
                except TimeoutError:
                    continue
        finally:
            self._waiters[task].discard(changed)
            if not self._waiters[task]:
                del self._waiters[task]

    def _changed(self, payload: str) -> None:
        for event in self._waiters.get(int(payload.split(maxsplit=1)[0]), ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._waiters.values():
            for event in events:
                event.set()
