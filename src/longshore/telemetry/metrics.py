"""Metrics of one process, for Prometheus. `tasks.queue_metrics` has those of all tasks, from the database."""

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from longshore.database.connect import Pool

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)

QUEUE_SECONDS = Histogram(
    "longshore_queue_wait_seconds", "Seconds from when a run was due until a worker began it.", buckets=SECONDS
)
RUN_SECONDS = Histogram(
    "longshore_run_seconds", "Seconds that the last attempts of DONE runs took.", ["action"], buckets=SECONDS
)
RUNS = Counter("longshore_runs", "Runs that ended here, by action and state.", ["action", "state"])
ROWS = Counter("longshore_rows", "Rows written, by attempts that failed later too.", ["action"])
BYTES = Counter("longshore_bytes", "Bytes written, by attempts that failed later too.", ["action"])
RETRIES = Counter("longshore_retries", "Attempts that failed here and are followed by another.", ["action"])
POOL_CONNECTIONS = Gauge("longshore_pool_connections", "Connections of a pool.", ["pool", "state"])
LOST_ATTEMPTS = Counter("longshore_lost_attempts", "Attempts whose worker was lost, found by this one.")


def create_series(actions: Iterable[str]) -> None:
    """Create the series of these actions with 0, as Prometheus sees no increase in the first value of a series."""
    for action in actions:
        for state in ("DONE", "ERROR"):
            RUNS.labels(action, state)
        for each in (ROWS, BYTES, RETRIES, RUN_SECONDS):
            each.labels(action)


def count_written(action: str, rows: int, size: int) -> None:
    """Count the rows and bytes written since the last call."""
    ROWS.labels(action).inc(max(0, rows))
    BYTES.labels(action).inc(max(0, size))


@contextlib.contextmanager
def export_pool_metrics(**pools: Pool) -> Iterator[None]:
    """Export metrics of the named pools while the context is open."""
    for name, pool in pools.items():
        POOL_CONNECTIONS.labels(name, "busy").set_function(partial(_busy, pool))
        POOL_CONNECTIONS.labels(name, "idle").set_function(pool.get_idle_size)
    try:
        yield
    finally:
        POOL_CONNECTIONS.clear()


def _busy(pool: Pool) -> int:
    return pool.get_size() - pool.get_idle_size()
