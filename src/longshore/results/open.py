"""Which store the settings ask for, and what is asked of either."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from longshore.results.multipart import ObjectGathering, UploadedPiece
from longshore.results.objects import BucketStore, ObjectFile
from longshore.results.pieces import Gathering, LocalGathering, LocalPiece, PieceWriter
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


def gathers(store: Store) -> bool:
    """Whether several workers can write one result there."""
    return isinstance(store, LocalStore) or store.bucket is not None


@contextlib.asynccontextmanager
async def gathered_aside(store: Store, location: str) -> AsyncIterator[tuple[Gathering, ThreadPoolExecutor]]:
    """A result that several workers write; what is not published on leaving is removed.

    It comes with a thread for whatever is asked of it: what takes minutes must not hold up others, and what is given
    up in the middle has ended before it is removed.
    """
    thread = ThreadPoolExecutor(1, "gather")
    run = functools.partial(asyncio.get_running_loop().run_in_executor, thread)
    try:
        gathering: Gathering = await run(_gathering, store, location)
        try:
            yield gathering, thread
        finally:
            await run(gathering.close)
    finally:
        thread.shutdown(wait=False)


def _gathering(store: Store, location: str) -> Gathering:
    if isinstance(store, LocalStore):
        return LocalGathering(store.path(location))
    assert store.bucket is not None
    return ObjectGathering(store.bucket, location)


def piece(store: Store, location: str, upload: str, number: int, count: int, trial: int) -> PieceWriter:
    """Begin a piece of a result. Blocking.

    `upload`: the gathering's; `number`: of the piece, from 0, of `count`; `trial`: how often it was begun.
    """
    if isinstance(store, LocalStore):
        return LocalPiece(store.path(location), f"{number}-{trial}")
    assert store.bucket is not None
    return UploadedPiece(store.bucket, location, upload, number, count, trial)
