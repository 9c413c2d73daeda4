"""The webhooks of chains and their deliveries: create, list, change, delete.

A trigger on `tasks` writes the deliveries, in the transaction that ends the task. Promise 5: every `where` names the
chain.
"""

import base64
import secrets
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.model import ChainId
from longshore.vault import SealedValues, Vault

Event = Literal["task.done", "task.error", "delivery.done", "delivery.failed"]
USUAL_EVENTS: tuple[Event, ...] = ("task.done", "task.error")
"""The events of a webhook that names none."""
MAX_WEBHOOKS = 20  # of a chain
SECRET_PREFIX = "whsec_"  # noqa: S105  # of every secret, by the Standard Webhooks convention
SECRET_BYTES = 32
PREVIOUS_SECRET_HOURS = 24
MAX_PREVIOUS_SECRETS = 3

# A statement of its own: the count of the next statement then sees the webhook of a request that was first.
LOCK_CHAIN = "select pg_advisory_xact_lock(hashtextextended('longshore.webhooks', $1))"

CREATE = """
insert into longshore.webhooks (id, chain_id, url, events, secret, created_by)
select $2, $1, $3, $4, $5, $6
where (select count(*) from longshore.webhooks where chain_id = $1) < $7
returning id
"""

# A repeated request gets the secret that the webhook was made with, never one that replaced it.
NEW = """
select id, url, events, date_trunc('second', created_at) as created, created_by,
       case when secret_replaced_at is null then secret end as secret
from longshore.webhooks
where id = $1 and chain_id = $2
"""

WEBHOOK = """
id, url, events, date_trunc('second', created_at) as created, created_by,
date_trunc('second', disabled_at) as disabled, disabled_reason
"""

LIST = f"""
select {WEBHOOK} from longshore.webhooks where chain_id = $1 order by created_at desc, id limit $2 offset $3
"""

LOCK = "select id, disabled_at from longshore.webhooks where id = $1 and chain_id = $2 for update"

# $2: the new secret; $3: hours that the current one goes on signing; $4: how many previous secrets may sign.
ROTATE = """
with expired as (
    delete from longshore.previous_webhook_secrets where webhook_id = $1 and signs_until <= now()
),
previous as (
    insert into longshore.previous_webhook_secrets (webhook_id, secret, signs_until)
    select id, secret, date_trunc('second', now()) + make_interval(hours => $3)
    from longshore.webhooks
    where id = $1
      and (select count(*) from longshore.previous_webhook_secrets where webhook_id = $1 and signs_until > now()) < $4
    returning signs_until
)
update longshore.webhooks w
set secret = $2, secret_replaced_at = now()
from previous
where w.id = $1
returning previous.signs_until
"""

# A delivery that is still due was written by a transaction that was open while the webhook was disabled: it fails.
ENABLE = f"""
with late as (
    update longshore.webhook_deliveries d
    set state = 'failed', due_at = null, error = w.disabled_reason
    from longshore.webhooks w
    where w.id = $1 and w.chain_id = $2 and w.disabled_at is not null and d.webhook_id = w.id and d.due_at is not null
)
update longshore.webhooks
set disabled_at = null, disabled_reason = null
where id = $1 and chain_id = $2
returning {WEBHOOK}
"""

DELETE = "delete from longshore.webhooks where id = $1 and chain_id = $2 returning id"

SEALED = (
    SealedValues(
        "webhooks",
        "select id, chain_id as chain, 'webhook ' || id as owner, secret as sealed from longshore.webhooks",
        "update longshore.webhooks set secret = $3 where id = $1 and secret = $2",
    ),
    SealedValues(
        "previous secrets of webhooks",
        """
        select w.id, w.chain_id as chain, 'webhook ' || w.id as owner, p.secret as sealed
        from longshore.previous_webhook_secrets p
        join longshore.webhooks w on w.id = p.webhook_id
        """,
        "update longshore.previous_webhook_secrets set secret = $3 where webhook_id = $1 and secret = $2",
    ),
)

EXISTS = "select from longshore.webhooks where id = $1 and chain_id = $2"

DELIVERY = """
d.id, d.event, d.task_id as task, d.revision, d.state, d.attempts, d.status, d.error,
date_trunc('second', d.created_at) as created, date_trunc('second', d.attempted_at) as attempted,
case when d.state = 'pending' then date_trunc('second', d.due_at) end as next
"""

DELIVERIES = f"""
select {DELIVERY}
from longshore.webhooks w
join longshore.webhook_deliveries d on d.webhook_id = w.id
where w.id = $1 and w.chain_id = $2
order by d.created_at desc, d.id
limit $3 offset $4
"""

REDELIVER = f"""
update longshore.webhook_deliveries d
set state = 'pending', attempts_since_redelivery = 0, due_at = now()
where d.id = $2 and d.webhook_id = $1
returning {DELIVERY}
"""

CHANNEL = "longshore_webhook_deliveries"
"""Dispatchers listen to it; the database notifies it, too, where it writes messages."""

NOTIFY = f"select pg_notify('{CHANNEL}', '')"


class Webhook(msgspec.Struct, frozen=True):
    """An address that receives a message when a task ends. Only NewWebhook has its secret."""

    id: UUID
    url: str
    events: list[str]
    created: datetime
    created_by: str | None
    """Kind and id of the credential that made it, such as `user 7`."""
    disabled: datetime | None
    """When its receiver answered 410 Gone; null while messages are sent."""
    disabled_reason: str | None


class WebhookDraft(msgspec.Struct, frozen=True):
    """A validated webhook, ready to be stored."""

    url: str
    events: list[str]
    created_by: str
    """Kind and id of the credential that asks, such as `user 7`."""


class NewWebhook(msgspec.Struct, frozen=True):
    """A webhook that was just made, with its secret."""

    id: UUID
    url: str
    events: list[str]
    created: datetime
    created_by: str | None
    secret: str
    """The key of the signatures, `whsec_…`. It is not shown again."""


class NewSecret(msgspec.Struct, frozen=True):
    """A secret that replaces another one."""

    id: UUID
    secret: str
    """The key of the signatures, `whsec_…`. It is not shown again."""
    previous_until: datetime
    """Until when every message also has a signature of the previous secret."""


class WebhookDelivery(msgspec.Struct, frozen=True):
    """The delivery of a message to a webhook, and the result of its last attempt."""

    id: UUID
    """The `webhook-id` header is `msg_` and this id, in every attempt."""
    event: str
    task: int
    revision: int
    """The task's revision that the message is about."""
    state: str
    """`pending`, `delivered` or `failed`."""
    attempts: int
    status: int | None
    """HTTP status of the last answer; null if there was none."""
    error: str | None
    """Why the last attempt failed."""
    created: datetime
    attempted: datetime | None
    """When the last attempt began."""
    next: datetime | None
    """When the next attempt begins."""


async def create(connection: Connection, vault: Vault, chain: ChainId, draft: WebhookDraft) -> UUID:
    """Make a webhook, in the connection's transaction, and return its id. Raises ProblemError and VaultError."""
    await connection.execute(LOCK_CHAIN, chain)
    webhook = uuid4()
    sealed = vault.seal(chain, f"webhook {webhook}", secrets.token_bytes(SECRET_BYTES))
    made = await connection.fetchval(
        CREATE, chain, webhook, draft.url, draft.events, sealed, draft.created_by, MAX_WEBHOOKS
    )
    if made is None:
        raise ProblemError("too-many-webhooks", f"Chain {chain} has {MAX_WEBHOOKS} already.")
    return webhook


async def new_webhook(pool: Pool, vault: Vault, chain: ChainId, webhook: UUID) -> NewWebhook:
    """Return a webhook with the secret that it was made with. Raises ProblemError and VaultError."""
    row = await pool.fetchrow(NEW, webhook, chain)
    if row is None:
        raise NotFoundError("webhook-not-found")
    if row["secret"] is None:
        raise ProblemError("webhook-secret-replaced", f"The secret of webhook {webhook} has been replaced.")
    return NewWebhook(**{**row, "secret": _encoded(unseal(vault, chain, webhook, row["secret"]))})


async def rotate(connection: Connection, vault: Vault, chain: ChainId, webhook: UUID) -> NewSecret:
    """Give a webhook a new secret, in the connection's transaction; the previous one signs for PREVIOUS_SECRET_HOURS.

    Raises ProblemError and VaultError.
    """
    if await connection.fetchval(LOCK, webhook, chain) is None:
        raise NotFoundError("webhook-not-found")
    secret = secrets.token_bytes(SECRET_BYTES)
    sealed = vault.seal(chain, f"webhook {webhook}", secret)
    until = await connection.fetchval(ROTATE, webhook, sealed, PREVIOUS_SECRET_HOURS, MAX_PREVIOUS_SECRETS)
    if until is None:
        raise ProblemError("too-many-webhook-secrets")
    return NewSecret(webhook, _encoded(secret), until)


def unseal(vault: Vault, chain: int, webhook: UUID, sealed: bytes) -> bytes:
    """Return a stored secret of a webhook. Raises VaultError."""
    return vault.unseal(chain, f"webhook {webhook}", sealed)


async def enable(connection: Connection, chain: ChainId, webhook: UUID) -> Webhook:
    """End the disabling of a webhook. Raises ProblemError."""
    row = await connection.fetchrow(ENABLE, webhook, chain)
    if row is None:
        raise NotFoundError("webhook-not-found")
    return Webhook(**row)


async def list_webhooks(pool: Pool, chain: ChainId, page: Page) -> tuple[list[Webhook], bool]:
    """Return a page of a chain's webhooks, newest first, and whether more follow."""
    return await fetch_page(pool, Webhook, page, LIST, chain)


async def delete(connection: Connection, chain: ChainId, webhook: UUID) -> None:
    """Delete a webhook with its deliveries. Raises ProblemError."""
    if await connection.fetchval(DELETE, webhook, chain) is None:
        raise NotFoundError("webhook-not-found")


async def deliveries(pool: Pool, chain: ChainId, webhook: UUID, page: Page) -> tuple[list[WebhookDelivery], bool]:
    """Return a page of a webhook's deliveries, newest first, and whether more follow. Raises NotFoundError."""
    found, more = await fetch_page(pool, WebhookDelivery, page, DELIVERIES, webhook, chain)
    if not found and await pool.fetchrow(EXISTS, webhook, chain) is None:
        raise NotFoundError("webhook-not-found")
    return found, more


async def redeliver(connection: Connection, chain: ChainId, webhook: UUID, delivery: UUID) -> WebhookDelivery:
    """Send a delivery again, in the connection's transaction, whatever its state. Raises ProblemError."""
    found = await connection.fetchrow(LOCK, webhook, chain)
    if found is None:
        raise NotFoundError("delivery-not-found")
    if found["disabled_at"] is not None:
        raise ProblemError("webhook-disabled")
    row = await connection.fetchrow(REDELIVER, webhook, delivery)
    if row is None:
        raise NotFoundError("delivery-not-found")
    await connection.execute(NOTIFY)
    return WebhookDelivery(**row)


def _encoded(secret: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(secret).decode()
