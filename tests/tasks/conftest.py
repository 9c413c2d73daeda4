"""What tests of tasks share: a pool of a database whose tasks no worker takes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from longshore.database.connect import Pool, open_pool
from tests.service import Longshore


@pytest.fixture
def run(idle: Longshore) -> Iterator[Callable[[Callable[[Pool], Awaitable[None]]], None]]:
    """Runs a test with a pool of a database whose tasks nobody works on; what it made is removed."""

    def run(test: Callable[[Pool], Awaitable[None]]) -> None:
        async def within() -> None:
            async with open_pool(idle.url, size=4, name="test") as pool:
                await test(pool)

        asyncio.run(within())

    yield run
    idle.sql("delete from longshore.tasks where chain_id in (501, 502)")
    idle.sql("delete from longshore.pgqueuer")
