"""Tasks and attempts made by hand, for tests that play a worker's part themselves."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from longshore.database.connect import Pool, open_pool
from longshore.tasks import lifecycle
from longshore.tasks.lifecycle import NewTask
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message
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
        return Message(TaskId(await lifecycle.create(connection, new_task())), 1)


async def executed(pool: Pool, task: TaskId) -> Message:
    """Ask for a run of a task, and give its message."""
    async with pool.acquire() as connection, connection.transaction():
        await lifecycle.execute(connection, ChainId(CHAIN), task)
        return Message(task, await connection.fetchval("select attempt from longshore.tasks where id = $1", task))
