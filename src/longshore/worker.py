"""The worker: takes messages, runs the actions they name, and sees each attempt to an end.

Promise 7 is kept here: whatever happens to a run, its task is finished, tried again, or failed with a reason.
"""

import asyncio
import errno
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import structlog
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job
from prometheus_client import start_http_server

from longshore import actions as plugged
from longshore import metrics, outbound, tracing
from longshore.actions.action import Plugged
from longshore.database import migrate
from longshore.database.connect import Listener, Pool, is_passing, open_lazy_pool, open_pool
from longshore.database.queue_schema import QUEUE_SETTINGS, queries_over
from longshore.errors import LongshoreError, PassingError
from longshore.exports import catalog
from longshore.exports.care import Care
from longshore.exports.copy import SESSION as EXPORT_SESSION
from longshore.exports.copy import Readers
from longshore.exports.export import Exporter
from longshore.results.cleanup import ACTION, Cleanup, ensure
from longshore.results.objects import StoreAwayError
from longshore.results.open import open_store
from longshore.settings import Settings, days_of_chains
from longshore.tasks import ending, lifecycle
from longshore.tasks.clock import run_clock
from longshore.tasks.lifecycle import Begun, Outcome, StaleAttemptError
from longshore.tasks.queue import ENTRYPOINT, Message, PatientDriver, read_message
from longshore.tasks.slots import SETTING as SLOTS
from longshore.tasks.watch import CHANNEL
from longshore.webhooks.courier import run_courier

log = structlog.get_logger()

NAME = f"{socket.gethostname()[:30]}:{os.getpid()}"

Action = Callable[[Begun], Awaitable[Outcome]]

PAUSES = (1.0, 5.0)  # seconds before the attempt that follows the first failure, and the second
POLL = timedelta(seconds=2)  # how often to look at the queue even if no notification comes


class TookTooLongError(LongshoreError):
    """A run took longer than its target allows."""


class UnknownActionError(LongshoreError):
    """The API knows an action that the worker does not."""


class Limits(msgspec.Struct, frozen=True):
    """What any target may say of its runs."""

    timeout_seconds: int | None = None
    result_days: float | None = None


LIMITS = msgspec.json.Decoder(Limits)

NEWEST = "select id, attempt from longshore.tasks where id = any($1::bigint[])"


class Worker:
    """Runs the messages of one process."""

    def __init__(
        self,
        pool: Pool,
        actions: Mapping[str, Action],
        grace: float,
        keep: timedelta,
        keep_of_chains: Mapping[int, timedelta],
    ) -> None:
        self._pool = pool
        self._actions = actions
        self._grace = grace
        self._keep = keep
        self._keep_of_chains = keep_of_chains
        self._running: set[asyncio.Task[Any]] = set()
        self._acting: dict[asyncio.Task[Any], Message] = {}
        self._withdrawn: set[Message] = set()
        self._checks: set[asyncio.Task[None]] = set()

    async def handle(self, job: Job) -> None:
        """See one message through. Raises nothing: what went wrong is in the task's log."""
        message = read_message(job.payload)
        structlog.contextvars.bind_contextvars(task=message.task, attempt=message.attempt)
        current = asyncio.current_task()
        assert current is not None
        self._running.add(current)
        try:
            await self._handle(message, current)
        except StaleAttemptError:
            log.info("attempt outdated")
        finally:
            self._running.discard(current)
            self._withdrawn.discard(message)

    async def _handle(self, message: Message, current: asyncio.Task[Any]) -> None:
        begun = await self._surely(lifecycle.begin, message)
        if begun is None:
            if await self._surely(ending.lost, message):
                log.warning("lost attempt found")
            return
        structlog.contextvars.bind_contextvars(run=begun.run, chain=begun.chain)
        traceparent = await self._waited(begun)
        with tracing.span(f"process {ENTRYPOINT}", _about(begun, "process"), of=traceparent, kind="consumer"):
            if (trace_id := tracing.trace_id()) is not None:
                structlog.contextvars.bind_contextvars(trace_id=trace_id)
            await self._attempt(begun, current)

    async def _waited(self, begun: Begun) -> str | None:
        """Tell of the wait that is over, and give the trace that the attempt belongs to."""
        metrics.QUEUE_SECONDS.observe(begun.waited)
        name, about = f"wait {ENTRYPOINT}", _about(begun, "wait")
        if begun.traceparent is not None:
            with tracing.span(name, about, of=begun.traceparent, ago=begun.waited, kind="consumer"):
                return begun.traceparent
        # No request has asked for this run, or none that was traced: its trace begins with its wait.
        with tracing.span(name, about, after=begun.follows, ago=begun.waited, kind="consumer"):
            traceparent = tracing.current()
        if traceparent is not None:
            await self._surely(lifecycle.trace, begun.message, traceparent)
        return traceparent

    async def _attempt(self, begun: Begun, current: asyncio.Task[Any]) -> None:
        message = begun.message
        log.info("run begins", action=begun.action)
        began = time.monotonic()
        limits = LIMITS.decode(begun.target)
        try:
            async with asyncio.timeout(limits.timeout_seconds) as timeout:
                outcome = await self._act(begun, current)
        except StaleAttemptError:
            raise
        except asyncio.CancelledError:
            if message in self._withdrawn:
                raise StaleAttemptError(message) from None
            # Else only `stop` cancels: the worker has to go, and another one takes over at once.
            why = f"attempt {begun.number} was interrupted: its worker is shutting down"
            await self._surely(lifecycle.retry, message, why, 0, failed=False)
            log.info("run handed back")
        except Exception as error:
            late = TookTooLongError(f"the run took longer than {limits.timeout_seconds} s")
            await self._failed(begun, late if timeout.expired() else error)
        else:
            keep = min(self._keep, self._keep_of_chains.get(begun.chain, self._keep))
            if limits.result_days is not None:
                keep = min(keep, timedelta(days=limits.result_days))
            with tracing.span("finish"):
                await self._surely(ending.finish, message, outcome, keep)
            metrics.RUN_SECONDS.labels(begun.action).observe(time.monotonic() - began)
            log.info("run done", rows=outcome.success, bytes=outcome.size)

    async def _act(self, begun: Begun, current: asyncio.Task[Any]) -> Outcome:
        self._acting[current] = begun.message
        try:
            if begun.action not in self._actions:
                raise UnknownActionError(f"no package on this worker has the action {begun.action!r}")
            return await self._actions[begun.action](begun)
        finally:
            del self._acting[current]

    async def _failed(self, begun: Begun, error: Exception) -> None:
        reason = explain(error)
        tracing.failed(error)
        if may_pass(error) and begun.failures + 1 < lifecycle.MOST_FAILURES:
            pause = PAUSES[begun.failures]
            log.warning("attempt failed", reason=reason, again_in=pause)
            why = f"attempt {begun.number} failed: {reason}; the next one begins in {pause:.0f} s"
            await self._surely(lifecycle.retry, begun.message, why, pause, failed=True)
            metrics.RETRIES.labels(begun.action).inc()
            return
        log.error("run failed", reason=reason, exc_info=error)
        await self._surely(ending.fail, begun.message, f"failed: {reason}")

    async def _surely(self, step: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Take a step of the lifecycle, however long the database is away."""
        pause = 0.1
        while True:
            try:
                return await step(self._pool, *args, **options)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if not is_passing(error):
                    raise
                log.warning("database out of reach", step=step.__name__, error=str(error), again_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    def told(self, payload: str) -> None:
        """Take notice that a task has changed, which may mean that it has been cancelled."""
        task, _, revision = payload.partition(" ")
        if revision and any(message.task == int(task) for message in self._acting.values()):
            self.check_all()

    def check_all(self) -> None:
        """Begin to look whether what runs here still counts, and to end what does not."""
        check = asyncio.create_task(self._check())
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _check(self) -> None:
        try:
            rows = await self._pool.fetch(NEWEST, [message.task for message in self._acting.values()])
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("what runs cannot be checked", error=str(error))  # its next report will be refused
            return
        newest = {row["id"]: row["attempt"] for row in rows}
        for running, message in tuple(self._acting.items()):
            if newest.get(message.task) != message.attempt and message not in self._withdrawn:
                self._withdrawn.add(message)
                running.cancel()

    async def stop(self) -> None:
        """Let what runs end within the grace time, and hand the rest back to the queue."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace)
        for task in tuple(self._running):
            task.cancel()


def _about(begun: Begun, operation: str) -> dict[str, str | int]:
    """What spans say of an attempt, as far as it fits in OpenTelemetry's words.

    https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
    """
    return {
        "messaging.system": "pgqueuer",
        "messaging.operation.name": operation,
        "messaging.destination.name": ENTRYPOINT,
        "messaging.message.id": begun.message.key,
        "longshore.task": begun.message.task,
        "longshore.chain": begun.chain,
        "longshore.run": begun.run,
        "longshore.attempt": begun.message.attempt,
        "longshore.action": begun.action,
    }


def may_pass(error: Exception) -> bool:
    """Whether another attempt may do better."""
    return is_passing(error) or isinstance(error, OSError | PassingError | StoreAwayError)


def explain(error: Exception) -> str:
    """What went wrong, in words for the task's log."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk for results is full"
    if isinstance(error, LongshoreError):
        return str(error)
    if isinstance(error, asyncpg.PostgresError) and not is_passing(error):
        return f"the source refused the query: {error}"
    if is_passing(error) and getattr(error, "filename", None) is None:
        return f"the connection to the source was lost ({error or type(error).__name__})"
    if isinstance(error, OSError):
        return f"the result could not be written: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def _care(settings: Settings) -> Care:
    rate = settings.export_megabytes_per_second * 1e6
    return Care(settings.source_snapshot_seconds, settings.source_lag_seconds, rate)


async def run_worker(settings: Settings, url: str, ready: Callable[[], None] = lambda: None) -> None:
    """Work until SIGTERM or SIGINT. `url`: the service's database; `ready` is called once messages are taken.

    Raises SchemaError and CatalogError before it begins.
    """
    # Of Arrow's pools, measured: with the usual one an export of CSV takes a worker to 230 MB, with this one to 130.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    source_url = settings.source_url or url
    extra = (settings.export_connections or os.cpu_count() or 1) - 1
    session = {**EXPORT_SESSION, "statement_timeout": f"{settings.source_statement_seconds}s"}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(tracing.exporting("worker"))
        slots = {SLOTS: str(settings.chain_tasks)}
        pool = await stack.enter_async_context(
            open_pool(url, size=settings.worker_tasks + 5, name=f"longshore worker {NAME}", **slots)
        )
        await migrate.check(pool)
        source = await stack.enter_async_context(
            open_pool(source_url, size=settings.worker_tasks + extra, name="longshore export", **session)
        )
        readers = Readers(source, extra)
        own = None
        if settings.source_url:
            owned = open_lazy_pool(url, size=settings.worker_tasks, name="longshore export", **session)
            own = Readers(await stack.enter_async_context(owned), 0)
        store = open_store(settings)
        exporter = Exporter(pool, readers, catalog.load(settings.catalog), store, own, _care(settings))
        cleanup = Cleanup(pool, store, timedelta(days=settings.task_days))
        await ensure(pool)
        actions: dict[str, Action] = {"export": exporter.run, ACTION: cleanup.run}
        for name, action in plugged.load(settings).items():
            actions[name] = Plugged(action, pool, store).run
        keep, keep_of_chains = timedelta(days=settings.result_days), days_of_chains(settings.chain_result_days)
        worker = Worker(pool, actions, settings.shutdown_grace, keep, keep_of_chains)
        await stack.enter_async_context(Listener(url, CHANNEL, worker.told, worker.check_all))

        driver = PatientDriver(pool, url)
        manager = QueueManager(queries_over(driver), QUEUE_SETTINGS.channel)
        manager.entrypoint(ENTRYPOINT, accepts_context=False)(worker.handle)

        stopping: set[asyncio.Task[None]] = set()

        def stop() -> None:
            manager.shutdown.set()
            driver.shutdown.set()
            stopping.add(asyncio.create_task(worker.stop()))

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)

        clock = asyncio.create_task(run_clock(pool))
        clock.add_done_callback(lambda task: None if task.cancelled() else stop())
        courier = asyncio.create_task(run_courier(pool, url, outbound.networks(settings.outbound_allow)))
        courier.add_done_callback(lambda task: None if task.cancelled() else stop())
        stack.enter_context(metrics.of_pools(worker=pool, export=source))
        if settings.worker_metrics_port:
            server, _ = start_http_server(settings.worker_metrics_port, settings.host)
            stack.callback(server.shutdown)
        ready()
        log.info("worker ready", tasks=settings.worker_tasks)
        try:
            await manager.run(
                dequeue_timeout=POLL,
                batch_size=1,
                max_concurrent_tasks=settings.worker_tasks,
                heartbeat_timeout=timedelta(seconds=settings.heartbeat_timeout),
            )
        finally:
            clock.cancel()
            courier.cancel()
            await asyncio.wait({clock, courier, *stopping})
        for task in (clock, courier):
            if not task.cancelled() and (error := task.exception()):
                raise error
        log.info("worker stopped")
