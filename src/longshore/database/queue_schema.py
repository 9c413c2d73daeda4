"""Where PgQueuer keeps its tables: in the service's own schema, under its own names.

Both the migration and the queue of the running service come here for it, so that they cannot differ.
"""

from typing import Any

from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.db import AsyncpgDriver
from pgqueuer.domain.settings import DBSettings
from pgqueuer.ports.driver import Driver

QUEUE_SETTINGS = DBSettings(db_schema="longshore")


def queries_over(driver: Driver) -> Queries:
    """PgQueuer's statements over a driver, aimed at the service's schema."""
    return Queries(
        driver,
        qbe=QueryBuilderEnvironment(QUEUE_SETTINGS),
        qbq=QueryQueueBuilder(QUEUE_SETTINGS),
        qbs=QuerySchedulerBuilder(QUEUE_SETTINGS),
    )


def queries_on(connection: Any) -> Queries:
    """PgQueuer's statements on one asyncpg connection, inside whatever transaction it is in."""
    return queries_over(AsyncpgDriver(connection))
