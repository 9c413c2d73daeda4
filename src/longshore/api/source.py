"""Connections of requests to the source: its errors are not those of the service's database."""

import contextlib
from collections.abc import AsyncIterator

import structlog

from longshore.api.service import Service
from longshore.database.connect import Connection
from longshore.errors import ProblemError
from longshore.exports.catalog import Index

log = structlog.get_logger()

SLOW_RETRY_SECONDS = 10  # for a source that is away, or too busy to plan a query


@contextlib.asynccontextmanager
async def source_connection(service: Service, index: Index) -> AsyncIterator[Connection]:
    """A connection to the database of an index. Raises ProblemError where there is none, whatever the reason."""
    if index.in_service_database:
        async with service.pool.acquire() as connection:
            yield connection
        return
    try:
        connection = await service.source.acquire()
    except Exception as error:  # a refused password or certificate too, about which the operator alone can do something
        raise source_unavailable(error) from None
    try:
        yield connection
    finally:
        await service.source.release(connection)


def source_unavailable(error: Exception) -> ProblemError:
    """Return the problem of a source that cannot be reached. The reason is in the log alone."""
    log.warning("the source is out of reach", error=str(error))
    return ProblemError("unavailable", "The source cannot be reached.", {"Retry-After": str(SLOW_RETRY_SECONDS)})
