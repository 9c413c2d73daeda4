"""Metrics of all tasks of the service, for Prometheus. They come from the database, so any API process exports them."""

import asyncio
import time

import asyncpg
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from longshore.database.connect import Connection, Pool
from longshore.database.retry import DATABASE_ERRORS
from longshore.tasks.conditions import RUNNING, SENT
from longshore.tasks.queue import Message

log = structlog.get_logger()

MAX_AGE_SECONDS = 10.0  # for which figures are reused, however often they are scraped
TIMEOUT_SECONDS = 5.0  # of each statement

# Chain 0 holds the tasks of the service itself.
BY_STATE = """
select state, case when chain_id = 0 then 'service' else 'chain' end as chain_class, count(*) as tasks
from longshore.tasks
group by 1, 2
"""

# The columns of these statements are the metrics with one value, without `longshore_`.

# A task's message is sent once its chain has a free slot; the time that it waits from then on depends on the workers.
QUEUE = f"""
select sent.tasks + parked.tasks as queue_tasks, parked.tasks as queue_parked_tasks,
       (select greatest(0, coalesce(extract(epoch from now() - min(due_at)), 0))::float8
        from longshore.tasks where due_at is not null and not paused) as schedule_late_seconds,
       (select coalesce(extract(epoch from now() - min(greatest(created, execute_after))), 0)::float8
        from longshore.pgqueuer
        where entrypoint = $1 and status = 'queued' and execute_after <= now()) as queue_oldest_seconds
from (
    select count(*) as tasks from longshore.tasks t where {SENT}
) sent,
(
    select count(*) as tasks from longshore.tasks where parked
) parked
"""

# A run without a heartbeat is taken over after the heartbeat timeout; one without progress for longer is stuck.
RUNNING_ATTEMPTS = f"""
select coalesce(max(extract(epoch from now() - r.attempt_began_at)), 0)::float8 as run_longest_seconds,
       coalesce(max(extract(epoch from now() - r.progress_at)), 0)::float8 as run_silent_seconds
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run
where {RUNNING}
"""

WORKERS = """
select count(distinct application_name) as workers from pg_stat_activity
where datname = current_database() and application_name like 'longshore worker %'
"""

WEBHOOK_DELIVERIES = """
select count(*) as webhook_deliveries_pending from longshore.webhook_deliveries where due_at is not null
"""

DELIVERIES = """
select count(*) as deliveries_pending,
       coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as delivery_oldest_seconds
from longshore.run_deliveries
where state = 'pending'
"""

GAUGES = {
    "queue_tasks": "Tasks that are due and have not begun.",
    "queue_parked_tasks": "Those of them whose chain runs as many as it may.",
    "queue_oldest_seconds": "Seconds that the oldest message has waited for a worker; parked tasks have none.",
    "schedule_late_seconds": "Seconds since the oldest due task whose message has not been sent was due.",
    "run_longest_seconds": "How long the attempt has run that runs longest.",
    "run_silent_seconds": "Seconds without progress, of the running attempt with the most.",
    "workers": "Workers connected to the database.",
    "webhook_deliveries_pending": "Webhook deliveries still to be made.",
    "deliveries_pending": "Deliveries of results to destinations still to be made.",
    "delivery_oldest_seconds": "Seconds since the oldest of them was asked for.",
}
"""The help of each metric with one value."""


async def _by_state(connection: Connection) -> list[tuple[str, str, int]]:
    """Count the tasks by state. This alone takes longer the more tasks there are; after the timeout it is left out."""
    try:
        async with connection.transaction():
            return [(row["state"], row["chain_class"], row["tasks"]) for row in await connection.fetch(BY_STATE)]
    except asyncpg.QueryCanceledError:
        log.warning("tasks not counted by state", seconds=TIMEOUT_SECONDS)
        return []


class QueueMetricsCollector(Collector):
    """Exports the metrics that `refresh` read last."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._read_at = -MAX_AGE_SECONDS
        self._reading = asyncio.Lock()
        self._metrics: list[Metric] = []

    async def refresh(self) -> None:
        """Read the figures, unless they are recent. Raises nothing: without figures, no metrics are exported."""
        async with self._reading:
            if time.monotonic() - self._read_at < MAX_AGE_SECONDS:
                return
            self._read_at = time.monotonic()
            try:
                self._metrics = await self._read()
            except DATABASE_ERRORS as error:
                self._metrics = []
                log.warning("metrics of tasks not read", error=str(error))

    async def _read(self) -> list[Metric]:
        figures: dict[str, float] = {}
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(f"set local statement_timeout = {TIMEOUT_SECONDS * 1000:.0f}")
            for statement, *args in (
                (QUEUE, Message.entrypoint),
                (RUNNING_ATTEMPTS,),
                (WORKERS,),
                (WEBHOOK_DELIVERIES,),
                (DELIVERIES,),
            ):
                row = await connection.fetchrow(statement, *args)
                assert row is not None
                figures.update(row)
            by_state = await _by_state(connection)
        tasks = GaugeMetricFamily("longshore_tasks", "Tasks by state.", labels=["state", "chain_class"])
        for state, chain_class, count in by_state:
            tasks.add_metric([state, chain_class], count)
        return [
            tasks,
            *(GaugeMetricFamily(f"longshore_{name}", about, figures[name]) for name, about in GAUGES.items()),
        ]

    def collect(self) -> list[Metric]:
        """Return the metrics; an empty list if the figures could not be read."""
        return self._metrics
