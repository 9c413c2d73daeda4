"""Behavior during an outage of the service's database: wait for it, or continue without it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import asyncpg
import structlog

from longshore.database.connect import Pool, is_transient

log = structlog.get_logger()

MAX_PAUSE_SECONDS = 5.0
START_PAUSE_SECONDS = 1.0
REPEAT_SECONDS = 60.0

T = TypeVar("T")


async def retry_until_available(step: Callable[..., Awaitable[Any]], pool: Pool, *args: Any, **options: Any) -> Any:
    """Run a step in the database and retry it after transient errors. Raises permanent errors."""
    pause = 0.1
    while True:
        try:
            return await step(pool, *args, **options)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if not is_transient(error):
                raise
            log.warning("database out of reach", step=step.__name__, error=str(error), again_in=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, MAX_PAUSE_SECONDS)


async def when_served(step: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run a step at the start of a process; while the server refuses temporarily, retry it.

    Such refusals are: too many connections, starting up, shutting down, read-only. They are logged once a minute. All
    other errors are raised at once, also those of a server that does not answer, as its address may be wrong.
    """
    reason, logged_at = "", 0.0
    while True:
        try:
            return await step(*args)
        except asyncpg.PostgresError as error:
            if not is_transient(error):
                raise
            if str(error) != reason or time.monotonic() - logged_at > REPEAT_SECONDS:
                reason, logged_at = str(error), time.monotonic()
                log.warning("waiting for the database", reason=reason)
        await asyncio.sleep(START_PAUSE_SECONDS)


@contextlib.contextmanager
def ignore_outage(event: str, **facts: object) -> Iterator[None]:
    """Log `event` and continue after a transient error, for data that is written again later. Raises other errors."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if not is_transient(error):
            raise
        log.warning(event, error=str(error), **facts)
