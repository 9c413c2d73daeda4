"""The attempts that a worker has under way: each is cancelled once it is outdated, or at the end of the grace time.

Only the work of an attempt is cancelled, so that its begin and its end are written as usual: an attempt that is handed
back counts as no failure.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, TypeVar

import structlog

from longshore.database.connect import Pool
from longshore.database.retry import DATABASE_ERRORS
from longshore.tasks.model import TaskId
from longshore.tasks.queue import AnyMessage
from longshore.worker import malloc

log = structlog.get_logger()


M = TypeVar("M", bound=AnyMessage)

# After the grace time, for writing the ends of the attempts; less than `children.STOP_TIMEOUT_SECONDS`.
END_SECONDS = 5.0

Newest = Callable[[Pool, Sequence[TaskId]], Awaitable[AbstractSet[M]]]
"""Returns the messages of tasks that are not outdated."""


class UnderWay(Generic[M]):
    """The attempts that a worker has under way."""

    def __init__(self, pool: Pool, newest: Newest[M], grace: float) -> None:
        """`grace`: seconds that they have to end when the worker stops."""
        self._pool = pool
        self._newest = newest
        self._grace = grace
        self._running: set[asyncio.Task[Any]] = set()
        self._acting: dict[asyncio.Task[Any], M] = {}
        self._withdrawn: set[asyncio.Task[Any]] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._acts_are_cancelled = False
        self._all_are_cancelled = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the current asyncio task among those that a stop ends, while the context is open."""
        current = _current()
        self._running.add(current)
        try:
            if self._all_are_cancelled:
                raise asyncio.CancelledError
            yield
        finally:
            self._running.discard(current)
            self._withdrawn.discard(current)
            malloc.release_free_memory()

    @contextlib.contextmanager
    def acting(self, message: M) -> Iterator[None]:
        """Cancel the current asyncio task when its message is outdated or the grace time over, in the open context.

        Raises CancelledError if the grace time is over already.
        """
        if self._acts_are_cancelled:
            raise asyncio.CancelledError
        current = _current()
        self._acting[current] = message
        self.check_all()  # the notification of a cancel since the claim has found nothing to stop
        try:
            yield
        finally:
            del self._acting[current]

    def is_withdrawn(self) -> bool:
        """Return whether the current asyncio task was cancelled as its message is outdated."""
        return _current() in self._withdrawn

    def is_stopped(self) -> bool:
        """Return whether a CancelledError in the current asyncio task is of the worker's stop, not of its own work."""
        return self._acts_are_cancelled or _current().cancelling() > 0

    def on_task_change(self, payload: str) -> None:
        """Handle the notification of a changed task, which may have been cancelled."""
        task, _, revision = payload.partition(" ")
        if revision and any(message.task == int(task) for message in self._acting.values()):
            self.check_all()

    def check_all(self) -> None:
        """Start a check of all messages that are acted on, which cancels the work for those that are outdated."""
        check = asyncio.create_task(self._check())
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _check(self) -> None:
        acting = dict(self._acting)  # a copy, because work that begins meanwhile is not in the answer
        try:
            newest = await self._newest(self._pool, [message.task for message in acting.values()])
        except DATABASE_ERRORS as error:
            log.warning("work under way cannot be checked", error=str(error))  # its next statement is refused
            return
        for task, message in acting.items():
            if task in self._acting and message not in newest and task not in self._withdrawn:
                self._withdrawn.add(task)
                task.cancel()

    def stop(self) -> None:
        """Cancel after the grace time what is still acted on, and from then on what begins.

        A message that was being taken when the worker was told to stop is handled, too.
        """
        if not self._is_stopping:  # each signal asks again, and what cleans up is cancelled once
            self._is_stopping = True
            asyncio.get_running_loop().call_later(self._grace, self._cancel_acts)

    def _cancel_acts(self) -> None:
        self._acts_are_cancelled = True
        for task in self._acting:
            task.cancel()
        asyncio.get_running_loop().call_later(END_SECONDS, self._cancel_all)

    def _cancel_all(self) -> None:
        """Cancel also what writes its begin or end, as the database may be away for long."""
        self._all_are_cancelled = True
        for task in self._running:
            task.cancel()


def _current() -> asyncio.Task[Any]:
    current = asyncio.current_task()
    assert current is not None
    return current
