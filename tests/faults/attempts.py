"""Tasks and attempts made by hand, for tests that play a worker's part themselves."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

import msgspec
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.domain.models import Job
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter

from longshore.database.connect import Pool, open_pool
from longshore.database.queue_schema import queries_of_driver
from longshore.tasks import requests
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message, ShardMessage, decode
from longshore.tasks.requests import NewTask
from longshore.tasks.schedule import Schedule
from tests.service import CHAIN, Longshore, export_body

T = TypeVar("T")


def new_task() -> NewTask:
    """An export that is due now."""
    body = export_body()
    return NewTask(
        chain=ChainId(CHAIN),
        desc=body["desc"],
        action="export",
        trigger=msgspec.json.encode(body["trigger"]).decode(),
        target=msgspec.json.encode(body["target"]).decode(),
        debug="",
        schedule=Schedule(once=datetime(2026, 5, 26, 12, tzinfo=UTC)),
    )


def with_pool(service: Longshore, test: Callable[[Pool], Awaitable[T]]) -> T:
    """Run `test` with a pool of the service's database."""

    async def run() -> T:
        async with open_pool(service.url, size=4, name="test") as pool:
            return await test(pool)

    return asyncio.run(run())


async def created(pool: Pool) -> Message:
    """A new task's first message."""
    async with pool.acquire() as connection, connection.transaction():
        return Message(TaskId(await requests.create(connection, new_task())), 1)


async def executed(pool: Pool, task: TaskId) -> Message:
    """Ask for a run of a task, and give its message."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from longshore.tasks where id = $1 for update", task)
        await requests.execute(connection, ChainId(CHAIN), task)
        return Message(task, await connection.fetchval("select attempt from longshore.tasks where id = $1", task))


async def taken(pool: Pool, message: Message | ShardMessage) -> Job:
    """Take a message from the queue, as PgQueuer hands it to a worker."""
    parameters = EntrypointExecutionParameter(concurrency_limit=0)
    [job] = await queries_of_driver(AsyncpgPoolDriver(pool)).dequeue(
        batch_size=1,
        entrypoints={QueueEntrypoint(message.entrypoint): parameters},
        queue_manager_id=QueueManagerId(uuid4()),
        global_concurrency_limit=None,
        heartbeat_timeout=timedelta(seconds=30),
    )
    assert decode(job.payload, type(message)) == message
    return job
