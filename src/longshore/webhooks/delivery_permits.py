"""The choice of the due webhook deliveries that a worker makes next.

A delivery holds a permit, and one whose receiver does not answer holds it until the timeout. So each webhook and each
chain has a share of the permits, and unhealthy webhooks (the last delivery failed or was slow, or one under way is
slow) have a part of those of their chain and of the worker. A webhook that answers keeps its turn beside any number of
those that do not.
"""

import asyncio
import time
from typing import Any
from uuid import UUID

import msgspec

MAX_DELIVERIES = 64  # of one worker at a time
MAX_DELIVERIES_OF_CHAIN = 8
MAX_DELIVERIES_OF_WEBHOOK = 4
MAX_UNHEALTHY_DELIVERIES = 32  # of all unhealthy webhooks together
MAX_UNHEALTHY_DELIVERIES_OF_CHAIN = 4
SLOW_SECONDS = 5.0

# $1: free permits; $2, $3: permits of a webhook and of a chain; $4, $5: webhook and chain of each delivery under way;
# $6: unhealthy webhooks; $7: free permits of unhealthy webhooks; $8: chain of each delivery under way to an unhealthy
# webhook; $9: permits of a chain's unhealthy webhooks; $10: deliveries that are left out.
# The recursion reads one entry of the index for each webhook, however many deliveries are due. The first delivery of
# each chain comes before the second of any.
DUE = """
with recursive webhook(id) as (
    (select webhook_id from longshore.webhook_deliveries where due_at is not null order by webhook_id limit 1)
    union all
    select (
        select d.webhook_id from longshore.webhook_deliveries d
        where d.due_at is not null and d.webhook_id > webhook.id
        order by d.webhook_id
        limit 1
    )
    from webhook
    where webhook.id is not null
),
within_webhook as (
    select d.id, d.due_at, w.chain_id, w.id = any($6::uuid[]) as unhealthy,
           row_number() over (partition by w.id order by d.due_at, d.id)
               + cardinality(array_positions($4::uuid[], w.id)) as number
    from webhook
    join longshore.webhooks w on w.id = webhook.id
    cross join lateral (
        select id, due_at from longshore.webhook_deliveries
        where webhook_id = w.id and due_at <= now() and id <> all($10::uuid[])
        order by due_at
        limit $2
    ) d
    where w.disabled_at is null
),
within_health as (
    select id, due_at, chain_id, unhealthy,
           row_number() over (partition by chain_id, unhealthy order by due_at, id)
               + cardinality(array_positions($8::bigint[], chain_id)) as number
    from within_webhook
    where number <= $2
),
within_chain as (
    select id, due_at, unhealthy,
           row_number() over (partition by chain_id order by due_at, id)
               + cardinality(array_positions($5::bigint[], chain_id)) as number
    from within_health
    where not unhealthy or number <= $9
),
within_worker as (
    select id, due_at, unhealthy, number as of_chain,
           row_number() over (partition by unhealthy order by number, due_at) as number
    from within_chain
    where number <= $3
)
select id from within_worker where not unhealthy or number <= $7 order by of_chain, due_at limit $1
"""

# Of some webhooks, those with a delivery that is due, now or later.
PENDING = """
select webhook.id as webhook_id
from unnest($1::uuid[]) webhook (id)
where exists (select from longshore.webhook_deliveries d where d.webhook_id = webhook.id and d.due_at is not null)
"""


class LeasedDelivery(msgspec.Struct, frozen=True):
    """A webhook delivery that this worker is to make."""

    id: UUID
    attempts: int
    attempts_since_redelivery: int
    task: int
    payload: str
    url: str
    sealed: list[bytes]
    """The secrets as they are stored: the current one first, then the previous ones that still sign."""
    webhook: UUID
    chain: int


class DeliveryPermits:
    """The webhook deliveries of this worker that are under way, and the webhooks that are unhealthy."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Task[bool | None], tuple[LeasedDelivery, float]] = {}
        self._unhealthy: set[UUID] = set()

    def tasks(self) -> list[asyncio.Task[bool | None]]:
        """Return the deliveries that are under way."""
        return list(self._under_way)

    def due_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of DUE but the last one."""
        now = time.monotonic()
        self._unhealthy |= {each.webhook for each, began in self._under_way.values() if now - began > SLOW_SECONDS}
        under_way = [each for each, _ in self._under_way.values()]
        unhealthy = [each for each in under_way if each.webhook in self._unhealthy]
        return (
            MAX_DELIVERIES - len(under_way),
            MAX_DELIVERIES_OF_WEBHOOK,
            MAX_DELIVERIES_OF_CHAIN,
            [each.webhook for each in under_way],
            [each.chain for each in under_way],
            list(self._unhealthy),
            MAX_UNHEALTHY_DELIVERIES - len(unhealthy),
            [each.chain for each in unhealthy],
            MAX_UNHEALTHY_DELIVERIES_OF_CHAIN,
        )

    def hold(self, delivery: LeasedDelivery, task: asyncio.Task[bool | None]) -> None:
        """Count a delivery until its task ends.

        The task returns whether the receiver accepted the message; None if it was not sent.
        """
        self._under_way[task] = delivery, time.monotonic()
        task.add_done_callback(self._free)

    def unhealthy(self) -> list[UUID]:
        """Return the unhealthy webhooks."""
        return list(self._unhealthy)

    def forget_unhealthy(self, webhooks: set[UUID]) -> None:
        """Forget those of some unhealthy webhooks that have no delivery under way."""
        self._unhealthy -= webhooks - {each.webhook for each, _ in self._under_way.values()}

    def _free(self, task: asyncio.Task[bool | None]) -> None:
        delivery, began = self._under_way.pop(task)
        accepted = False if task.cancelled() or task.exception() else task.result()
        if accepted is None:
            return
        if accepted and time.monotonic() - began <= SLOW_SECONDS:
            self._unhealthy.discard(delivery.webhook)
        else:
            self._unhealthy.add(delivery.webhook)
