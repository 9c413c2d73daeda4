"""The courier: takes what is due from the outbox, posts it, and puts off what was not taken.

Every worker runs one. The outbox's row is the message: a courier takes it by putting `due_at` off for LEASE seconds, so
that what a dead courier had taken is taken again. Deliveries do not go through the job queue, as a receiver that is
slow to answer would hold a place that an export could have.

Signed after https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog

from longshore import __version__
from longshore.database.connect import Pool, is_transient
from longshore.database.listener import Listener
from longshore.outbound import Network, OutboundError, send
from longshore.tasks.attempts import storable

log = structlog.get_logger()

CHANNEL = "longshore_deliveries"
TICK = 5.0  # seconds; the longest that a due delivery waits where a notification was lost
# Deliveries of one worker at a time: a receiver that does not answer holds its place for TIMEOUT seconds, so each
# webhook and each chain has a share, and webhooks whose last delivery failed have half of all places together.
AT_ONCE, AT_ONCE_OF_CHAIN, AT_ONCE_OF_WEBHOOK, AT_ONCE_OF_FAILING = 64, 8, 4, 32
TIMEOUT = 15.0  # seconds for an answer
LEASE = 60  # seconds; well beyond TIMEOUT
# Seconds after the first, second, … failure; about a day altogether, and then it has failed.
PAUSES = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
GONE = 410  # the receiver wants no more: RFC 9110, section 15.5.11
DISABLED = f"the receiver answered {GONE}"
MAX_RETRY_AFTER_SECONDS = 86_400.0
DELAY = re.compile("[0-9]{1,9}")
KEPT = "30 days"  # deliveries that are over

# $1: places; $2, $3: places of a webhook and of a chain; $4, $5: webhook and chain of each delivery that is under way;
# $6: webhooks that fail; $7: their places. Goes from webhook to webhook through the index, however many deliveries of
# each are due, and gives the first of each chain before the second of any.
DUE = """
with recursive webhook(id) as (
    (select webhook_id from longshore.deliveries where due_at is not null order by webhook_id limit 1)
    union all
    select (
        select d.webhook_id from longshore.deliveries d
        where d.due_at is not null and d.webhook_id > webhook.id
        order by d.webhook_id
        limit 1
    )
    from webhook
    where webhook.id is not null
),
numbered as (
    select d.id, d.due_at, w.id = any($6::uuid[]) as failing,
           row_number() over (partition by w.id order by d.due_at, d.id)
               + cardinality(array_positions($4::uuid[], w.id)) as of_webhook,
           row_number() over (partition by w.chain_id order by d.due_at, d.id)
               + cardinality(array_positions($5::bigint[], w.chain_id)) as of_chain
    from webhook
    join longshore.webhooks w on w.id = webhook.id
    cross join lateral (
        select id, due_at from longshore.deliveries
        where webhook_id = w.id and due_at <= now()
        order by due_at
        limit $2
    ) d
),
shared as (
    select id, of_chain, due_at, failing, row_number() over (partition by failing order by of_chain, due_at) as number
    from numbered
    where of_webhook <= $2 and of_chain <= $3
)
select id from shared where not failing or number <= $7 order by of_chain, due_at limit $1
"""

# $1: deliveries; $2: lease.
TAKE = """
with due as (
    select id from longshore.deliveries where id = any($1::uuid[]) and due_at <= now() for update skip locked
)
update longshore.deliveries d
set due_at = now() + make_interval(secs => $2), attempts = d.attempts + 1, tries = d.tries + 1, attempted_at = now()
from due, longshore.webhooks w
where d.id = due.id and w.id = d.webhook_id
returning d.id, d.attempts, d.tries, d.payload, w.url, w.secret, w.id as webhook, w.chain_id as chain,
          case when w.old_secret_until > now() then w.old_secret end as old_secret
"""

# Whoever took it later, or sent it out by hand, has the last word.
DELIVERED = """
update longshore.deliveries
set state = 'delivered', due_at = null, status = $3, fault = null
where id = $1 and attempts = $2 and tries > 0
"""

PUT_OFF = """
update longshore.deliveries
set status = $3, fault = $4,
    state = case when $5::float8 is null then 'failed' else 'pending' end,
    due_at = now() + make_interval(secs => $5)
where id = $1 and attempts = $2 and tries > 0
"""

# What waits for the webhook has failed with it. An entry in the audit log tells the chain.
DISABLE = """
with webhook as (
    update longshore.webhooks
    set disabled_at = now(), disabled_reason = $2
    where id = $1 and disabled_at is null
    returning id, chain_id
),
failed as (
    update longshore.deliveries d
    set state = 'failed', due_at = null, fault = $2
    from webhook
    where d.webhook_id = webhook.id and d.due_at is not null
)
insert into longshore.audit (chain_id, actor_kind, actor, action, object, address, request_id, details)
select chain_id, 'address', '', 'webhook.disable', 'webhook ' || id, '', '', json_build_object('reason', $2::text)
from webhook
"""

FORGET = f"delete from longshore.deliveries where created_at < now() - interval '{KEPT}' and due_at is null"  # noqa: S608

# What is due already and was not taken waits for a place, and the end of a delivery gives one.
NEXT = "select extract(epoch from min(due_at) - now())::float8 from longshore.deliveries where due_at > now()"


class LeasedDelivery(msgspec.Struct, frozen=True):
    """A delivery that this courier is to make."""

    id: UUID
    attempts: int
    tries: int
    payload: str
    url: str
    secret: bytes
    webhook: UUID
    chain: int
    old_secret: bytes | None
    """The secret before, while both are good."""

    @property
    def secrets(self) -> tuple[bytes, ...]:
        return (self.secret,) if self.old_secret is None else (self.secret, self.old_secret)


class Places:
    """The deliveries of one worker that are under way, and the webhooks whose last delivery failed."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[bool], LeasedDelivery] = {}
        self._failing: set[UUID] = set()

    def tasks(self) -> list[asyncio.Task[bool]]:
        """Return the deliveries that are under way."""
        return list(self._running)

    def arguments(self) -> tuple[Any, ...]:
        """Return what DUE needs to know."""
        under_way = list(self._running.values())
        failing = sum(taken.webhook in self._failing for taken in under_way)
        return (
            AT_ONCE - len(under_way),
            AT_ONCE_OF_WEBHOOK,
            AT_ONCE_OF_CHAIN,
            [taken.webhook for taken in under_way],
            [taken.chain for taken in under_way],
            list(self._failing),
            AT_ONCE_OF_FAILING - failing,
        )

    def begin(self, taken: LeasedDelivery, task: asyncio.Task[bool]) -> None:
        """Count a delivery until its task has ended, which gives whether the receiver took it."""
        self._running[task] = taken
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[bool]) -> None:
        taken = self._running.pop(task)
        if task.cancelled() or task.exception() is not None or not task.result():
            self._failing.add(taken.webhook)
        else:
            self._failing.discard(taken.webhook)


async def run_dispatcher(pool: Pool, url: str, allow: tuple[Network, ...]) -> None:
    """Deliver until cancelled. Raises nothing: what fails is logged and tried again.

    `url`: the service's database; `allow`: see `outbound.send`.
    """
    called = asyncio.Event()
    places = Places()
    forget_at = 0.0
    async with Listener(url, CHANNEL, lambda _: called.set(), called.set):
        try:
            while True:
                called.clear()
                pause = TICK
                try:
                    for taken in await _take(pool, places):
                        task = asyncio.create_task(_deliver(pool, taken, allow))
                        places.begin(taken, task)
                        task.add_done_callback(lambda _: called.set())
                    if time.monotonic() >= forget_at:
                        forget_at = time.monotonic() + 3600
                        await pool.execute(FORGET)
                    until_next = await pool.fetchval(NEXT)
                    if until_next is not None:
                        pause = min(TICK, max(0.05, until_next))
                except Exception as error:
                    if is_transient(error):
                        log.warning("courier out of reach of the database", error=str(error))
                    else:
                        log.error("courier failed", exc_info=error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await called.wait()
        finally:
            # What they had taken falls due again when its lease is over.
            for task in places.tasks():
                task.cancel()


async def _take(pool: Pool, places: Places) -> list[LeasedDelivery]:
    """Take what is due and has a place. Where deliveries cannot be taken together, each is by itself."""
    due = [row["id"] for row in await pool.fetch(DUE, *places.arguments())]
    try:
        return [LeasedDelivery(**row) for row in await pool.fetch(TAKE, due, LEASE)] if due else []
    except Exception as error:
        if is_transient(error):
            raise
        log.error("due deliveries not taken together", exc_info=error)
    taken: list[LeasedDelivery] = []
    for delivery in due:
        try:
            taken += [LeasedDelivery(**row) for row in await pool.fetch(TAKE, [delivery], LEASE)]
        except Exception as error:
            if is_transient(error):
                raise
            log.error("due delivery not taken", delivery=str(delivery), exc_info=error)
    return taken


async def _deliver(pool: Pool, taken: LeasedDelivery, allow: tuple[Network, ...]) -> bool:
    """Make a delivery, note how it went, and give whether the receiver took it."""
    bound = log.bind(delivery=str(taken.id), attempt=taken.attempts)
    status, asked = None, None
    try:
        body = taken.payload.encode()
        headers = {
            **signed(f"msg_{taken.id}", int(time.time()), body, *taken.secrets),
            "Content-Type": "application/json",
            "User-Agent": f"Longshore/{__version__}",
        }
        answer = await send("POST", taken.url, headers=headers, content=body, allow=allow, timeout=TIMEOUT)
        status, asked = answer.status, retry_after(answer.headers.get("retry-after"), time.time())
        violation = None if 200 <= status < 300 else f"answered {status}"
    except OutboundError as error:
        violation = str(error)
    except Exception as error:
        violation = f"{type(error).__name__}: {error}"
        bound.error("delivery broke", exc_info=error)
    try:
        if violation is None:
            await pool.execute(DELIVERED, taken.id, taken.attempts, status)
            bound.info("webhook delivered", status=status)
        else:
            pause = pause_after(taken.tries)
            if pause is not None and asked is not None:
                pause = max(pause, asked)
            await pool.execute(PUT_OFF, taken.id, taken.attempts, status, storable(violation), pause)
            bound.warning("webhook not delivered", violation=violation, again_in=pause)
        if status == GONE:
            await pool.execute(DISABLE, taken.webhook, DISABLED)
            bound.warning("webhook disabled", webhook=str(taken.webhook), reason=DISABLED)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        # It will be delivered a second time, when its lease is over; receivers know it by its id.
        bound.warning("delivery could not be noted", error=str(error))
    return violation is None


def signed(id: str, timestamp: int, body: bytes, *secrets: bytes) -> dict[str, str]:
    """Return the three headers of the convention, with a signature for each secret.

    `timestamp`: seconds since 1970, of this attempt.
    """
    content = f"{id}.{timestamp}.".encode() + body
    digests = [hmac.digest(secret, content, hashlib.sha256) for secret in secrets]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` field asks for, at most MAX_RETRY_AFTER_SECONDS; None if invalid.

    `now`: seconds since 1970. The field has seconds or a date (RFC 9110, section 10.2.3).
    """
    if text is None:
        return None
    if DELAY.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now, 0.0), MAX_RETRY_AFTER_SECONDS)
    except (ValueError, OverflowError):
        return None


def pause_after(tries: int) -> float | None:
    """Seconds until the next attempt after so many that failed, give or take a tenth; None when there is none."""
    if tries > len(PAUSES):
        return None
    return PAUSES[tries - 1] * random.uniform(0.9, 1.1)  # noqa: S311  # so that not all come at once
