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
import time
from uuid import UUID

import asyncpg
import msgspec
import structlog

from longshore import __version__
from longshore.database.connect import Pool, is_passing
from longshore.database.listener import Listener
from longshore.outbound import Network, OutboundError, send
from longshore.tasks.lifecycle import storable

log = structlog.get_logger()

CHANNEL = "longshore_deliveries"
TICK = 5.0  # seconds; the longest that a due delivery waits where a notification was lost
AT_ONCE = 16  # deliveries of one worker
TIMEOUT = 15.0  # seconds for an answer
LEASE = 60  # seconds; well beyond TIMEOUT
# Seconds after the first, second, … failure; about a day altogether, and then it has failed.
PAUSES = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
KEPT = "30 days"  # deliveries that are over

TAKE = """
with due as (
    select id from longshore.deliveries
    where due_at <= now()
    order by due_at
    limit $1
    for update skip locked
)
update longshore.deliveries d
set due_at = now() + make_interval(secs => $2), attempts = d.attempts + 1, tries = d.tries + 1, attempted_at = now()
from due, longshore.webhooks w
where d.id = due.id and w.id = d.webhook_id
returning d.id, d.attempts, d.tries, d.payload, w.url, w.secret
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

FORGET = f"delete from longshore.deliveries where created_at < now() - interval '{KEPT}' and due_at is null"  # noqa: S608

NEXT = "select extract(epoch from min(due_at) - now())::float8 from longshore.deliveries where due_at is not null"


class Taken(msgspec.Struct, frozen=True):
    """A delivery that this courier is to make."""

    id: UUID
    attempts: int
    tries: int
    payload: str
    url: str
    secret: bytes


async def run_courier(pool: Pool, url: str, allow: tuple[Network, ...]) -> None:
    """Deliver until cancelled. Raises nothing: what fails is logged and tried again.

    `url`: the service's database; `allow`: see `outbound.send`.
    """
    called = asyncio.Event()
    running: set[asyncio.Task[None]] = set()
    forget_at = 0.0
    async with Listener(url, CHANNEL, lambda _: called.set(), called.set):
        try:
            while True:
                called.clear()
                pause = TICK
                try:
                    for row in await pool.fetch(TAKE, AT_ONCE - len(running), LEASE):
                        task = asyncio.create_task(_deliver(pool, Taken(**row), allow))
                        running.add(task)
                        task.add_done_callback(running.discard)
                        task.add_done_callback(lambda _: called.set())
                    if time.monotonic() >= forget_at:
                        forget_at = time.monotonic() + 3600
                        await pool.execute(FORGET)
                    until_next = await pool.fetchval(NEXT)
                    if until_next is not None and len(running) < AT_ONCE:
                        pause = min(TICK, max(0.05, until_next))
                except Exception as error:
                    if is_passing(error):
                        log.warning("courier out of reach of the database", error=str(error))
                    else:
                        log.error("courier failed", exc_info=error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await called.wait()
        finally:
            # What they had taken falls due again when its lease is over.
            for task in running:
                task.cancel()


async def _deliver(pool: Pool, taken: Taken, allow: tuple[Network, ...]) -> None:
    bound = log.bind(delivery=str(taken.id), attempt=taken.attempts)
    status = None
    try:
        body = taken.payload.encode()
        headers = {
            **signed(f"msg_{taken.id}", int(time.time()), body, taken.secret),
            "Content-Type": "application/json",
            "User-Agent": f"Longshore/{__version__}",
        }
        answer = await send("POST", taken.url, headers=headers, content=body, allow=allow, timeout=TIMEOUT)
        status = answer.status
        fault = None if 200 <= status < 300 else f"answered {status}"
    except OutboundError as error:
        fault = str(error)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        bound.error("delivery broke", exc_info=error)
    try:
        if fault is None:
            await pool.execute(DELIVERED, taken.id, taken.attempts, status)
            bound.info("webhook delivered", status=status)
        else:
            pause = pause_after(taken.tries)
            await pool.execute(PUT_OFF, taken.id, taken.attempts, status, storable(fault), pause)
            bound.warning("webhook not delivered", fault=fault, again_in=pause)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        # It will be delivered a second time, when its lease is over; receivers know it by its id.
        bound.warning("delivery could not be noted", error=str(error))


def signed(id: str, timestamp: int, body: bytes, secret: bytes) -> dict[str, str]:
    """The three headers of the convention. `timestamp`: seconds since 1970, of this attempt."""
    digest = hmac.digest(secret, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def pause_after(tries: int) -> float | None:
    """Seconds until the next attempt after so many that failed, give or take a tenth; None when there is none."""
    if tries > len(PAUSES):
        return None
    return PAUSES[tries - 1] * random.uniform(0.9, 1.1)  # noqa: S311  # so that not all come at once
