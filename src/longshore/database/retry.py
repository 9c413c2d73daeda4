"""What is done while the service's database is away: wait for it, or go on without it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import asyncpg
import structlog

from longshore.database.connect import Pool, is_transient

log = structlog.get_logger()

MOST_PAUSE = 5.0  # seconds
START_PAUSE_SECONDS = 1.0
REPEAT_SECONDS = 60.0

T = TypeVar("T")


async def retry_until_available(step: Callable[..., Awaitable[Any]], pool: Pool, *args: Any, **options: Any) -> Any:
    """Take a step in the database; while that is away, again and again. Raises what will not pass."""
    pause = 0.1
    while True:
        try:
            return await step(pool, *args, **options)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if not is_transient(error):
                raise
            log.warning("database out of reach", step=step.__name__, error=str(error), again_in=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, MOST_PAUSE)


async def when_served(step: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Take a step at the start of a process and return its result, once the server answers anything but "not now".

    That is too many connections, starting up, shutting down, or read-only. The log says why, again once a minute.
    Raises all other errors at once, also those of a server that does not answer: its address may be wrong.
    """
    told, said = "", 0.0
    while True:
        try:
            return await step(*args)
        except asyncpg.PostgresError as error:
            if not is_transient(error):
                raise
            if str(error) != told or time.monotonic() - said > REPEAT_SECONDS:
                told, said = str(error), time.monotonic()
                log.warning("waiting for the database", reason=told)
        await asyncio.sleep(START_PAUSE_SECONDS)


@contextlib.contextmanager
def ignore_outage(event: str, **facts: object) -> Iterator[None]:
    """Go on where the database is away, and log `event`; for what is written again later. Raises what will not pass."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if not is_transient(error):
            raise
        log.warning(event, error=str(error), **facts)
