"""Fixtures of the tests of tasks: a pool of a database without a worker."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from longshore.database.connect import Pool, open_pool
from tests.service import Longshore


@pytest.fixture
def run(idle: Longshore) -> Iterator[Callable[[Callable[[Pool], Awaitable[None]]], None]]:
    """Run a test with a pool of a database without a worker; its tasks are deleted afterwards."""

    def run(test: Callable[[Pool], Awaitable[None]]) -> None:
        async def within() -> None:
            async with open_pool(idle.url, size=4, name="test") as pool:
                await test(pool)

        asyncio.run(within())

    yield run
    idle.sql("delete from longshore.tasks where chain_id in (501, 502)")
    idle.sql("delete from longshore.pgqueuer")
