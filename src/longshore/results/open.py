"""Which store the settings ask for, and what is asked of either."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

from longshore.results.objects import BucketStore, ObjectFile
from longshore.results.store import LocalStore, ResultFile
from longshore.settings import Settings

Store: TypeAlias = LocalStore | BucketStore
File: TypeAlias = ResultFile | ObjectFile


def open_store(settings: Settings) -> Store:
    """The store for results. Raises StoreError when the environment does not fit `results_url`."""
    return BucketStore(settings.results_url) if settings.results_url else LocalStore(settings.results_folder)


@contextlib.asynccontextmanager
async def written_aside(store: Store, location: str) -> AsyncIterator[File]:
    """A result being written; what is not published on leaving is removed, in a thread, as a store may be slow."""
    file: File = await asyncio.to_thread(store.create, location)
    try:
        yield file
    finally:
        await asyncio.to_thread(file.close)
