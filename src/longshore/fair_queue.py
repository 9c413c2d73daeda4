"""Bounded queues for scarce resources (connections for previews, threads for passwords) that serve the keys in turn."""

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable

import msgspec

from longshore.errors import OverloadError


class QueueLimits(msgspec.Struct, frozen=True):
    """The bounds of a queue."""

    running: int
    """Turns at a time."""
    running_of_key: int
    waiting: int
    """Waiting callers."""
    waiting_of_key: int
    seconds: float
    """The longest wait."""


class FairQueue:
    """Limits the turns at a time. The next turn goes to the waiting key whose last turn was longest ago."""

    def __init__(self, what: str, limits: QueueLimits) -> None:
        """`what`: name of the resource, in the plural, for messages."""
        self._what = what
        self._limits = limits
        self._running: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while the context is open.

        Raises OverloadError where too many wait already, or where no turn came in time.
        """
        await self._acquire(key)
        try:
            yield
        finally:
            self._release(key)

    async def _acquire(self, key: Hashable) -> None:
        waiting = self._waiting.get(key)
        if not waiting and self._has_room(key):
            self._running[key] += 1
            return
        limits = self._limits
        if len(waiting or ()) >= limits.waiting_of_key or sum(map(len, self._waiting.values())) >= limits.waiting:
            raise OverloadError(f"Too many {self._what} wait already.", self._retry_after())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            async with asyncio.timeout(limits.seconds):  # `wait_for` of Python 3.11 loses a cancellation
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came at the same moment
                self._release(key)
            else:
                self._forget(key, turn)
            if isinstance(error, TimeoutError):
                detail = f"Too many {self._what} were before this one; none began within {limits.seconds:.0f} seconds."
                raise OverloadError(detail, self._retry_after(), waited=True) from None
            raise

    def _has_room(self, key: Hashable) -> bool:
        limits = self._limits
        return self._running.total() < limits.running and self._running[key] < limits.running_of_key

    def _release(self, key: Hashable) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        for next_key in list(self._waiting):
            while self._has_room(next_key) and next_key in self._waiting:
                turn = self._waiting[next_key][0]
                self._forget(next_key, turn)
                if turn.done():  # its caller was cancelled, or waited too long
                    continue
                self._running[next_key] += 1
                turn.set_result(None)
                if next_key in self._waiting:
                    self._waiting.move_to_end(next_key)
                break

    def _forget(self, key: Hashable, turn: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(key)
        if waiting and turn in waiting:
            waiting.remove(turn)
            if not waiting:
                del self._waiting[key]

    def _retry_after(self) -> int:
        return max(1, round(self._limits.seconds / 2))
