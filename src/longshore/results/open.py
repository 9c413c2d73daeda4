"""Which store the settings ask for, and what is asked of either."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeAlias, TypeVar

from longshore.results.bucket import BucketStore, ObjectFile
from longshore.results.local import LocalStore, ResultFile
from longshore.results.multipart import ObjectGathering, UploadedPiece
from longshore.results.pieces import Gathering, LocalGathering, LocalPiece, PieceWriter
from longshore.settings import Settings

Store: TypeAlias = LocalStore | BucketStore
File: TypeAlias = ResultFile | ObjectFile


class Closable(Protocol):
    """Can be closed. Blocking."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


def open_store(settings: Settings) -> Store:
    """The store for results. Raises StoreError when the environment does not fit `results_url`."""
    return BucketStore(settings.results_url) if settings.results_url else LocalStore(settings.results_folder)


Aside = contextlib.AbstractAsyncContextManager[tuple[T, ThreadPoolExecutor]]
"""A result and the thread in which all is asked of it; what is not published on leaving is removed.

What takes a store minutes must not hold up others, and what is given up in the middle has ended before it is removed.
"""


def written_aside(store: Store, location: str) -> Aside[File]:
    """A result that one worker writes."""
    return _aside(functools.partial(store.create, location))


def gathers(store: Store) -> bool:
    """Whether several workers can write one result there."""
    return isinstance(store, LocalStore) or store.bucket is not None


def gathered_aside(store: Store, location: str) -> Aside[Gathering]:
    """A result that several workers write."""
    return _aside(functools.partial(_gathering, store, location))


@contextlib.asynccontextmanager
async def _aside(make: Callable[[], T]) -> AsyncIterator[tuple[T, ThreadPoolExecutor]]:
    thread = ThreadPoolExecutor(1, "result")
    making = thread.submit(make)
    try:
        yield await asyncio.wrap_future(making), thread
    finally:
        await asyncio.get_running_loop().run_in_executor(thread, _close, making)
        thread.shutdown(wait=False)


def _close(making: Future[T]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


def _gathering(store: Store, location: str) -> Gathering:
    if isinstance(store, LocalStore):
        return LocalGathering(store.path(location))
    assert store.bucket is not None
    return ObjectGathering(store.bucket, location, functools.partial(store.open, location))


def piece(store: Store, location: str, upload: str, number: int, count: int, trial: int) -> PieceWriter:
    """Begin a piece of a result. Blocking.

    `upload`: the gathering's; `number`: of the piece, from 0, of `count`; `trial`: how often it was begun.
    """
    if isinstance(store, LocalStore):
        return LocalPiece(store.path(location), f"{number}-{trial}")
    assert store.bucket is not None
    return UploadedPiece(store.bucket, location, upload, number, count, trial)
