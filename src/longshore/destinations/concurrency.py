"""Work on many things, with some at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def map_concurrently(items: Iterable[T], work: Callable[[T], Awaitable[R]], at_a_time: int) -> list[R]:
    """Return what `work` returns for each item, in no order, with some at a time; the first error ends all."""
    coming = iter(items)
    done: list[R] = []

    async def working() -> None:
        for item in coming:
            done.append(await work(item))

    workers = [asyncio.create_task(working()) for _ in range(at_a_time)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return done
