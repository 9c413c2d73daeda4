"""The place of PgQueuer's tables: the service's schema. Migrations and the running queue both take it from here."""

from typing import Any

from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.db import AsyncpgDriver
from pgqueuer.domain.settings import DBSettings
from pgqueuer.ports.driver import Driver

QUEUE_SETTINGS = DBSettings(db_schema="longshore")


def queries_of_driver(driver: Driver) -> Queries:
    """Return PgQueuer's statements for a driver, on the service's schema."""
    return Queries(
        driver,
        qbe=QueryBuilderEnvironment(QUEUE_SETTINGS),
        qbq=QueryQueueBuilder(QUEUE_SETTINGS),
        qbs=QuerySchedulerBuilder(QUEUE_SETTINGS),
    )


def queries_of_connection(connection: Any) -> Queries:
    """Return PgQueuer's statements for an asyncpg connection, within its transaction."""
    return queries_of_driver(AsyncpgDriver(connection))
