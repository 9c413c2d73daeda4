"""The queue: PgQueuer's consumer, and the messages.

A message says "begin attempt K of task N". It is sent in the transaction that creates the attempt; a worker checks it
against the task's row (`attempts.begin`). No message is sent while the same one is in the queue.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, TypeVar

import msgspec
import structlog
from pgqueuer import Job, QueueManager
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import Driver, NotifyCallback

from longshore.database.connect import Connection, Pool
from longshore.database.listener import Listener
from longshore.database.queue_schema import QUEUE_SETTINGS, queries_of_connection, queries_of_driver
from longshore.database.retry import QUEUE, retry
from longshore.tasks.model import TaskId

log = structlog.get_logger()

POLL_INTERVAL = timedelta(seconds=2)  # between reads of the queue without a notification

PROBE_AFTER_SECONDS = 1.0  # without an answer of the database
MIN_OUTAGE_SECONDS = POLL_INTERVAL.total_seconds() + 1.0  # longer than a poll and a slow answer

MIN_CONCURRENCY = 2  # the least that PgQueuer allows


class Message(msgspec.Struct, frozen=True, array_like=True):
    """The message "begin this attempt of this task"."""

    entrypoint: ClassVar[str] = "longshore.run"
    """PgQueuer's name of the handler."""
    task: TaskId
    attempt: int

    @property
    def key(self) -> str:
        """The deduplication key of the message."""
        return f"{self.task}:{self.attempt}"


class ShardMessage(msgspec.Struct, frozen=True, array_like=True):
    """The message "begin this shard of an attempt"."""

    entrypoint: ClassVar[str] = "longshore.shard"
    task: TaskId
    attempt: int
    number: int

    @property
    def key(self) -> str:
        """The deduplication key of the message."""
        return f"{self.task}:{self.attempt}:{self.number}"

    @property
    def of(self) -> Message:
        """The attempt that the shard belongs to."""
        return Message(self.task, self.attempt)


class DeliveryMessage(msgspec.Struct, frozen=True, array_like=True):
    """The message "begin this attempt of a delivery of a run"."""

    entrypoint: ClassVar[str] = "longshore.delivery"
    task: TaskId
    run: int
    number: int
    """Number of the delivery, from 1 for each run."""
    attempt: int

    @property
    def key(self) -> str:
        """The deduplication key of the message."""
        return f"delivery:{self.task}:{self.run}:{self.number}:{self.attempt}"


AnyMessage = Message | ShardMessage | DeliveryMessage
M = TypeVar("M", bound=AnyMessage)


async def send(connection: Connection, messages: Sequence[AnyMessage], delay: float = 0.0) -> None:
    """Send messages in the connection's transaction, for delivery in `delay` seconds or later."""
    if messages:
        await queries_of_connection(connection).enqueue(
            [message.entrypoint for message in messages],
            [msgspec.json.encode(message) for message in messages],
            [0] * len(messages),
            [timedelta(seconds=delay)] * len(messages),
            [message.key for message in messages],
            on_conflict="skip",
        )


def decode(payload: bytes | None, kind: type[M]) -> M:
    """Return the message in a job's payload. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(payload or b"", type=kind)


class RetryingDriver(Driver):
    """PgQueuer's driver, which survives outages of the database.

    A statement that fails with a transient error is repeated until the server is back: all that PgQueuer sends here
    (claim, heartbeat, completion) may be sent twice. A lost connection for notifications is opened again.

    During an outage no worker can send heartbeats, so jobs of live workers look lost afterwards. A claim then waits
    until each live worker has had the time for one.
    """

    def __init__(self, pool: Pool, url: str, heartbeat_timeout: timedelta) -> None:
        self._pool = pool
        self._url = url
        self._beat_seconds = heartbeat_timeout.total_seconds() / 2  # PgQueuer's pause between two heartbeats
        self._answered_at: float | None = None
        self._shutdown = asyncio.Event()
        self._manager = TaskManager()
        self._listeners: list[Listener] = []

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        # Claims are among these statements; heartbeats and completions are not.
        return [dict(row) for row in await self._retried(self._fetch_after_outage, query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        return str(await self._retried(self._pool.execute, query, *args))

    async def notify(self, channel: str, payload: str) -> None:
        await self._retried(self._pool.execute, "select pg_notify($1, $2)", channel, payload)

    async def _fetch_after_outage(self, query: str, *args: object) -> Any:
        last = self._answered_at
        if last is not None and time.monotonic() - last > PROBE_AFTER_SECONDS:
            # A server that stands still would run a claim as soon as it continues, so the outage has to end before. One
            # that is read-only takes no heartbeats, and refuses this.
            await self._pool.execute("select from longshore.pgqueuer limit 0 for update")
            if time.monotonic() - last > max(MIN_OUTAGE_SECONDS, self._beat_seconds):
                # Each worker beats at this pace, and repeats a beat that failed after the longest pause.
                pause = self._beat_seconds + QUEUE.longest
                log.info("taking no jobs after an outage of the database", seconds=pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._shutdown.wait(), pause)
                    return []  # a worker that stops takes no job, least of all one that only looks lost
        rows = await self._pool.fetch(query, *args)
        self._answered_at = time.monotonic()
        return rows

    async def _retried(self, call: Any, query: str, *args: object) -> Any:
        return await retry(partial(call, query, *args), QUEUE, ended=self._shutdown.is_set)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        # PgQueuer reads the queue every POLL_INTERVAL, so notifications that are lost with a connection are harmless.
        listener = Listener(self._url, channel, callback, lambda: None)
        self._listeners.append(listener)
        await listener.__aenter__()
        # A worker that is told to stop does not wait for a server that refuses this connection.
        waits = [asyncio.create_task(event.wait()) for event in (listener.connected, self._shutdown)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return self._manager

    async def __aenter__(self) -> "RetryingDriver":
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self._listeners:
            await listener.__aexit__()
        self._listeners.clear()


class Consumer:
    """Takes messages of one kind and handles a limited number of them at a time."""

    def __init__(  # noqa: PLR0913 (each is given once, by the worker's start)
        self,
        pool: Pool,
        url: str,
        entrypoint: str,
        handle: Callable[[Job], Awaitable[None]],
        concurrency: int,
        heartbeat: timedelta,
    ) -> None:
        """`heartbeat`: a worker without a heartbeat for this long is lost, and others receive its messages."""
        self._driver = RetryingDriver(pool, url, heartbeat)
        self._manager = QueueManager(queries_of_driver(self._driver), QUEUE_SETTINGS.channel)
        self._manager.entrypoint(entrypoint, accepts_context=False)(handle)
        self._concurrency = concurrency
        self._heartbeat = heartbeat

    def stop(self) -> None:
        """Take no more messages."""
        self._manager.shutdown.set()
        self._driver.shutdown.set()

    async def run(self) -> None:
        """Take messages until stopped, then wait until all of them are handled."""
        await self._manager.run(
            dequeue_timeout=POLL_INTERVAL,
            batch_size=1,
            max_concurrent_tasks=self._concurrency,
            heartbeat_timeout=self._heartbeat,
        )
