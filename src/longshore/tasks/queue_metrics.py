"""How all tasks of the service stand, for Prometheus. The database tells, so any API process tells of all machines."""

import asyncio
import time

import asyncpg
import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from longshore.database.connect import Connection, Pool
from longshore.tasks.queue import ENTRYPOINT

log = structlog.get_logger()

AGE = 10.0  # seconds that figures are told again for, whoever asks and how often
TIMEOUT = 5.0  # seconds for the database to tell

# Chain 0 is the service's own.
BY_STATE = """
select state, case when chain_id = 0 then 'service' else 'retailer' end as chain_class, count(*) as tasks
from longshore.tasks
group by 1, 2
"""

# A task's message is sent once its chain lets it begin; how long it has waited since is for the workers to answer for.
QUEUE = """
select (select count(*) from longshore.tasks where attempt_began_at is null and due_at is null and not parked) as sent,
       (select count(*) from longshore.tasks where parked) as parked,
       (select greatest(0, coalesce(extract(epoch from now() - min(due_at)), 0))::float8
        from longshore.tasks where due_at is not null) as late,
       (select coalesce(extract(epoch from now() - min(greatest(created, execute_after))), 0)::float8
        from longshore.pgqueuer
        where entrypoint = $1 and status = 'queued' and execute_after <= now()) as oldest
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
    late: float
    longest: float
    silent: float
    workers: int
    deliveries: int


async def _by_state(connection: Connection) -> list[tuple[str, str, int]]:
    """The one figure that takes longer the more tasks there are; where it takes too long, it alone is not told."""
    try:
        async with connection.transaction():
            return [(row["state"], row["chain_class"], row["tasks"]) for row in await connection.fetch(BY_STATE)]
    except asyncpg.QueryCanceledError:
        log.warning("tasks not counted by state", seconds=TIMEOUT)
        return []


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
            queue, running = await connection.fetchrow(QUEUE, ENTRYPOINT), await connection.fetchrow(RUNNING)
            assert queue is not None
            assert running is not None
            return Figures(
                by_state=await _by_state(connection),
                waiting=queue["sent"] + queue["parked"],
                parked=queue["parked"],
                oldest=queue["oldest"],
                late=queue["late"],
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
                "longshore_queue_oldest_seconds",
                "How long the one has waited for a worker that waits longest; those that are parked left out.",
                value=found.oldest,
            ),
            GaugeMetricFamily(
                "longshore_schedule_late_seconds",
                "How long the task has been due that no worker has seen to, the longest.",
                value=found.late,
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
