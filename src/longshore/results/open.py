"""Opening the store that the settings name, and results in it."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.own_thread import opened_in_thread
from longshore.results.store import Result, Store
from longshore.settings import Settings

RESULTS = "results"
"""The folder of the local store, below that of the data."""

T = TypeVar("T", bound=Result)


def open_store(settings: Settings) -> Store:
    """Return the store for results. Raises StoreError if the environment does not fit `results_url`."""
    return BucketStore(settings.results_url) if settings.results_url else LocalStore(settings.data / RESULTS)


def open_result(begin: Callable[[str], T], location: str) -> AbstractAsyncContextManager[tuple[T, ThreadPoolExecutor]]:
    """Return a result and its thread as a context; on leaving, the result is removed unless it was published.

    `begin`: `Store.create` or `Store.assemble`.
    """
    return opened_in_thread(functools.partial(begin, location))
