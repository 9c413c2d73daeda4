"""What a worker does with messages: runs the actions that they name, and sees each attempt to an end.

Promise 7 is kept here: whatever happens to a run, its task is finished, tried again, or failed with a reason.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import structlog
from pgqueuer.domain.models import Job
from pgqueuer.errors import RetryRequested

from longshore.database.connect import Pool
from longshore.database.retry import retry_until_available
from longshore.errors import LongshoreError
from longshore.exports.run_errors import explain, is_retryable
from longshore.exports.shards.worker import RetryLaterError
from longshore.tasks import attempts, run_ends
from longshore.tasks.attempts import Attempt, RunResult, StaleAttemptError
from longshore.tasks.queue import ENTRYPOINT, Message, ShardMessage, read_message, read_shard
from longshore.telemetry import metrics, tracing
from longshore.worker import malloc

log = structlog.get_logger()

Action = Callable[[Attempt], Awaitable[RunResult]]

PAUSES = (1.0, 5.0)  # seconds before the attempt that follows the first failure, and the second


class RunTimeoutError(LongshoreError):
    """A run took longer than its target allows."""


class UnknownActionError(LongshoreError):
    """The API knows an action that the worker does not."""


class Limits(msgspec.Struct, frozen=True):
    """What any target may say of its runs."""

    timeout_seconds: int | None = None
    result_days: float | None = None


LIMITS = msgspec.json.Decoder(Limits)

NEWEST = "select id, attempt from longshore.tasks where id = any($1::bigint[])"


class Handler:
    """Runs the messages of one process."""

    def __init__(
        self,
        pool: Pool,
        actions: Mapping[str, Action],
        grace: float,
        keep: timedelta,
        keep_of_chains: Mapping[int, timedelta],
        shard: Callable[[ShardMessage], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._actions = actions
        self._shard = shard
        self._grace = grace
        self._keep = keep
        self._keep_of_chains = keep_of_chains
        self._running: set[asyncio.Task[Any]] = set()
        self._acting: dict[asyncio.Task[Any], Message] = {}
        self._withdrawn: set[asyncio.Task[Any]] = set()
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
            self._withdrawn.discard(current)
            malloc.give_back()

    async def handle_shard(self, job: Job) -> None:
        """See a part of an export through that some worker coordinates. Raises RetryRequested for another time."""
        message = read_shard(job.payload)
        structlog.contextvars.bind_contextvars(task=message.task, attempt=message.attempt, shard=message.number)
        current = asyncio.current_task()
        assert current is not None
        self._running.add(current)
        self._acting[current] = message.of
        try:
            await self._shard(message)
        except StaleAttemptError:
            log.info("shard outdated")
        except RetryLaterError as error:
            raise RetryRequested(timedelta(seconds=error.delay)) from error
        except asyncio.CancelledError:
            raise RetryRequested from None  # a message that is outdated ends when it is read
        finally:
            del self._acting[current]
            self._running.discard(current)
            self._withdrawn.discard(current)
            malloc.give_back()

    async def _handle(self, message: Message, current: asyncio.Task[Any]) -> None:
        begun = await retry_until_available(attempts.begin, self._pool, message, uuid4())
        if begun is None:
            if await retry_until_available(run_ends.lost, self._pool, message):
                log.warning("lost attempt found")
            return
        structlog.contextvars.bind_contextvars(run=begun.run, chain=begun.chain)
        traceparent = await self._waited(begun)
        with tracing.span(f"process {ENTRYPOINT}", _about(begun, "process"), of=traceparent, kind="consumer"):
            if (trace_id := tracing.trace_id()) is not None:
                structlog.contextvars.bind_contextvars(trace_id=trace_id)
            await self._attempt(begun, current)

    async def _waited(self, begun: Attempt) -> str | None:
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
            await retry_until_available(attempts.trace, self._pool, begun.message, traceparent)
        return traceparent

    async def _attempt(self, begun: Attempt, current: asyncio.Task[Any]) -> None:
        message = begun.message
        log.info("run begins", action=begun.action)
        began = time.monotonic()
        try:
            limits = LIMITS.decode(begun.target)
        except msgspec.MsgspecError as error:
            await self._failed(begun, LongshoreError(f"this version cannot read the target: {error}"))
            return
        try:
            async with asyncio.timeout(limits.timeout_seconds) as timeout:
                outcome = await self._act(begun, current)
        except StaleAttemptError:
            raise
        except asyncio.CancelledError:
            if current in self._withdrawn:
                raise StaleAttemptError(message) from None
            if not current.cancelling():
                await self._failed(begun, LongshoreError("the action cancelled itself"))
                return
            # Else only `stop` cancels: the worker has to go, and another one takes over at once.
            why = f"attempt {begun.number} was interrupted: its worker is shutting down"
            await retry_until_available(attempts.retry, self._pool, message, why, 0, failed=False)
            log.info("run handed back")
        except (Exception, SystemExit) as error:  # an action that calls sys.exit must not end the worker
            late = RunTimeoutError(f"the run took longer than {limits.timeout_seconds} s")
            await self._failed(begun, late if timeout.expired() else error)
        else:
            try:
                await self._finish(begun, outcome, limits)
            except StaleAttemptError:
                raise
            except Exception as error:  # an outcome that PostgreSQL does not take
                await self._failed(begun, LongshoreError(f"what the run left cannot be stored: {error}"))
                return
            metrics.RUN_SECONDS.labels(begun.action).observe(time.monotonic() - began)
            log.info("run done", rows=outcome.success, bytes=outcome.size)

    async def _finish(self, begun: Attempt, outcome: RunResult, limits: Limits) -> None:
        keep = min(self._keep, self._keep_of_chains.get(begun.chain, self._keep))
        if limits.result_days is not None:
            keep = min(keep, timedelta(days=limits.result_days))
        with tracing.span("finish"):
            await retry_until_available(run_ends.finish, self._pool, begun.message, outcome, keep)

    async def _act(self, begun: Attempt, current: asyncio.Task[Any]) -> RunResult:
        self._acting[current] = begun.message
        try:
            if begun.action not in self._actions:
                raise UnknownActionError(f"no package on this worker has the action {begun.action!r}")
            return await self._actions[begun.action](begun)
        finally:
            del self._acting[current]

    async def _failed(self, begun: Attempt, error: BaseException) -> None:
        reason = explain(error)
        tracing.failed(error)
        if is_retryable(error) and begun.failures + 1 < attempts.MAX_FAILURES:
            pause = PAUSES[begun.failures]
            log.warning("attempt failed", reason=reason, again_in=pause)
            why = f"attempt {begun.number} failed: {reason}; the next one begins in {pause:.0f} s"
            await retry_until_available(attempts.retry, self._pool, begun.message, why, pause, failed=True)
            metrics.RETRIES.labels(begun.action).inc()
            return
        await retry_until_available(run_ends.fail, self._pool, begun.message, f"failed: {reason}")
        log.error("run failed", reason=reason, exc_info=error)

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
        acting = dict(self._acting)  # not what begins meanwhile, of which the answer says nothing
        try:
            rows = await self._pool.fetch(NEWEST, [message.task for message in acting.values()])
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("what runs cannot be checked", error=str(error))  # its next report will be refused
            return
        newest = {row["id"]: row["attempt"] for row in rows}
        for running, message in acting.items():
            outdated = running in self._acting and newest.get(message.task) != message.attempt
            if outdated and running not in self._withdrawn:
                self._withdrawn.add(running)
                running.cancel()

    async def stop(self) -> None:
        """Let what runs end within the grace time, and hand the rest back to the queue."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace)
        for task in tuple(self._running):
            task.cancel()


def _about(begun: Attempt, operation: str) -> dict[str, str | int]:
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
