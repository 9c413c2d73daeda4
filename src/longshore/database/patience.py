"""What is done while the service's database is away: wait for it, or go on without it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import structlog

from longshore.database.connect import Pool, is_passing

log = structlog.get_logger()

MOST_PAUSE = 5.0  # seconds


async def surely(step: Callable[..., Awaitable[Any]], pool: Pool, *args: Any, **options: Any) -> Any:
    """Take a step in the database; while that is away, again and again. Raises what will not pass."""
    pause = 0.1
    while True:
        try:
            return await step(pool, *args, **options)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if not is_passing(error):
                raise
            log.warning("database out of reach", step=step.__name__, error=str(error), again_in=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, MOST_PAUSE)


@contextlib.contextmanager
def unless_away(event: str, **facts: object) -> Iterator[None]:
    """Go on where the database is away, and log `event`; for what is written again later. Raises what will not pass."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if not is_passing(error):
            raise
        log.warning(event, error=str(error), **facts)
