"""Work that reads or copies whole results, which takes as long as they are large, in threads that nothing else uses."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from longshore.errors import LongshoreError

T = TypeVar("T")


async def in_own_thread(work: Callable[[threading.Event], T]) -> T:
    """Return the result of blocking work, done in a thread of its own.

    asyncio has few threads, in which names of hosts are resolved and files removed, too. `work`: takes the event that
    is set when the caller is cancelled, and then ends. The caller waits for that, so that nothing is written later.
    """
    cancelled = threading.Event()
    thread = ThreadPoolExecutor(1, "result")
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
