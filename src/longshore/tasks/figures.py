"""How all tasks of the service stand, for Prometheus. The database tells, so any API process tells of all machines."""

import asyncio
import time

import asyncpg
import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from longshore.database.connect import Pool

log = structlog.get_logger()

AGE = 10.0  # seconds that figures are told again for, whoever asks and how often
TIMEOUT = 5.0  # seconds for the database to tell

# Chain 0 is the service's own.
BY_STATE = """
select state, case when chain_id = 0 then 'service' else 'retailer' end as chain_class, count(*) as tasks
from longshore.tasks
group by 1, 2
"""

QUEUE = """
select count(*) as waiting, greatest(extract(epoch from now() - min(waits_since)), 0)::float8 as oldest,
       count(*) filter (where parked) as parked
from longshore.tasks
where attempt_began_at is null and due_at is null
"""

# A run that gives no sign of life is taken over after the heartbeat timeout; one that is silent for longer is stuck.
RUNNING = """
select coalesce(max(extract(epoch from now() - r.attempt_began_at)), 0)::float8 as longest,
       coalesce(max(extract(epoch from now() - r.progress_at)), 0)::float8 as silent
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.state = 'INPROGRESS'
"""

WORKERS = """
select count(distinct application_name) from pg_stat_activity
where datname = current_database() and application_name like 'longshore worker %'
"""

DELIVERIES = "select count(*) from longshore.deliveries where due_at is not null"


class Figures(msgspec.Struct, frozen=True):
    """What the database told."""

    by_state: list[tuple[str, str, int]]
    waiting: int
    parked: int
    oldest: float
    longest: float
    silent: float
    workers: int
    deliveries: int


class FiguresCollector:
    """Gives Prometheus the figures that were asked for last; see `refresh`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asked_at = -AGE
        self._asking = asyncio.Lock()
        self._found: Figures | None = None

    async def refresh(self) -> None:
        """Ask the database, unless that was done a moment ago. Raises nothing: without figures, none are told."""
        async with self._asking:
            if time.monotonic() - self._asked_at < AGE:
                return
            self._asked_at = time.monotonic()
            try:
                self._found = await self._ask()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                self._found = None
                log.warning("figures not told", error=str(error))

    async def _ask(self) -> Figures:
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(f"set local statement_timeout = {TIMEOUT * 1000:.0f}")
            states = await connection.fetch(BY_STATE)
            queue, running = await connection.fetchrow(QUEUE), await connection.fetchrow(RUNNING)
            assert queue is not None
            assert running is not None
            return Figures(
                by_state=[(row["state"], row["chain_class"], row["tasks"]) for row in states],
                waiting=queue["waiting"],
                parked=queue["parked"],
                oldest=queue["oldest"],
                longest=running["longest"],
                silent=running["silent"],
                workers=await connection.fetchval(WORKERS),
                deliveries=await connection.fetchval(DELIVERIES),
            )

    def metrics(self) -> list[Metric]:
        """The figures as Prometheus takes them; none where the database did not tell."""
        found = self._found
        if found is None:
            return []
        tasks = GaugeMetricFamily("longshore_tasks", "Tasks by state.", labels=["state", "chain_class"])
        for state, chain_class, count in found.by_state:
            tasks.add_metric([state, chain_class], count)
        return [
            tasks,
            GaugeMetricFamily("longshore_queue_tasks", "Tasks that are due and have not begun.", value=found.waiting),
            GaugeMetricFamily(
                "longshore_queue_parked_tasks", "Those of them whose chain runs as many as it may.", value=found.parked
            ),
            GaugeMetricFamily(
                "longshore_queue_oldest_seconds", "How long the one has waited that waits longest.", value=found.oldest
            ),
            GaugeMetricFamily(
                "longshore_run_longest_seconds", "How long the attempt has run that runs longest.", value=found.longest
            ),
            GaugeMetricFamily(
                "longshore_run_silent_seconds",
                "Since a run last made progress, the longest.",
                value=found.silent,
            ),
            GaugeMetricFamily("longshore_workers", "Workers that are connected to the database.", value=found.workers),
            GaugeMetricFamily(
                "longshore_webhook_deliveries_pending", "Webhook deliveries still to be made.", value=found.deliveries
            ),
        ]
