"""The runner of deliveries: brings the result that a message names to its destination, and ends each attempt.

Whatever happens to an attempt, its delivery has succeeded, is tried again, or has failed with a reason (promise 7).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import uuid4

import msgspec
import structlog
from pgqueuer import Job, RetryRequested

from longshore.database.connect import Pool
from longshore.database.retry import DELIVERY, DELIVERY_TURN, loop_step, retry_until_available
from longshore.destinations.deliver import TIMEOUT_MESSAGE, DeliveredResult, deliver, discard
from longshore.destinations.kind import DestinationError, OpenDestination
from longshore.errors import LongshoreError
from longshore.exports.run_errors import describe_unknown_error, is_retryable
from longshore.results.store import Store
from longshore.tasks import deliveries, delivery_ends
from longshore.tasks.deliveries import DeliveryAttempt, StaleDeliveryError
from longshore.tasks.model import ChainId
from longshore.tasks.queue import DeliveryMessage, decode
from longshore.worker.running_attempts import (
    WORK_ERRORS,
    RunningAttempts,
    StoppedError,
    SupersededError,
    without_panics,
)

log = structlog.get_logger()

CONCURRENCY = 8
"""Deliveries of one worker at a time."""
DISCARD_SECONDS = 30.0  # that the removal of temporary files may take
DISCARD_PAUSE_SECONDS = 10.0  # between two searches for deliveries that have left some

Open = Callable[[ChainId, str], AbstractAsyncContextManager[OpenDestination]]
"""Connects to a destination of a chain by its name."""


class DeliveryRunner:
    """Handles the messages of deliveries of one worker process."""

    def __init__(self, running: RunningAttempts, pool: Pool, open_destination: Open, store: Store) -> None:
        self.running = running
        self._pool = pool
        self._open = open_destination
        self._store = store
        self._of_chains: Counter[ChainId] = Counter()

    async def handle(self, job: Job) -> None:
        """Run the attempt of a message to its end. Errors go to the task's log.

        Raises RetryRequested to run it later, where its chain has as many of CONCURRENCY under way as are free: several
        chains whose destinations hang leave room for others.
        """
        message = decode(job.payload, DeliveryMessage)
        structlog.contextvars.bind_contextvars(task=message.task, run=message.run, delivery=message.number)
        with self.running.counted():
            chain = await retry_until_available(deliveries.chain_of, self._pool, message)
            if chain is None:
                return
            if self._of_chains[chain] >= CONCURRENCY - self._of_chains.total():
                raise RetryRequested(timedelta(seconds=DELIVERY_TURN.after(job.attempts + 1)))
            self._of_chains[chain] += 1
            try:
                await self._handle(message)
            except StaleDeliveryError:
                log.info("delivery outdated")
            finally:
                self._of_chains -= Counter([chain])  # which keeps no chain without any

    async def _handle(self, message: DeliveryMessage) -> None:
        delivery = await retry_until_available(deliveries.begin, self._pool, message, uuid4())
        if delivery is None:
            if await retry_until_available(delivery_ends.retry_or_fail_lost, self._pool, message):
                log.warning("lost delivery found")
            return
        structlog.contextvars.bind_contextvars(chain=delivery.chain, destination=delivery.destination)
        await self._attempt(delivery)

    async def _attempt(self, delivery: DeliveryAttempt) -> None:
        message = delivery.message
        log.info("delivery begins", attempt=message.attempt)
        began = time.monotonic()
        try:
            done = await self._deliver(delivery)
        except SupersededError:
            await self._discard(delivery)
            raise StaleDeliveryError(message) from None
        except StoppedError:  # another worker takes over at once
            why = "the worker shut down"
            await retry_until_available(deliveries.retry, self._pool, message, why, 0.0)
            log.info("delivery handed back")
        except WORK_ERRORS as error:
            await self._retry_or_fail(delivery, error, delivery.seconds_left - (time.monotonic() - began))
        else:
            try:
                evidence = msgspec.json.encode(done.evidence).decode()
                await retry_until_available(delivery_ends.finish, self._pool, message, done.address, evidence)
            except StaleDeliveryError:
                raise
            except Exception as error:  # a package of a destination may return values of any type
                refused = LongshoreError(f"the evidence of the delivery cannot be stored: {error}")
                await self._retry_or_fail(delivery, refused, 0.0)
                return
            log.info("delivered", address=done.address)

    async def _deliver(self, delivery: DeliveryAttempt) -> DeliveredResult:
        with self.running.cancellable(delivery.message, "the destination"):
            timeout = asyncio.timeout(max(0.0, delivery.seconds_left))
            try:
                async with timeout, self._open(*_place(delivery)) as place:
                    if delivery.lost_workers:
                        await discard(delivery, place, self._store, [delivery.lost_workers - 1])
                    return await deliver(delivery, place, self._store)
            except WORK_ERRORS:
                if timeout.expired():
                    raise DestinationError(TIMEOUT_MESSAGE) from None
                raise

    async def _retry_or_fail(self, delivery: DeliveryAttempt, error: BaseException, seconds_left: float) -> None:
        reason = describe_error(error)
        pause = DELIVERY.after(delivery.message.attempt)
        if is_retryable(error) and pause < seconds_left:
            log.warning("attempt of a delivery failed", reason=reason, again_in=pause)
            await retry_until_available(deliveries.retry, self._pool, delivery.message, reason, pause)
            return
        known = isinstance(error, LongshoreError)
        log.error("delivery failed", reason=reason, exc_info=None if known else error)
        await retry_until_available(delivery_ends.fail, self._pool, delivery.message, reason)
        await self._discard(delivery)

    async def _discard(self, delivery: DeliveryAttempt) -> None:
        """Remove what a delivery that is not tried any more has left unfinished, if the destination answers.

        `run_discards` does it later where another delivery to the same place waits or is under way.
        """
        try:
            if await deliveries.postpone_discard(self._pool, delivery):
                return
            with without_panics():
                async with asyncio.timeout(DISCARD_SECONDS), self._open(*_place(delivery)) as place:
                    await discard(delivery, place, self._store, range(delivery.lost_workers + 1))
            await deliveries.discarded(self._pool, delivery.message)
        except WORK_ERRORS as error:  # it ended in an error already, which may be this one
            log.warning("temporary files at a destination were not removed", reason=describe_error(error))

    async def run_discards(self) -> None:
        """Remove, until cancelled, what ended deliveries have left unfinished while no worker had them under way."""
        while True:
            with loop_step("deliveries", step="discard"):
                while (delivery := await deliveries.begin_discard(self._pool)) is not None:
                    await self._discard(delivery)
            await asyncio.sleep(DISCARD_PAUSE_SECONDS)


def describe_error(error: BaseException) -> str:
    """Return a sentence about the error for the task's log."""
    if isinstance(error, TimeoutError) and not str(error):
        return "the destination did not answer in time"
    return str(error) if isinstance(error, LongshoreError) else describe_unknown_error(error)


def _place(delivery: DeliveryAttempt) -> tuple[ChainId, str]:
    return delivery.chain, delivery.destination
