"""Webhooks of a chain, and what was delivered to them.

What is to be delivered is written by a trigger on the tasks (migration 0010), in the transaction that ends the task.
Promise 5 is kept here: the chain is part of every `where`.
"""

import base64
import secrets
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId

EVENTS = ("task.done", "task.error")
MOST = 20  # webhooks of a chain
SECRET_PREFIX = "whsec_"  # noqa: S105  # how a secret begins, after the Standard Webhooks convention
SECRET_SIZE = 32  # bytes
OLD_SECRET_HOURS = 24  # in which the secret before signs too

# The lock lets two requests at once count one after the other.
CREATE = """
with chain as (select pg_advisory_xact_lock(hashtextextended('longshore.webhooks', $1)))
insert into longshore.webhooks (chain_id, url, events, secret, created_by)
select $1, $2, $3, $4, $6 from chain
where (select count(*) from longshore.webhooks where chain_id = $1) < $5
returning id
"""

# Once replaced, a secret is not shown again, nor is the one that replaced it shown to whoever made the webhook.
NEW = """
select id, url, events, created_at, created_by, disabled_at, disabled_reason,
       case when old_secret_until is null then secret end as secret
from longshore.webhooks
where id = $1 and chain_id = $2
"""

LIST = """
select id, url, events, created_at, created_by, disabled_at, disabled_reason
from longshore.webhooks
where chain_id = $1
order by created_at desc, id
limit $2 offset $3
"""

ROTATE = """
update longshore.webhooks
set secret = $3, old_secret = secret, old_secret_until = now() + make_interval(hours => $4)
where id = $1 and chain_id = $2
returning old_secret_until
"""

ENABLE = """
update longshore.webhooks
set disabled_at = null, disabled_reason = null
where id = $1 and chain_id = $2
returning id, url, events, created_at, created_by, disabled_at, disabled_reason
"""

DELETE = "delete from longshore.webhooks where id = $1 and chain_id = $2 returning id"

DELIVERIES = """
select d.id, d.event, d.task_id, d.revision, d.state, d.attempts, d.status, d.fault, d.created_at, d.attempted_at,
       case when d.state = 'pending' then d.due_at end as due_at
from longshore.webhooks w
left join longshore.deliveries d on d.webhook_id = w.id
where w.id = $1 and w.chain_id = $2
order by d.created_at desc, d.id
limit $3 offset $4
"""

REDELIVER = """
with again as (
    update longshore.deliveries d
    set state = 'pending', tries = 0, due_at = now()
    from longshore.webhooks w
    where d.id = $3 and d.webhook_id = $1 and w.id = $1 and w.chain_id = $2
    returning d.id, d.event, d.task_id, d.revision, d.state, d.attempts, d.status, d.fault, d.created_at,
              d.attempted_at, d.due_at
)
select again.*, pg_notify('longshore_deliveries', '') from again
"""


class WebhookNotFoundError(Exception):
    """There is no such webhook in this chain, which is also what another chain's looks like."""


class SecretReplacedError(Exception):
    """The secret that a webhook was made with has been replaced, so it cannot be shown any more."""


class DeliveryNotFoundError(Exception):
    """The webhook has no such delivery."""


class TooManyError(Exception):
    """The chain has as many webhooks as it may have."""


class Webhook(msgspec.Struct, frozen=True):
    """An address that hears of ended tasks. Its secret is shown once, see NewWebhook."""

    id: UUID
    url: str
    events: list[str]
    created: datetime
    created_by: str | None
    """Kind and id of the credential that made it, such as `user 7`; null where that was not recorded."""
    disabled: datetime | None
    """When its receiver answered 410 Gone; null where messages are sent."""
    disabled_reason: str | None


class NewWebhook(msgspec.Struct, frozen=True):
    """A webhook that was just made, with its secret."""

    id: UUID
    url: str
    events: list[str]
    created: datetime
    created_by: str | None
    secret: str
    """The key of the signatures, `whsec_…`; it cannot be had a second time."""


class NewSecret(msgspec.Struct, frozen=True):
    """A secret that replaces another one."""

    id: UUID
    secret: str
    """The key of the signatures, `whsec_…`; it cannot be had a second time."""
    previous_until: datetime
    """Until when the secret before signs every message too."""


class Delivery(msgspec.Struct, frozen=True):
    """A message to a webhook, and how it went."""

    id: UUID
    """The `webhook-id` header is `msg_` and this id, in every attempt."""
    event: str
    task: int
    revision: int
    """The task's revision that it speaks of."""
    state: str
    """`pending`, `delivered` or `failed`."""
    attempts: int
    status: int | None
    """The HTTP status of the last attempt; null where there was no answer."""
    violation: str | None
    """Why the last attempt failed."""
    created: datetime
    attempted: datetime | None
    """When it was last tried."""
    next: datetime | None
    """When it is tried next."""


async def create(connection: Connection | Pool, chain: ChainId, url: str, events: list[str], by: str) -> UUID:
    """Make a webhook for an address that was checked and return its id. Raises TooManyError.

    `by`: kind and id of the credential that asks, such as `user 7`.
    """
    made: UUID | None = await connection.fetchval(
        CREATE, chain, url, events, secrets.token_bytes(SECRET_SIZE), MOST, by
    )
    if made is None:
        raise TooManyError
    return made


async def new_webhook(pool: Pool, chain: ChainId, webhook: UUID) -> NewWebhook:
    """Return a webhook with the secret that it was made with.

    Raises WebhookNotFoundError, and SecretReplacedError where the secret is another one by now.
    """
    row = await pool.fetchrow(NEW, webhook, chain)
    if row is None:
        raise WebhookNotFoundError
    if row["secret"] is None:
        raise SecretReplacedError
    made = _webhook(row)
    return NewWebhook(made.id, made.url, made.events, made.created, made.created_by, _shown(row["secret"]))


async def rotate(connection: Connection, chain: ChainId, webhook: UUID) -> NewSecret:
    """Give a webhook a new secret; both sign for OLD_SECRET_HOURS. Raises WebhookNotFoundError."""
    secret = secrets.token_bytes(SECRET_SIZE)
    until = await connection.fetchval(ROTATE, webhook, chain, secret, OLD_SECRET_HOURS)
    if until is None:
        raise WebhookNotFoundError
    return NewSecret(webhook, _shown(secret), until.replace(microsecond=0))


async def enable(connection: Connection, chain: ChainId, webhook: UUID) -> Webhook:
    """Send messages to a webhook again that was disabled. Raises WebhookNotFoundError."""
    row = await connection.fetchrow(ENABLE, webhook, chain)
    if row is None:
        raise WebhookNotFoundError
    return _webhook(row)


def _shown(secret: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(secret).decode()


async def list_webhooks(pool: Pool, chain: ChainId, limit: int, offset: int) -> tuple[list[Webhook], bool]:
    """A page of a chain's webhooks, newest first, and whether more follow."""
    rows = await pool.fetch(LIST, chain, limit + 1, offset)
    return [_webhook(row) for row in rows[:limit]], len(rows) > limit


async def delete(pool: Pool | Connection, chain: ChainId, webhook: UUID) -> None:
    """Delete a webhook and what was to be delivered to it. Raises WebhookNotFoundError."""
    if await pool.fetchval(DELETE, webhook, chain) is None:
        raise WebhookNotFoundError


async def deliveries(pool: Pool, chain: ChainId, webhook: UUID, limit: int, offset: int) -> tuple[list[Delivery], bool]:
    """A page of a webhook's deliveries, newest first, and whether more follow. Raises WebhookNotFoundError."""
    rows = await pool.fetch(DELIVERIES, webhook, chain, limit + 1, offset)
    if not rows and not offset:
        raise WebhookNotFoundError
    return [_delivery(row) for row in rows[:limit] if row["id"] is not None], len(rows) > limit


async def redeliver(pool: Pool | Connection, chain: ChainId, webhook: UUID, delivery: UUID) -> Delivery:
    """Send a delivery again, whatever became of it. Raises DeliveryNotFoundError."""
    row = await pool.fetchrow(REDELIVER, webhook, chain, delivery)
    if row is None:
        raise DeliveryNotFoundError
    return _delivery(row)


def _webhook(row: asyncpg.Record) -> Webhook:
    disabled = row["disabled_at"]
    return Webhook(
        id=row["id"],
        url=row["url"],
        events=row["events"],
        created=row["created_at"].replace(microsecond=0),
        created_by=row["created_by"],
        disabled=disabled and disabled.replace(microsecond=0),
        disabled_reason=row["disabled_reason"],
    )


def _delivery(row: asyncpg.Record) -> Delivery:
    attempted, due = row["attempted_at"], row["due_at"]
    return Delivery(
        id=row["id"],
        event=row["event"],
        task=row["task_id"],
        revision=row["revision"],
        state=row["state"],
        attempts=row["attempts"],
        status=row["status"],
        violation=row["fault"],
        created=row["created_at"].replace(microsecond=0),
        attempted=attempted and attempted.replace(microsecond=0),
        next=due and due.replace(microsecond=0),
    )
