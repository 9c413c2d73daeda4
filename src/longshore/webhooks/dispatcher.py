"""The dispatcher leases due webhook deliveries and sends their messages. Every worker runs one.

A row of `webhook_deliveries` is a delivery, with its message. A dispatcher leases it by moving `due_at` by
LEASE_SECONDS, so that those of a dispatcher that died fall due again. Webhook deliveries do not go through the job
queue, where a slow receiver would hold a place that an export could have.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec
import structlog

from longshore import __version__
from longshore.database.connect import Pool
from longshore.database.listener import Listener
from longshore.database.retry import DATABASE_ERRORS, isolated, loop_step
from longshore.outbound import Network, OutboundError, Request, send
from longshore.tasks.attempts import storable
from longshore.vault import Vault, VaultError
from longshore.webhooks.delivery_permits import DUE, PENDING, DeliveryPermits, LeasedDelivery
from longshore.webhooks.messages import without_data
from longshore.webhooks.retries import pause_seconds, retry_after_seconds
from longshore.webhooks.signature import signature_headers
from longshore.webhooks.stored import CHANNEL, unseal

log = structlog.get_logger()

POLL_SECONDS = 5.0  # the longest that a due delivery waits if its notification was lost
TIMEOUT_SECONDS = 15.0  # until the header section of the answer has arrived
LEASE_SECONDS = 60  # well beyond TIMEOUT_SECONDS
END_SECONDS = 10.0  # for deliveries under way when the worker stops; less than `parent_process.STOP_TIMEOUT_SECONDS`
GONE = 410  # the receiver wants no more messages (RFC 9110, section 15.5.11)
DISABLED_REASON = f"the receiver answered {GONE}"
KEEP_INTERVAL = "30 days"  # deliveries that are over
FORGET_EVERY_SECONDS = 3600

MaySeeData = Callable[[UUID, int], Awaitable[bool]]
"""Return whether the credential that made a webhook may see all of a task."""

NetworksOf = Callable[[int], tuple[Network, ...]]
"""Return the networks that messages of a chain may reach, see `outbound.send`."""

# $1: deliveries; $2: lease in seconds.
LEASE = """
with due as (
    select id from longshore.webhook_deliveries where id = any($1::uuid[]) and due_at <= now() for update skip locked
)
update longshore.webhook_deliveries d
set due_at = now() + make_interval(secs => $2), attempts = d.attempts + 1,
    attempts_since_redelivery = d.attempts_since_redelivery + 1, attempted_at = now()
from due, longshore.webhooks w
where d.id = due.id and w.id = d.webhook_id
returning d.id, d.attempts, d.attempts_since_redelivery, d.task_id as task, d.payload, w.url, w.id as webhook,
          w.chain_id as chain,
          array_prepend(w.secret, array(
              select p.secret from longshore.previous_webhook_secrets p
              where p.webhook_id = w.id and p.signs_until > now()
              order by p.signs_until desc
          )) as sealed
"""

# It is due again when its lease is over or, with a reason that an operator must mend, a while later, for as long as
# deliveries are kept. Here and in NOT_DELIVERED: one without `due_at` has failed with its webhook, which another
# delivery disabled.
NOT_SENT = f"""
update longshore.webhook_deliveries
set attempts_since_redelivery = attempts_since_redelivery - 1, error = coalesce($3, error),
    state = case when created_at < now() - interval '{KEEP_INTERVAL}' then 'failed' else state end,
    due_at = case
        when created_at < now() - interval '{KEEP_INTERVAL}' then null
        when $3::text is null then due_at
        else now() + interval '10 minutes'
    end
where id = $1 and attempts = $2 and attempts_since_redelivery > 0 and due_at is not null
"""

# Here and in NOT_SENT and NOT_DELIVERED, only the newest attempt since the last redelivery may write.
DELIVERED = """
update longshore.webhook_deliveries
set state = 'delivered', due_at = null, status = $3, error = null
where id = $1 and attempts = $2 and attempts_since_redelivery > 0
"""

# $5: seconds until the next attempt, null for none.
NOT_DELIVERED = """
update longshore.webhook_deliveries
set status = $3, error = $4,
    state = case when $5::float8 is null then 'failed' else 'pending' end,
    due_at = now() + make_interval(secs => $5)
where id = $1 and attempts = $2 and attempts_since_redelivery > 0 and due_at is not null
"""

# Pending deliveries of the webhook fail with it.
DISABLE = """
with webhook as (
    update longshore.webhooks
    set disabled_at = now(), disabled_reason = $2
    where id = $1 and disabled_at is null
    returning id, chain_id
),
failed as (
    update longshore.webhook_deliveries d
    set state = 'failed', due_at = null, error = $2
    from webhook
    where d.webhook_id = webhook.id and d.due_at is not null
)
insert into longshore.audit (chain_id, actor_kind, actor, action, object, address, request_id, details)
select chain_id, 'service', '', 'webhook.disable', 'webhook ' || id, '', '', json_build_object('reason', $2::text)
from webhook
"""

# A message of a transaction that was open while its webhook was disabled; `stored.ENABLE` fails it, too.
FAIL_LATE = """
update longshore.webhook_deliveries d
set state = 'failed', due_at = null, error = w.disabled_reason
from longshore.webhooks w
where w.id = d.webhook_id and w.disabled_at is not null and d.due_at is not null
"""

FORGET = f"""
delete from longshore.webhook_deliveries where created_at < now() - interval '{KEEP_INTERVAL}' and due_at is null
"""

# Only times to come: a due delivery that was not leased waits for a permit, and the end of a delivery wakes the loop.
SECONDS_UNTIL_NEXT = """
select extract(epoch from min(due_at) - now())::float8 from longshore.webhook_deliveries where due_at > now()
"""


class DeliveryOutcome(msgspec.Struct, frozen=True):
    """The outcome of one attempt of a webhook delivery."""

    status: int | None
    """HTTP status of the answer; None if there was none."""
    error: str | None
    """Why the message was not delivered; None if it was."""
    retry_after: float | None
    """Seconds that the receiver asked for."""


class Dispatcher:
    """Makes the due webhook deliveries of all chains."""

    def __init__(self, pool: Pool, url: str, vault: Vault, allow: NetworksOf, may_see_data: MaySeeData) -> None:
        """`url`: the service's database."""
        self._pool = pool
        self._url = url
        self._vault = vault
        self._allow = allow
        self._may_see_data = may_see_data
        self._permits = DeliveryPermits()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._forget_at = 0.0

    def stop(self) -> None:
        """Begin no more deliveries."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Make due deliveries until stopped, then end those under way: an attempt that is cancelled counts as failed.

        Raises nothing: errors are logged.
        """
        async with Listener(self._url, CHANNEL, lambda _: self._wake.set(), self._wake.set):
            dispatching = asyncio.create_task(self._dispatch())
            try:
                await self._stopping.wait()
                await asyncio.wait({dispatching}, timeout=END_SECONDS)
            finally:
                # Deliveries that are cancelled fall due again when their lease is over.
                ending = {dispatching, *self._permits.tasks()}
                for task in ending:
                    task.cancel()
                await asyncio.wait(ending)

    async def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            pause = POLL_SECONDS
            with loop_step("dispatcher"):
                pause = await self._step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
        while under_way := self._permits.tasks():
            await asyncio.wait(under_way)

    async def _step(self) -> float:
        """Begin the due deliveries that have a permit and return the seconds until the next one is due."""
        await self._begin_due()
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_EVERY_SECONDS
            await self._pool.execute(FAIL_LATE)
            await self._pool.execute(FORGET)
            unhealthy = self._permits.unhealthy()
            pending = await self._pool.fetch(PENDING, unhealthy)
            self._permits.forget_unhealthy(set(unhealthy) - {row["webhook_id"] for row in pending})
        until_next = await self._pool.fetchval(SECONDS_UNTIL_NEXT)
        return POLL_SECONDS if until_next is None else min(POLL_SECONDS, max(0.05, until_next))

    async def _begin_due(self) -> None:
        """Lease the due deliveries that have a permit, together or one by one if that fails, and begin them.

        Those that cannot be leased are tried once: any number of them keeps none that is due later from being leased.
        """
        tried_alone: list[UUID] = []
        while due := [row["id"] for row in await self._pool.fetch(DUE, *self._permits.due_arguments(), tried_alone)]:
            with isolated("due webhook deliveries not leased together"):
                await self._begin(due)
                return
            for delivery in due:
                with isolated("due webhook delivery not leased", delivery=str(delivery)):
                    await self._begin([delivery])
            tried_alone += due

    async def _begin(self, ids: list[UUID]) -> None:
        for delivery in [LeasedDelivery(**row) for row in await self._pool.fetch(LEASE, ids, LEASE_SECONDS)]:
            task = asyncio.create_task(self._deliver(delivery))
            self._permits.hold(delivery, task)
            task.add_done_callback(lambda _: self._wake.set())

    async def _deliver(self, delivery: LeasedDelivery) -> bool | None:
        """Send a message, record the answer, and return whether the receiver accepted the message; None: not sent."""
        bound = log.bind(delivery=str(delivery.id), attempt=delivery.attempts)
        try:
            body = await self._body(delivery, bound)
            if body is None:
                return None
            outcome = await self._send(delivery, body)
        except VaultError as error:
            bound.warning("webhook secret could not be read", error=str(error))
            await self._record_not_sent(delivery, str(error))
            return None
        except OutboundError as error:
            outcome = DeliveryOutcome(None, str(error), None)
        except Exception as error:
            outcome = DeliveryOutcome(None, f"{type(error).__name__}: {error}", None)
            bound.error("webhook delivery failed", exc_info=error)
        try:
            await self._record(delivery, outcome, bound)
        except DATABASE_ERRORS as error:
            # The message is sent a second time when its lease is over; receivers recognize it by its id.
            bound.warning("webhook delivery could not be recorded", error=str(error))
        return outcome.error is None

    async def _body(self, delivery: LeasedDelivery, bound: structlog.typing.FilteringBoundLogger) -> bytes | None:
        """Return a message as the creator of its webhook may see it; None if the database does not answer.

        That is no fault of the receiver: the delivery is due again when its lease is over.
        """
        try:
            may_see_data = await self._may_see_data(delivery.webhook, delivery.task)
        except DATABASE_ERRORS as error:
            bound.warning("webhook delivery could not be prepared", error=str(error))
            await self._record_not_sent(delivery, None)
            return None
        return delivery.payload.encode() if may_see_data else without_data(delivery.payload)

    async def _record_not_sent(self, delivery: LeasedDelivery, error: str | None) -> None:
        """Take back an attempt in which nothing was sent. `error`: why, for the list of deliveries."""
        with contextlib.suppress(*DATABASE_ERRORS):
            await self._pool.execute(NOT_SENT, delivery.id, delivery.attempts, error)

    async def _send(self, delivery: LeasedDelivery, body: bytes) -> DeliveryOutcome:
        secrets = [unseal(self._vault, delivery.chain, delivery.webhook, sealed) for sealed in delivery.sealed]
        headers = {
            **signature_headers(f"msg_{delivery.id}", int(time.time()), body, secrets),
            "Content-Type": "application/json",
            "User-Agent": f"Longshore/{__version__}",
        }
        request = Request("POST", delivery.url, headers, body, TIMEOUT_SECONDS)
        answer = await send(request, self._allow(delivery.chain))
        error = None if 200 <= answer.status < 300 else f"answered {answer.status}"
        retry_after = retry_after_seconds(answer.headers.get("retry-after"), time.time())
        return DeliveryOutcome(answer.status, error, retry_after)

    async def _record(
        self, delivery: LeasedDelivery, outcome: DeliveryOutcome, bound: structlog.typing.FilteringBoundLogger
    ) -> None:
        if outcome.error is None:
            await self._pool.execute(DELIVERED, delivery.id, delivery.attempts, outcome.status)
            bound.info("webhook delivered", status=outcome.status)
            return
        pause = None if outcome.status == GONE else pause_seconds(delivery.attempts_since_redelivery)
        if pause is not None and outcome.retry_after is not None:
            pause = max(pause, outcome.retry_after)
        error = storable(outcome.error)
        await self._pool.execute(NOT_DELIVERED, delivery.id, delivery.attempts, outcome.status, error, pause)
        bound.warning("webhook not delivered", error=outcome.error, retry_in=pause)
        if outcome.status == GONE:
            await self._pool.execute(DISABLE, delivery.webhook, DISABLED_REASON)
            bound.warning("webhook disabled", webhook=str(delivery.webhook), reason=DISABLED_REASON)
