"""The queue: PgQueuer, and what a message in it says.

A message is only "begin attempt K of task N". It is sent in the transaction that makes it true; whether it still is
true is for the task row to say (see lifecycle.begin). A message is never sent twice while one is on its way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.core.tm import TaskManager
from pgqueuer.domain.models import Job
from pgqueuer.ports.driver import Driver, NotifyCallback

from longshore.database.connect import Connection, Pool, is_transient
from longshore.database.listener import Listener
from longshore.database.queue_schema import QUEUE_SETTINGS, queries_over
from longshore.tasks.model import TaskId

log = structlog.get_logger()

POLL = timedelta(seconds=2)  # how often to look at the queue even if no notification comes

LEAST_TAKEN = 2  # messages that PgQueuer takes at a time at the least

ENTRYPOINT = "longshore.run"
SHARD_ENTRYPOINT = "longshore.shard"


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Begin this attempt of this task."""

    task: TaskId
    attempt: int

    @property
    def key(self) -> str:
        """What makes a message the same as another one."""
        return f"{self.task}:{self.attempt}"


class ShardMessage(msgspec.Struct, frozen=True, array_like=True):
    """Begin this shard of an attempt of a task."""

    task: TaskId
    attempt: int
    number: int

    @property
    def key(self) -> str:
        """What makes a message the same as another one."""
        return f"{self.task}:{self.attempt}:{self.number}"

    @property
    def of(self) -> Message:
        """The attempt that it is a part of."""
        return Message(self.task, self.attempt)


async def send(connection: Connection, messages: Sequence[Message], delay: float = 0.0) -> None:
    """Send messages within the connection's transaction, to be delivered `delay` seconds from now at the earliest."""
    await _send(connection, ENTRYPOINT, messages, delay)


async def send_shards(connection: Connection, messages: Sequence[ShardMessage]) -> None:
    """Send messages of shards, as `send` does those of tasks."""
    await _send(connection, SHARD_ENTRYPOINT, messages, 0.0)


async def _send(
    connection: Connection, entrypoint: str, messages: Sequence[Message | ShardMessage], delay: float
) -> None:
    if messages:
        await queries_over(AsyncpgDriver(connection)).enqueue(  # type: ignore[arg-type]  # a pool's proxy is one too
            [entrypoint] * len(messages),
            [msgspec.json.encode(message) for message in messages],
            [0] * len(messages),
            [timedelta(seconds=delay)] * len(messages),
            [message.key for message in messages],
            on_conflict="skip",
        )


def read_message(payload: bytes | None) -> Message:
    """The message in a job's payload."""
    return msgspec.json.decode(payload or b"", type=Message)


def read_shard(payload: bytes | None) -> ShardMessage:
    """The message of a shard in a job's payload."""
    return msgspec.json.decode(payload or b"", type=ShardMessage)


class PatientDriver(Driver):
    """PgQueuer's way to the database, which outlives the database's absence.

    A statement that fails because the server is away is tried again until it is back: all that PgQueuer sends here
    (take, beat, tick off) may be sent twice. Notifications come over a connection that is opened again when lost.
    """

    def __init__(self, pool: Pool, url: str) -> None:
        self._pool = pool
        self._url = url
        self._shutdown = asyncio.Event()
        self._manager = TaskManager()
        self._listeners: list[Listener] = []

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return [dict(row) for row in await self._patiently(self._pool.fetch, query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        return str(await self._patiently(self._pool.execute, query, *args))

    async def notify(self, channel: str, payload: str) -> None:
        await self._patiently(self._pool.execute, "select pg_notify($1, $2)", channel, payload)

    async def _patiently(self, call: Any, query: str, *args: object) -> Any:
        pause = 0.1
        while True:
            try:
                return await call(query, *args)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if not is_transient(error) or self._shutdown.is_set():
                    raise
                log.warning("queue out of reach", error=str(error), again_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        # What was announced while the connection was lost is found by PgQueuer's own regular look at the queue.
        listener = Listener(self._url, channel, callback, lambda: None)
        self._listeners.append(listener)
        await listener.__aenter__()
        await listener.connected.wait()

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return self._manager

    async def __aenter__(self) -> "PatientDriver":
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self._listeners:
            await listener.__aexit__()
        self._listeners.clear()


class Taker:
    """Takes messages of one kind, as many at a time as may be handled, until it is stopped."""

    def __init__(
        self,
        pool: Pool,
        url: str,
        entrypoint: str,
        handle: Callable[[Job], Awaitable[None]],
        most: int,
        heartbeat: timedelta,
    ) -> None:
        """`heartbeat`: without a sign of life for so long, a worker is lost, and its messages come to others."""
        self._driver = PatientDriver(pool, url)
        self._manager = QueueManager(queries_over(self._driver), QUEUE_SETTINGS.channel)
        self._manager.entrypoint(entrypoint, accepts_context=False)(handle)
        self._most = most
        self._heartbeat = heartbeat

    def stop(self) -> None:
        """Take no more messages."""
        self._manager.shutdown.set()
        self._driver.shutdown.set()

    async def run(self) -> None:
        """Take messages until stopped, and wait until what was taken is handled."""
        await self._manager.run(
            dequeue_timeout=POLL,
            batch_size=1,
            max_concurrent_tasks=self._most,
            heartbeat_timeout=self._heartbeat,
        )
