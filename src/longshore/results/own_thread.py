"""Blocking work on results, which takes as long as they are large or their store is slow, in threads of its own."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Protocol, TypeVar, TypeVarTuple

from longshore.errors import LongshoreError


class Closable(Protocol):
    """A file, a result or a generator."""

    def close(self) -> object: ...


T = TypeVar("T")
C = TypeVar("C", bound=Closable)
A = TypeVarTuple("A")


@contextlib.asynccontextmanager
async def opened_in_thread(begin: Callable[[*A], C], *arguments: *A) -> AsyncIterator[tuple[C, ThreadPoolExecutor]]:
    """Yield the result of `begin`, and the only thread that uses it, which closes it on leaving.

    A thread of its own, so that a store that takes minutes delays nothing else. One thread, so that a call that was
    given up has ended before the close, which would otherwise wait for it on the event loop.
    """
    thread = _new_thread()
    beginning = thread.submit(begin, *arguments)
    try:
        yield await asyncio.wrap_future(beginning), thread
    finally:
        closing = asyncio.get_running_loop().run_in_executor(thread, _close, beginning)
        thread.shutdown(wait=False)
        await asyncio.shield(closing)  # a second cancellation must not keep it from being closed


def _new_thread() -> ThreadPoolExecutor:
    """Return a thread with the context of the caller, so that what it logs names the task, too."""
    return ThreadPoolExecutor(1, "result", _enter, (copy_context(),))


def _enter(context: Context) -> None:
    for variable, value in context.items():
        variable.set(value)


def _close(beginning: Future[C]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().close()


async def in_own_thread(work: Callable[[threading.Event], T]) -> T:
    """Return the result of blocking work, done in a thread of its own.

    asyncio has few threads, in which names of hosts are resolved and files removed, too. `work`: takes the event that
    is set when the caller is cancelled, and then ends. The caller waits for that, so that nothing is written later.
    """
    cancelled = threading.Event()
    thread = _new_thread()
    working = asyncio.get_running_loop().run_in_executor(thread, work, cancelled)
    try:
        await asyncio.wait({working})
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait({working})
        working.exception()  # of work that was ended: nobody else looks at it
        raise
    finally:
        cancelled.set()
        thread.shutdown(wait=False)
    return working.result()


def refuse_cancelled(cancelled: threading.Event) -> None:
    """Raise LongshoreError if `cancelled` is set: the result of the work is not needed any more."""
    if cancelled.is_set():
        raise LongshoreError("cancelled")
