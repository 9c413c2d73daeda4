"""Holds a table of a running service, so that a run that reads it stays INPROGRESS for as long as a test likes."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Let nobody read the table until this is left. `table` is SQL of the test's own."""
    taken, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute(f"lock table {table} in access exclusive mode")
                taken.set()
                await asyncio.to_thread(release.wait)
        finally:
            await connection.close()

    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    try:
        assert taken.wait(30), f"the lock on {table} was not to be had"
        yield
    finally:
        release.set()
        holder.join()
