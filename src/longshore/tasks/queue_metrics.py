"""Metrics of all tasks of the service, for Prometheus. They come from the database, so any API process exports them."""

import asyncio
import time
from collections.abc import Callable

import asyncpg
import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from longshore.database.connect import Connection, Pool
from longshore.database.retry import DATABASE_ERRORS
from longshore.tasks.queue import Message

log = structlog.get_logger()

MAX_AGE_SECONDS = 10.0  # for which figures are reused, however often they are scraped
TIMEOUT_SECONDS = 5.0  # of each statement

# Chain 0 holds the tasks of the service itself.
BY_STATE = """
select state, case when chain_id = 0 then 'service' else 'retailer' end as chain_class, count(*) as tasks
from longshore.tasks
group by 1, 2
"""

# A task's message is sent once its chain has a free slot; the time that it waits from then on depends on the workers.
QUEUE = """
select (select count(*) from longshore.tasks where attempt_began_at is null and due_at is null and not parked) as sent,
       (select count(*) from longshore.tasks where parked) as parked,
       (select greatest(0, coalesce(extract(epoch from now() - min(due_at)), 0))::float8
        from longshore.tasks where due_at is not null and not paused) as late,
       (select coalesce(extract(epoch from now() - min(greatest(created, execute_after))), 0)::float8
        from longshore.pgqueuer
        where entrypoint = $1 and status = 'queued' and execute_after <= now()) as oldest
"""

# A run without a heartbeat is taken over after the heartbeat timeout; one without progress for longer is stuck.
RUNNING = """
select coalesce(max(extract(epoch from now() - r.attempt_began_at)), 0)::float8 as longest,
       coalesce(max(extract(epoch from now() - r.progress_at)), 0)::float8 as silent
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.state = 'INPROGRESS' and not t.delivering and t.attempt_began_at is not null
"""

WORKERS = """
select count(distinct application_name) from pg_stat_activity
where datname = current_database() and application_name like 'longshore worker %'
"""

WEBHOOK_DELIVERIES = "select count(*) from longshore.webhook_deliveries where due_at is not null"

DELIVERIES = """
select count(*) as deliveries, coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_delivery
from longshore.run_deliveries
where state = 'pending'
"""


class QueueFigures(msgspec.Struct, frozen=True):
    """The figures that the metrics are made from. Times are in seconds, 0 where there is no such task."""

    by_state: list[tuple[str, str, int]]
    """State, chain class (`service` or `retailer`) and number of tasks."""
    sent: int
    """Tasks whose message waits in the queue."""
    parked: int
    """Due tasks whose chain has no free slot."""
    oldest: float
    """Time that the oldest message has waited."""
    late: float
    """Time since the oldest due task whose message has not been sent was due."""
    longest: float
    """Time since the oldest running attempt began."""
    silent: float
    """Longest time without progress of a running attempt."""
    workers: int
    webhook_deliveries: int
    deliveries: int
    oldest_delivery: float
    """Time since the oldest pending delivery was asked for."""


GAUGES: tuple[tuple[str, str, Callable[[QueueFigures], float]], ...] = (
    ("longshore_queue_tasks", "Tasks that are due and have not begun.", lambda it: it.sent + it.parked),
    ("longshore_queue_parked_tasks", "Those of them whose chain runs as many as it may.", lambda it: it.parked),
    (
        "longshore_queue_oldest_seconds",
        "Seconds that the oldest message has waited for a worker; parked tasks have none.",
        lambda it: it.oldest,
    ),
    (
        "longshore_schedule_late_seconds",
        "Seconds since the oldest due task whose message has not been sent was due.",
        lambda it: it.late,
    ),
    ("longshore_run_longest_seconds", "How long the attempt has run that runs longest.", lambda it: it.longest),
    (
        "longshore_run_silent_seconds",
        "Seconds without progress, of the running attempt with the most.",
        lambda it: it.silent,
    ),
    ("longshore_workers", "Workers connected to the database.", lambda it: it.workers),
    (
        "longshore_webhook_deliveries_pending",
        "Webhook deliveries still to be made.",
        lambda it: it.webhook_deliveries,
    ),
    (
        "longshore_deliveries_pending",
        "Deliveries of results to destinations still to be made.",
        lambda it: it.deliveries,
    ),
    (
        "longshore_delivery_oldest_seconds",
        "Seconds since the oldest of them was asked for.",
        lambda it: it.oldest_delivery,
    ),
)
"""Name, help and value of each metric with one value."""


async def _by_state(connection: Connection) -> list[tuple[str, str, int]]:
    """Count the tasks by state. This alone takes longer the more tasks there are; after the timeout it is left out."""
    try:
        async with connection.transaction():
            return [(row["state"], row["chain_class"], row["tasks"]) for row in await connection.fetch(BY_STATE)]
    except asyncpg.QueryCanceledError:
        log.warning("tasks not counted by state", seconds=TIMEOUT_SECONDS)
        return []


class FiguresCollector:
    """Exports the figures that `refresh` read last."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._read_at = -MAX_AGE_SECONDS
        self._reading = asyncio.Lock()
        self._figures: QueueFigures | None = None

    async def refresh(self) -> None:
        """Read the figures, unless they are recent. Raises nothing: without figures, no metrics are exported."""
        async with self._reading:
            if time.monotonic() - self._read_at < MAX_AGE_SECONDS:
                return
            self._read_at = time.monotonic()
            try:
                self._figures = await self._read()
            except DATABASE_ERRORS as error:
                self._figures = None
                log.warning("metrics of tasks not read", error=str(error))

    async def _read(self) -> QueueFigures:
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(f"set local statement_timeout = {TIMEOUT_SECONDS * 1000:.0f}")
            queue, running = await connection.fetchrow(QUEUE, Message.entrypoint), await connection.fetchrow(RUNNING)
            assert queue is not None
            assert running is not None
            workers, webhooks = await connection.fetchval(WORKERS), await connection.fetchval(WEBHOOK_DELIVERIES)
            deliveries = await connection.fetchrow(DELIVERIES)
            assert deliveries is not None
            by_state = await _by_state(connection)
            figures = {**queue, **running, **deliveries}
            return QueueFigures(by_state=by_state, workers=workers, webhook_deliveries=webhooks, **figures)

    def metrics(self) -> list[Metric]:
        """Return the metrics; an empty list if the figures could not be read."""
        figures = self._figures
        if figures is None:
            return []
        tasks = GaugeMetricFamily("longshore_tasks", "Tasks by state.", labels=["state", "chain_class"])
        for state, chain_class, count in figures.by_state:
            tasks.add_metric([state, chain_class], count)
        gauges = [GaugeMetricFamily(name, about, value=value_of(figures)) for name, about, value_of in GAUGES]
        return [tasks, *gauges]
