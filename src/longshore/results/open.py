"""Opening the store that the settings name, and results in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.store import Result, Store
from longshore.settings import Settings

RESULTS = "results"
"""The folder of the local store, below that of the data."""

T = TypeVar("T", bound=Result)


def open_store(settings: Settings) -> Store:
    """Return the store for results. Raises StoreError if the environment does not fit `results_url`."""
    return BucketStore(settings.results_url) if settings.results_url else LocalStore(settings.data / RESULTS)


@contextlib.asynccontextmanager
async def open_result(begin: Callable[[str], T], location: str) -> AsyncIterator[tuple[T, ThreadPoolExecutor]]:
    """A result and the only thread that uses it; on leaving, the result is removed unless it was published.

    `begin`: `Store.create` or `Store.assemble`. A thread of its own, so that a store that takes minutes delays nothing
    else; one thread, so that a call that was given up has ended before the result is removed.
    """
    thread = ThreadPoolExecutor(1, "result")
    beginning = thread.submit(begin, location)
    try:
        yield await asyncio.wrap_future(beginning), thread
    finally:
        await asyncio.get_running_loop().run_in_executor(thread, _close, beginning)
        thread.shutdown(wait=False)


def _close(beginning: Future[T]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().close()
