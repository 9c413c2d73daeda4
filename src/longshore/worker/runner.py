"""The runner: runs the action that a message names, and ends each attempt.

Whatever happens to an attempt, its task is finished, retried, or failed with a reason (promise 7).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from uuid import uuid4

import msgspec
import structlog
from pgqueuer import Job, RetryRequested

from longshore.database.connect import Pool
from longshore.database.retry import ATTEMPT_PAUSES_SECONDS, MAX_FAILURES, retry_until_available
from longshore.errors import LongshoreError, TransientError
from longshore.exports.run_errors import describe_error, is_retryable
from longshore.tasks import attempts, run_ends
from longshore.tasks.attempts import Attempt, RunResult, StaleAttemptError
from longshore.tasks.model import ChainId
from longshore.tasks.queue import Message, ShardMessage, decode
from longshore.tasks.quotas import RunAction
from longshore.telemetry import metrics, tracing
from longshore.worker.running_attempts import (
    WORK_ERRORS,
    CancelledWorkError,
    RunningAttempts,
    StoppedError,
    SupersededError,
)

log = structlog.get_logger()


class RunLimits(msgspec.Struct, frozen=True):
    """The limits that any target may set for its runs."""

    timeout_seconds: int | None = None
    result_days: float | None = None


LIMITS = msgspec.json.Decoder(RunLimits)


class Runner:
    """Handles the messages of one worker process."""

    def __init__(
        self,
        running: RunningAttempts,
        pool: Pool,
        actions: Mapping[str, RunAction],
        result_time: Callable[[ChainId], timedelta],
        shard: Callable[[ShardMessage], Awaitable[float | None]],
    ) -> None:
        """`result_time`: how long results of a chain are kept."""
        self.running = running
        self._pool = pool
        self._actions = actions
        self._shard = shard
        self._result_time = result_time

    async def handle(self, job: Job) -> None:
        """Run the attempt of a message to its end. Errors of the action go to the task's log."""
        message = decode(job.payload, Message)
        structlog.contextvars.bind_contextvars(task=message.task, attempt=message.attempt)
        with self.running.counted():
            try:
                await self._handle(message)
            except (StaleAttemptError, SupersededError):
                log.info("attempt outdated")

    async def handle_shard(self, job: Job) -> None:
        """Run a shard of an export that some worker coordinates. Raises RetryRequested to run it later."""
        message = decode(job.payload, ShardMessage)
        structlog.contextvars.bind_contextvars(task=message.task, attempt=message.attempt, shard=message.number)
        with self.running.counted():
            try:
                with self.running.cancellable(message.of, "the shard"):
                    delay = await self._shard(message)
            except StaleAttemptError:
                log.info("shard outdated")
                delay = None
            except CancelledWorkError:
                raise RetryRequested from None  # a stale message ends when it is delivered again
        if delay is not None:
            raise RetryRequested(timedelta(seconds=delay))

    async def _handle(self, message: Message) -> None:
        attempt = await retry_until_available(attempts.begin, self._pool, message, uuid4())
        if attempt is None:
            if await retry_until_available(run_ends.retry_or_fail_lost, self._pool, message):
                log.warning("lost attempt found")
            return
        structlog.contextvars.bind_contextvars(run=attempt.run, chain=attempt.chain)
        traceparent = await self._record_wait(attempt)
        with tracing.span(
            f"process {Message.entrypoint}", _attributes(attempt, "process"), parent=traceparent, kind="consumer"
        ):
            if (trace_id := tracing.trace_id()) is not None:
                structlog.contextvars.bind_contextvars(trace_id=trace_id)
            await self._attempt(attempt)

    async def _record_wait(self, attempt: Attempt) -> str | None:
        """Record the time that the attempt has waited, and return the `traceparent` of its trace."""
        metrics.QUEUE_SECONDS.observe(attempt.waited)
        name, attributes = f"wait {Message.entrypoint}", _attributes(attempt, "wait")
        span = partial(tracing.span, name, attributes, started_seconds_ago=attempt.waited, kind="consumer")
        if attempt.traceparent is not None:
            with span(parent=attempt.traceparent):
                return attempt.traceparent
        # No traced request has requested this run, so its trace begins with its wait.
        with span(link=attempt.follows):
            traceparent = tracing.current()
        if traceparent is not None:
            await retry_until_available(attempts.store_trace, self._pool, attempt.message, traceparent)
        return traceparent

    async def _attempt(self, attempt: Attempt) -> None:
        message = attempt.message
        log.info("run begins", action=attempt.action)
        began = time.monotonic()
        try:
            limits = LIMITS.decode(attempt.target)
        except msgspec.MsgspecError as error:
            await self._retry_or_fail(attempt, LongshoreError(f"this version cannot read the target: {error}"))
            return
        try:
            outcome = await self._run_action(attempt, limits)
        except (StaleAttemptError, SupersededError):
            raise
        except StoppedError:  # another worker takes over at once
            why = f"attempt {attempt.number} was interrupted: its worker is shutting down"
            await retry_until_available(attempts.retry, self._pool, message, why, 0, counts_as_failure=False)
            log.info("run handed back")
        except WORK_ERRORS as error:
            await self._retry_or_fail(attempt, error)
        else:
            try:
                await self._finish(attempt, outcome, limits)
            except StaleAttemptError:
                raise
            except Exception as error:  # a result that PostgreSQL cannot store
                await self._retry_or_fail(attempt, LongshoreError(f"the result of the run cannot be stored: {error}"))
                return
            metrics.RUN_SECONDS.labels(attempt.action).observe(time.monotonic() - began)
            log.info("run done", rows=outcome.success, bytes=outcome.size)

    async def _finish(self, attempt: Attempt, outcome: RunResult, limits: RunLimits) -> None:
        result_time = self._result_time(attempt.chain)
        if limits.result_days is not None:
            result_time = min(result_time, timedelta(days=limits.result_days))
        with tracing.span("finish"):
            await retry_until_available(run_ends.finish, self._pool, attempt.message, outcome, result_time)

    async def _run_action(self, attempt: Attempt, limits: RunLimits) -> RunResult:
        if attempt.action not in self._actions:  # in a deployment, other workers may have it already
            raise TransientError(
                f"no package on this worker has the action {attempt.action!r}; install it on every machine"
            )
        with self.running.cancellable(attempt.message, "the action"):
            too_long = LongshoreError(f"the run took longer than {limits.timeout_seconds} s")
            try:
                async with asyncio.timeout(limits.timeout_seconds) as timeout:
                    result = await self._actions[attempt.action](attempt)
            except WORK_ERRORS:
                if timeout.expired():
                    raise too_long from None
                raise
            if timeout.expired():  # and the action has ignored it
                raise too_long
            return result

    async def _retry_or_fail(self, attempt: Attempt, error: BaseException) -> None:
        reason = describe_error(error, of_export=attempt.action == "export")
        tracing.record_error(error)
        if is_retryable(error) and attempt.failures + 1 < MAX_FAILURES:
            pause = ATTEMPT_PAUSES_SECONDS[attempt.failures]
            log.warning("attempt failed", reason=reason, again_in=pause)
            why = f"attempt {attempt.number} failed: {reason}; the next one begins in {pause:.0f} s"
            await retry_until_available(attempts.retry, self._pool, attempt.message, why, pause, counts_as_failure=True)
            metrics.RETRIES.labels(attempt.action).inc()
            return
        await retry_until_available(run_ends.fail, self._pool, attempt.message, f"failed: {reason}")
        log.error("run failed", reason=reason, exc_info=error)


def _attributes(attempt: Attempt, operation: str) -> dict[str, str | int]:
    """Return the attributes of an attempt for spans, by OpenTelemetry's conventions for messaging.

    https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
    """
    return {
        "messaging.system": "pgqueuer",
        "messaging.operation.name": operation,
        "messaging.destination.name": Message.entrypoint,
        "messaging.message.id": attempt.message.key,
        "longshore.task": attempt.message.task,
        "longshore.chain": attempt.chain,
        "longshore.run": attempt.run,
        "longshore.attempt": attempt.message.attempt,
        "longshore.action": attempt.action,
    }
