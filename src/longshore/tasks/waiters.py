"""Waiters for changes of tasks: one listening connection wakes all waiters of a process.

A waiter costs neither a database connection nor a thread. All waiters that one notification wakes share one read. A
lost notification delays a waiter by at most RECHECK_SECONDS, and costs one statement for all waiters.
"""

import asyncio
import contextlib
import signal
from collections import defaultdict
from collections.abc import Callable, Coroutine, Hashable, Iterator
from typing import Any, TypeVar

from prometheus_client import Gauge

from longshore.database.connect import Pool
from longshore.database.listener import Listener
from longshore.database.retry import repeating
from longshore.errors import ProblemError
from longshore.tasks import queries
from longshore.tasks.model import ENDED, ChainId, State, TaskId

CHANNEL = "longshore_tasks"
RELEASE_SIGNAL = signal.SIGUSR1  # announces to a process of the API that it will end
RECHECK_SECONDS = 5.0

WAITERS = Gauge("longshore_waiters", "Requests of this process that wait for a task to change.")

T = TypeVar("T")

REVISIONS = "select id, revision from longshore.tasks where id = any($1::bigint[])"


class Waiter:
    """A request that waits for a task."""

    def __init__(self, all_waiters: "Waiters") -> None:
        self._all = all_waiters
        self._woken = asyncio.Event()
        self.notification = 0
        """The number of the last notification that woke it; 0 before the first."""
        self.revision = 0
        """The revision that the waiter has seen."""
        self._error: Exception | None = None

    def wake(self, notification: int) -> None:
        """Let `wait` return because the task has changed. `notification`: its number in this process, from 1."""
        self.notification = notification
        self._woken.set()

    def end(self, error: Exception) -> None:
        """Let `wait` raise this error from now on, such as that of a revoked credential."""
        self._error = self._error or error
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until the task changes; return False after `seconds`, and if the process is about to end.

        Raises the error that was passed to `end`.
        """
        if self._all.closing:
            return False
        try:
            with WAITERS.track_inprogress():
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
        except TimeoutError:
            return False
        self.raise_error()
        self._woken.clear()
        return True

    def raise_error(self) -> None:
        """Raise the error that was passed to `end`, if any."""
        if self._error is not None:
            raise self._error


class Waiters:
    """The waiters of a process, with the connection that wakes them. Enter it once."""

    def __init__(self, pool: Pool, url: str) -> None:
        self._pool = pool
        self._waiters: defaultdict[int, set[Waiter]] = defaultdict(set)
        self._readings: dict[Hashable, asyncio.Task[Any]] = {}
        self._notifications = 0
        self._listener = Listener(url, CHANNEL, self._on_notification, self._wake_all)
        self._rechecking = repeating("recheck of waiters", RECHECK_SECONDS, self._recheck)
        self.closing = False
        """Whether the process is about to end, so that no request may wait."""

    async def __aenter__(self) -> "Waiters":
        asyncio.get_running_loop().add_signal_handler(RELEASE_SIGNAL, self.close)
        await self._listener.__aenter__()
        await self._rechecking.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self._rechecking.__aexit__(None, None, None)
        await self._listener.__aexit__()

    def close(self) -> None:
        """End all waits, because the process is about to end."""
        self.closing = True
        self._wake_all()

    @contextlib.contextmanager
    def of(self, task: TaskId) -> Iterator[Waiter]:
        """Return a waiter for a task. Read the task only inside this context, so that no change is missed."""
        waiter = Waiter(self)
        self._waiters[task].add(waiter)
        try:
            yield waiter
        finally:
            self._waiters[task].discard(waiter)
            if not self._waiters[task]:
                del self._waiters[task]

    async def shared(self, key: Hashable, waiter: Waiter, reading: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of one read for all waiters that the same notification woke. `key` identifies the read.

        The number of the notification is part of the key, so no waiter gets a result from before it was woken.
        """
        if not waiter.notification:
            return await reading()
        key = (key, waiter.notification)
        found = self._readings.get(key)
        if found is None:
            found = self._readings[key] = asyncio.create_task(reading())
            found.add_done_callback(lambda _: self._readings.pop(key, None))
        result: T = await asyncio.shield(found)
        return result

    async def until_run_ended(self, waiter: Waiter, chain: ChainId, task: TaskId, run: int) -> State:
        """Return the state of a task once its run number `run`, or a later one, has ended or is being delivered.

        `waiter`: a waiter for this task. Raises NotFoundError, ProblemError, also where the run was cancelled or
        displaced before it began, and the waiter's error.
        """
        while True:
            status = await queries.status(self._pool, chain, task)
            waiter.revision = status.revision
            if (status.state.code in ENDED or status.delivering) and status.run >= run:
                return status.state
            if status.run < run and not status.queued:
                raise ProblemError("run-withdrawn")
            if self.closing:
                raise ProblemError("stopping", headers={"Retry-After": "1"})
            await waiter.wait(60)

    def _on_notification(self, payload: str) -> None:
        self._wake(int(payload.split(maxsplit=1)[0]))

    def _wake(self, task: int) -> None:
        self._notifications += 1
        for waiter in self._waiters.get(task, ()):
            waiter.wake(self._notifications)

    def _wake_all(self) -> None:
        for task in tuple(self._waiters):
            self._wake(task)

    async def _recheck(self) -> None:
        """Wake the waiters whose task has another revision than they have seen: their notification was lost."""
        if not self._waiters:
            return
        found = {row["id"]: row["revision"] for row in await self._pool.fetch(REVISIONS, list(self._waiters))}
        for task, waiters in tuple(self._waiters.items()):
            if any(waiter.revision and waiter.revision != found.get(task) for waiter in waiters):
                self._wake(task)
