"""The worker process: opens its connections, takes messages, and stops on SIGTERM or SIGINT."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import msgspec
import structlog
from prometheus_client import start_http_server

from longshore import actions as installed_actions
from longshore import destinations
from longshore.actions.action import attempt_runner
from longshore.database import migrate
from longshore.database.connect import Pool, open_pool
from longshore.database.listener import Listener
from longshore.database.requirements import require_sessions
from longshore.database.retry import DATABASE_ERRORS, is_transient, retry_until_available, retry_while_refused
from longshore.destinations.stored import Destinations
from longshore.errors import LongshoreError
from longshore.exports import catalog
from longshore.exports.exporter import Exporter, ExportSettings
from longshore.exports.rights import webhook_creator_may_see
from longshore.exports.run_errors import reason
from longshore.exports.shards.worker import ShardWorker
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections, SourceDatabases
from longshore.exports.source_limits import SourceLimits
from longshore.process_list import NAME, listed_while_running
from longshore.results.open import open_store
from longshore.settings import Settings
from longshore.tasks import quotas
from longshore.tasks.queue import MIN_CONCURRENCY, Consumer, DeliveryMessage, Message, ShardMessage
from longshore.tasks.quotas import RunAction
from longshore.tasks.scheduler import run_scheduler
from longshore.tasks.slots import SETTING as SLOTS
from longshore.tasks.waiters import CHANNEL
from longshore.telemetry import metrics, tracing
from longshore.vault import open_vault
from longshore.webhooks.dispatcher import Dispatcher
from longshore.worker import malloc
from longshore.worker.cleanup import ACTION, Cleanup, ensure_cleanup_task
from longshore.worker.delivery_runner import CONCURRENCY, DeliveryRunner
from longshore.worker.runner import Runner
from longshore.worker.running_attempts import RunningAttempts

log = structlog.get_logger()

MAX_SHARD_SILENCE_TIMEOUTS = 4  # of heartbeats, until the message of a shard is sent again
POOL_EXTRA = 5  # connections of the pool beside one for each attempt and shard
LISTENERS = 5  # connections that listen: one of each consumer, one for changes of tasks, one for webhooks


async def run_worker(settings: Settings, url: str, ready: Callable[[], None] = lambda: None) -> None:
    """Run a worker until SIGTERM or SIGINT. `url`: the service's database; `ready` is called once it takes messages.

    Raises LongshoreError for an unusable database or catalog before that.
    """
    malloc.limit_arenas()
    # Of Arrow's pools, measured: with the usual one an export of CSV takes a worker to 230 MB, with this one to 130.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(tracing.exporting("worker"))
        await retry_while_refused(migrate.check_database, url)
        is_source_available = await _is_source_available(settings)
        pools = await _open_pools(stack, settings, url)
        known = catalog.load(settings.catalog)
        running = RunningAttempts(pools.service, settings.shutdown_grace)
        runner = await _make_runner(settings, pools, known, running)
        vault = open_vault(settings)
        stored = Destinations(pools.service, destinations.load(settings), vault, settings)
        delivery_runner = DeliveryRunner(running, pools.service, stored.open, open_store(settings))
        await stack.enter_async_context(Listener(url, CHANNEL, running.on_task_change, running.check_all))
        stack.enter_context(metrics.export_pool_metrics(worker=pools.service, export=pools.source))
        await stack.enter_async_context(
            listed_while_running(pools.service, "worker", await asyncio.to_thread(vault.prefixes))
        )
        if settings.worker_metrics_port:
            server, _ = start_http_server(settings.worker_metrics_port, settings.host)
            stack.callback(server.shutdown)
        sees = partial(webhook_creator_may_see, pools.service, known)
        dispatcher = Dispatcher(pools.service, url, vault, settings.outbound_networks_of, sees)
        loops = [run_scheduler(pools.service), delivery_runner.run_discards()]
        if not is_source_available:
            loops.append(_require_source_once_available(settings))

        def begin() -> None:
            ready()
            log.info("worker ready", tasks=settings.worker_tasks)

        consumers = _consumers(settings, url, pools.service, runner, delivery_runner)
        await _work([*consumers, dispatcher], running, loops, begin)


def connections_of(settings: Settings) -> int:
    """Return the most connections of a worker to the service's database."""
    return settings.worker_tasks + MIN_CONCURRENCY + POOL_EXTRA + LISTENERS


class _Pools(msgspec.Struct, frozen=True):
    """The pools of a worker: of the service's database, of the source, and those that exports read from."""

    service: Pool
    source: Pool
    sources: SourceDatabases


async def _is_source_available(settings: Settings) -> bool:
    """Return whether the source answers. Raises LongshoreError where it refuses the worker."""
    try:
        await _require_source(settings)
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise
        log.warning("source is unavailable, exports fail until it answers", error=str(error) or type(error).__name__)
        return False
    return True


async def _require_source_once_available(settings: Settings) -> None:
    """Check a source that was unavailable as soon as it answers; then wait, as the end of a loop ends the worker."""
    structlog.contextvars.bind_contextvars(setting="LONGSHORE_SOURCE_URL")
    await retry_until_available(_require_source, settings)
    await asyncio.Event().wait()


async def _require_source(settings: Settings) -> None:
    if not settings.source_url:  # the service's own database, which has been checked
        return
    try:
        await require_sessions(settings.source_url)
    except asyncpg.PostgresError as refusal:
        if is_transient(refusal):
            raise
        raise LongshoreError(f"the source (LONGSHORE_SOURCE_URL) refuses the worker: {reason(refusal)}") from refusal


async def _open_pools(stack: AsyncExitStack, settings: Settings, url: str) -> _Pools:
    at_once = settings.worker_tasks + MIN_CONCURRENCY
    extra = (settings.export_connections or os.cpu_count() or 1) - 1
    only_read = {**EXPORT_SESSION, "default_transaction_read_only": "on"}
    session = {**only_read, "statement_timeout": f"{settings.source_statement_seconds}s"}
    slots = {SLOTS: str(settings.chain_slots)}
    service = await stack.enter_async_context(
        open_pool(url, size=at_once + POOL_EXTRA, name=f"longshore worker {NAME}", **slots)
    )
    source_url = settings.source_url or url
    source = await stack.enter_async_context(
        open_pool(source_url, size=at_once + extra, name="longshore export", **session)
    )
    own = None
    if settings.source_url:
        owned = open_pool(url, size=at_once, name="longshore export", **session)
        own = SourceConnections(await stack.enter_async_context(owned), 0)
    return _Pools(service, source, SourceDatabases(SourceConnections(source, extra), own))


async def _make_runner(settings: Settings, pools: _Pools, known: catalog.Catalog, running: RunningAttempts) -> Runner:
    pool, store = pools.service, open_store(settings)
    silence_seconds = MAX_SHARD_SILENCE_TIMEOUTS * settings.heartbeat_timeout
    vault = open_vault(settings)
    rate = settings.export_megabytes_per_second * 1e6
    limits = SourceLimits(settings.source_snapshot_seconds, settings.source_lag_seconds, rate)
    export_settings = ExportSettings(limits, settings.shard_rows, silence_seconds, vault)
    exporter = Exporter(pool, pools.sources, known, store, export_settings)
    shard_worker = ShardWorker(pool, pools.sources, known, store, rate)
    cleanup = Cleanup(pool, store, timedelta(days=settings.task_days))
    await retry_until_available(ensure_cleanup_task, pool)
    allowed = quotas.from_settings(settings)
    actions: dict[str, RunAction] = {"export": quotas.within_quota(exporter.run, pool, allowed), ACTION: cleanup.run}
    for name, action in installed_actions.load(settings).items():
        actions[name] = quotas.within_quota(attempt_runner(action, pool, store, vault), pool, allowed)
    metrics.create_series(actions)
    return Runner(running, pool, actions, settings.result_time, shard_worker.run)


def _consumers(
    settings: Settings, url: str, pool: Pool, runner: Runner, delivery_runner: DeliveryRunner
) -> list[Consumer]:
    heartbeat = timedelta(seconds=settings.heartbeat_timeout)
    return [
        Consumer(pool, url, Message.entrypoint, runner.handle, settings.worker_tasks, heartbeat),
        Consumer(pool, url, ShardMessage.entrypoint, runner.handle_shard, MIN_CONCURRENCY, heartbeat),
        Consumer(pool, url, DeliveryMessage.entrypoint, delivery_runner.handle, CONCURRENCY, heartbeat),
    ]


async def _work(
    consumers: Sequence[Consumer | Dispatcher],
    running: RunningAttempts,
    loops: Sequence[Coroutine[Any, Any, None]],
    ready: Callable[[], None],
) -> None:
    """Run the consumers until a signal, or the end of one of the `loops`, which run beside. Raises what ended it."""

    def stop() -> None:
        for consumer in consumers:
            consumer.stop()
        running.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    beside = [asyncio.create_task(each) for each in loops]
    for task in beside:
        task.add_done_callback(lambda ended: None if ended.cancelled() else stop())
    ready()
    consuming = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        await asyncio.gather(*consuming)
    finally:
        for task in (*beside, *consuming):
            task.cancel()
        await asyncio.wait({*beside, *consuming})
    for task in beside:
        if not task.cancelled() and (error := task.exception()):
            raise error
    log.info("worker stopped")
