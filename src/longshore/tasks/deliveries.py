"""Deliveries of a run to destinations, up to their end: send, begin, retry, lost worker. `delivery_ends` has the end.

A delivery is a row; its message says "begin attempt K of it", as with tasks. A chain has a share of the deliveries
under way, and so has each of its destinations, so that one that hangs delays no other of the chain; a worker leaves
room for other chains, see `worker.delivery_runner`. To one place (a table, or a path that several runs have) one
delivery is under way at a time, and those of one task go there in the order of its runs.

Locks are taken in one order: the task's row, the lock of the chain's deliveries, rows of deliveries, but for the
caller's own delivery, which nobody else changes while it is under way.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.retry import DELIVERY_SECONDS, isolated
from longshore.tasks.attempts import storable
from longshore.tasks.conditions import DELIVERY_RUNNING, DELIVERY_SENT
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import DeliveryMessage, send

MAX_OF_CHAIN = 4
"""Deliveries of a chain that are under way at a time, on all workers."""
MAX_OF_DESTINATION = 2

LOCK_CHAIN = "select pg_advisory_xact_lock(hashtextextended('longshore.run_deliveries', $1))"

LOCK_TASK = "select from longshore.tasks where id = $1 for update"

DUE = f"""
with under_way as (
    select d.destination, d.place from longshore.run_deliveries d where d.chain_id = $1 and {DELIVERY_SENT}
),
of_place as (
    select d.task_id, d.run, d.number, d.destination, d.due_at,
           row_number() over (partition by d.destination, d.place order by d.task_id, d.run, d.number) as place_number
    from longshore.run_deliveries d
    where d.chain_id = $1 and d.state = 'pending' and d.due_at <= now()
      and not exists (select from under_way u where u.destination = d.destination and u.place = d.place)
),
of_destination as (
    select task_id, run, number, due_at,
           row_number() over (partition by destination order by due_at, task_id, run, number)
           + (select count(*) from under_way u where u.destination = of_place.destination) as destination_number
    from of_place
    where place_number = 1
),
chosen as (
    select task_id, run, number
    from of_destination
    where destination_number <= {MAX_OF_DESTINATION}
    order by due_at, task_id, run, number
    limit greatest(0, {MAX_OF_CHAIN} - (select count(*) from under_way))
)
update longshore.run_deliveries d
set due_at = null, began_at = null, attempt = d.attempt + 1
from chosen c
where d.task_id = c.task_id and d.run = c.run and d.number = c.number
returning d.task_id, d.run, d.number, d.attempt
"""

CHAINS = "select distinct chain_id from longshore.run_deliveries where due_at <= now()"

CHAIN_OF = "select chain_id from longshore.run_deliveries where task_id = $1 and run = $2 and number = $3"

# Watermarks are hashed as in the list of runs: one counts the transactions of the whole source.
ATTEMPT = f"""
select begun.task_id, begun.run, begun.number, begun.attempt,
       begun.chain_id as chain, begun.destination, begun.place, begun.entry, begun.lost_workers,
       extract(epoch from begun.first_began_at - now())::float8 + {DELIVERY_SECONDS} as seconds_left,
       r.result, r.location, r.manifest, r.signature, r.column_types,
       left(encode(sha256(convert_to(r.watermark_from, 'UTF8')), 'hex'), 16) as watermark_from_hash,
       left(encode(sha256(convert_to(r.watermark_to, 'UTF8')), 'hex'), 16) as watermark_to_hash,
       (
           select max(later.run) from longshore.run_deliveries later
           where later.task_id = begun.task_id and later.destination = begun.destination and later.place = begun.place
             and later.destination_id is not distinct from begun.destination_id
             and later.run > begun.run and later.state = 'delivered'
       ) as later_run
from begun
join longshore.runs r on r.task_id = begun.task_id and r.run = begun.run
"""

BEGIN = f"""
with begun as (
    update longshore.run_deliveries d
    set began_at = coalesce(d.began_at, now()), first_began_at = coalesce(d.first_began_at, now()), claim_id = $5,
        discard_at = now()
    where d.task_id = $1 and d.run = $2 and d.number = $3 and d.attempt = $4 and {DELIVERY_SENT}
      and (d.began_at is null or d.claim_id = $5)
    returning *
)
{ATTEMPT}"""

# Each pause is as long as the time since the end, so that after some ten tries in six hours it is given up. A worker
# that had the delivery under way at its end has a minute to remove it. A later delivery to the same place comes first,
# as a store of objects cannot tell whose upload it aborts.
BEGIN_DISCARD = f"""
with begun as (
    update longshore.run_deliveries d
    set discard_at = case when now() < d.ended_at + interval '3 hours'
                          then now() + greatest(interval '1 minute', now() - d.ended_at) end
    where (d.task_id, d.run, d.number) in (
        select e.task_id, e.run, e.number
        from longshore.run_deliveries e
        where e.discard_at <= now() and e.state in ('failed', 'cancelled')
          and (e.began_at is null or e.ended_at < now() - interval '1 minute')
          and not exists (
              select from longshore.run_deliveries p
              where p.chain_id = e.chain_id and p.destination = e.destination and p.place = e.place
                and p.state = 'pending'
          )
        order by e.discard_at
        limit 1
        for update skip locked
    )
    returning *
)
{ATTEMPT}"""

# The time for which removal is tried runs while no other delivery is at the place.
POSTPONE_DISCARD = """
with other as (
    select from longshore.run_deliveries
    where chain_id = $1 and destination = $2 and place = $3 and state = 'pending'
    limit 1
),
later as (
    update longshore.run_deliveries set discard_at = now() + interval '1 minute'
    where task_id = $4 and run = $5 and number = $6 and exists (select from other)
)
select exists (select from other)
"""

DISCARDED = """
update longshore.run_deliveries set discard_at = null
where task_id = $1 and run = $2 and number = $3 and state in ('failed', 'cancelled')
"""

# $5: the error. $6: seconds until the next attempt. $7: whether the worker was lost. An entry for each new reason.
RETRY = f"""
with before as (
    select * from longshore.run_deliveries d
    where d.task_id = $1 and d.run = $2 and d.number = $3 and d.attempt = $4 and {DELIVERY_RUNNING}
),
delivery as (
    update longshore.run_deliveries d
    set due_at = now() + make_interval(secs => $6), began_at = null, error = $5,
        lost_workers = before.lost_workers + $7::boolean::int
    from before
    where d.task_id = before.task_id and d.run = before.run and d.number = before.number
),
task as (
    update longshore.tasks t
    set modified_at = greatest(t.modified_at, now()), revision = t.revision + 1, log_length = t.log_length + 1
    from before
    where t.id = before.task_id and before.error is distinct from $5
    returning t.id, t.log_length, t.modified_at
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select task.id, task.log_length - 1, task.modified_at,
           'delivery to ' || before.destination || ': attempt ' || before.attempt || ' failed: ' || $5::text
           || '; the next one begins in ' || round($6::float8) || ' s'
    from task, before
)
select chain_id from before
"""

# One that is due again has the number of its last attempt, which has ended, until the next one is sent.
CURRENT = f"""
select d.task_id, d.run, d.number, d.attempt
from longshore.run_deliveries d
where d.task_id = any($1::bigint[]) and {DELIVERY_SENT}
"""


class DeliveryAttempt(msgspec.Struct, frozen=True):
    """An attempt of a delivery that has begun, with the run whose result it brings."""

    message: DeliveryMessage
    chain: ChainId
    destination: str
    place: str
    entry: str
    lost_workers: int
    """Earlier attempts whose worker was lost."""
    seconds_left: float
    """For which the delivery is still tried."""
    later_run: int | None
    """A later run of the task that has been delivered to the same place."""
    result: str
    location: str | None
    """None where the run has no file. A result that was removed keeps its location."""
    manifest: str | None
    signature: str | None
    """Of the manifest."""
    column_types: str | None
    watermark_from_hash: str | None
    watermark_to_hash: str | None


class StaleDeliveryError(Exception):
    """A newer attempt of the delivery exists, or the delivery has ended, so the attempt may write nothing."""

    def __init__(self, message: DeliveryMessage) -> None:
        super().__init__(f"{message.key} is no longer the newest attempt")


async def send_due_deliveries(connection: Connection, chain: ChainId) -> None:
    """Send the messages of as many due deliveries of a chain as its share allows, in the connection's transaction.

    Call it after everything that changes a delivery of the chain.
    """
    await connection.execute(LOCK_CHAIN, chain)
    await send(connection, [DeliveryMessage(*row) for row in await connection.fetch(DUE, chain)])


async def send_all_due_deliveries(pool: Pool) -> None:
    """Send the messages of due deliveries of all chains. An error of one chain is logged; a transient one is raised."""
    for row in await pool.fetch(CHAINS):
        with isolated("due deliveries not sent", chain=row["chain_id"]):
            async with pool.acquire() as connection, connection.transaction():
                await send_due_deliveries(connection, ChainId(row["chain_id"]))


async def chain_of(pool: Pool, message: DeliveryMessage) -> ChainId | None:
    """Return the chain of a delivery; None if the delivery was deleted."""
    chain = await pool.fetchval(CHAIN_OF, message.task, message.run, message.number)
    return None if chain is None else ChainId(chain)


async def begin(pool: Pool, message: DeliveryMessage, claim_id: UUID) -> DeliveryAttempt | None:
    """Claim the attempt that a message names; None if the message is outdated or the attempt is claimed already.

    `claim_id`: the id of this claim. A claim that is repeated with the same id returns the same attempt again.
    """
    return _attempt(await pool.fetchrow(BEGIN, *msgspec.structs.astuple(message), claim_id))


async def begin_discard(pool: Pool) -> DeliveryAttempt | None:
    """Claim a delivery that has failed or was cancelled and may have left something unfinished; None if there is none.

    It is due again later, unless it is `discarded`.
    """
    return _attempt(await pool.fetchrow(BEGIN_DISCARD))


async def postpone_discard(pool: Pool, delivery: DeliveryAttempt) -> bool:
    """Postpone the discard of an ended delivery while another one to its place is pending; return whether it was."""
    ids = (delivery.message.task, delivery.message.run, delivery.message.number)
    return bool(await pool.fetchval(POSTPONE_DISCARD, delivery.chain, delivery.destination, delivery.place, *ids))


async def discarded(pool: Pool, message: DeliveryMessage) -> None:
    """Note that an ended delivery has left nothing unfinished at its destination."""
    await pool.execute(DISCARDED, message.task, message.run, message.number)


def _attempt(row: asyncpg.Record | None) -> DeliveryAttempt | None:
    if row is None:
        return None
    columns = dict(row)
    message = DeliveryMessage(*(columns.pop(name) for name in ("task_id", "run", "number", "attempt")))
    return DeliveryAttempt(message=message, **columns)


async def retry(pool: Pool, message: DeliveryMessage, why: str, pause: float, *, is_lost: bool = False) -> None:
    """End an attempt; the next one is due `pause` seconds from now. Raises StaleDeliveryError.

    `is_lost`: whether its worker was lost.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK_TASK, message.task)
        ids = msgspec.structs.astuple(message)
        chain = await connection.fetchval(RETRY, *ids, storable(why), pause, is_lost)
        if chain is None:
            raise StaleDeliveryError(message)
        await send_due_deliveries(connection, ChainId(chain))


async def current_attempts(pool: Pool, tasks: Sequence[TaskId]) -> set[DeliveryMessage]:
    """Return the newest attempts of the pending deliveries of tasks, as far as they are sent or running."""
    return {DeliveryMessage(*row) for row in await pool.fetch(CURRENT, list(tasks))}
