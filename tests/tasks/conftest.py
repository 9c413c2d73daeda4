"""Fixtures of the tests of tasks: a pool of a database without a worker, and a task with a schedule."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import httpx2
import pytest

from longshore.database.connect import Pool, open_pool
from tests.run_steps import play
from tests.service import Longshore, export_body


@pytest.fixture
def run(idle_service: Longshore) -> Iterator[Callable[[Callable[[Pool], Awaitable[None]]], None]]:
    """Run a test with a pool of a database without a worker; its tasks are deleted afterwards."""

    def run(test: Callable[[Pool], Awaitable[None]]) -> None:
        async def within() -> None:
            async with open_pool(idle_service.url, size=4, name="test") as pool:
                await test(pool)

        asyncio.run(within())

    yield run
    idle_service.sql("delete from longshore.tasks where chain_id in (501, 502)")
    idle_service.sql("delete from longshore.pgqueuer")


@pytest.fixture
def daily(idle_service: Longshore, idle_client: httpx2.Client) -> Iterator[int]:
    """A task of every night at six, whose first run has ended."""
    body = export_body(once="2026-01-01T06:00:00Z", repeat="daily")
    task = idle_client.post("/tasks", json=body).json()["id"]
    play(idle_service, task, "begin", "finish")
    yield task
    idle_service.sql("delete from longshore.tasks where id = $1", task)
    idle_service.sql("delete from longshore.pgqueuer")
