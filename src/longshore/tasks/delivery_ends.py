"""The end of a delivery, and with the last one the end of its run. Each is one statement with its log entries.

A run whose deliveries have all ended is DONE if every place has it, else ERROR. A delivery that a client asked for
later changes the state of a run, and of a task whose last run that is, from ERROR to DONE alone.
"""

from contextlib import suppress

import msgspec
import structlog

from longshore.database.connect import Pool
from longshore.database.retry import DELIVERY, DELIVERY_SECONDS, MAX_LOST_DELIVERIES, isolated
from longshore.tasks import deliveries, run_ends
from longshore.tasks.attempts import storable
from longshore.tasks.deliveries import LOCK_TASK, StaleDeliveryError
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import DeliveryMessage, send
from longshore.telemetry import metrics

log = structlog.get_logger()

BATCH = 500

# The caller has locked the task in a statement of its own, so that the snapshot of this one shows the deliveries of the
# run that have ended before. $5: the state. $6: the error. $7, $8: address and evidence. `is_good`: all deliveries that
# began with this one have succeeded.
END = """
with delivery as (
    update longshore.run_deliveries
    set state = $5, error = $6, address = $7, evidence = $8, ended_at = now(), due_at = null,
        discard_at = case when $5 <> 'delivered' then discard_at end
    where task_id = $1 and run = $2 and number = $3 and attempt = $4 and state = 'pending' and due_at is null
      and began_at is not null
    returning *
),
others as (
    select d.state, d.destination, d.error, d.ended_at
    from longshore.run_deliveries d
    join delivery on d.round = delivery.round
    where d.task_id = $1 and d.run = $2 and d.number <> $3
),
before as (
    select t.*, greatest(t.modified_at, now()) as at, r.state as run_state, r.watermark_from, r.watermark_to,
           r.acknowledged, r.interval_end as run_interval_end, r.result as run_result, delivery.destination,
           t.delivering and t.run = $2 as is_newest, $5 = 'delivered' and not exists (
               select from others where others.state <> 'delivered'
           ) as is_good, not exists (select from others where others.state = 'pending') as is_last
    from delivery
    join longshore.tasks t on t.id = $1
    join longshore.runs r on r.task_id = $1 and r.run = $2
),
after as (
    select *,
           case when is_newest and is_last then case when is_good then 'DONE' else 'ERROR' end
                when is_good and run = $2 and state = 'ERROR' and run_state = 'ERROR' then 'DONE'
                else state end as new_state,
           case when is_newest and is_last then case when is_good then 'DONE' else 'ERROR' end
                when is_good then 'DONE'
                else run_state end as new_run_state,
           -- The log entry of the failed delivery that ended last; null if none failed.
           case when $5 = 'failed' then 'delivery to ' || destination || ' failed: ' || $6::text else (
               select 'delivery to ' || others.destination || ' failed: ' || others.error
               from others where others.state = 'failed' order by others.ended_at desc limit 1
           ) end as failure,
           -- The watermark moves only if it still stands where the run began, and all rows were not requested since. A
           -- newer run that is in progress began there too, and moves it further; one that is to be acknowledged gives
           -- the same increment.
           is_good and watermark_to is not null and not coalesce(acknowledged, false)
               and watermark_from is not distinct from watermark and (run_state <> 'DONE' or acknowledged is not null)
               and $2 > full_after_run and (acknowledged is not null or run = $2 or state <> 'INPROGRESS')
               as moves
    from before
),
task as (
    update longshore.tasks t
    set state = after.new_state,
        reason = case when after.new_state <> after.state then after.failure else after.reason end,
        delivering = t.delivering and not (after.is_newest and after.is_last),
        result = case when after.new_state <> 'DONE' or not after.is_good then after.result else coalesce((
            select r.result
            from longshore.runs r
            where r.task_id = $1 and r.run <> $2 and r.state = 'DONE'
              and (r.interval_end > after.run_interval_end or (r.interval_end = after.run_interval_end and r.run > $2))
            order by r.interval_end desc, r.run desc
            limit 1
        ), after.run_result) end,
        watermark = case when after.moves then after.watermark_to else after.watermark end,
        modified_at = after.at, revision = after.revision + 1,
        log_length = after.log_length + 1 + (after.new_state <> after.state)::int
    from after
    where t.id = after.id
),
run as (
    update longshore.runs r
    set state = after.new_run_state,
        reason = case when after.is_newest and after.is_last then after.failure else r.reason end,
        ended_at = case when after.is_newest and after.is_last then after.at else r.ended_at end,
        acknowledged = case when r.acknowledged is not null then r.acknowledged or after.is_good end,
        key_list_bytes = case when after.is_good then 0 else r.key_list_bytes end
    from after
    where r.task_id = $1 and r.run = $2
),
-- Other runs that brought the same increment need no more; the key lists of all are needed no more.
given as (
    update longshore.runs r
    set acknowledged = r.watermark_from is not distinct from after.watermark_from
                       and r.watermark_to = after.watermark_to,
        key_list_bytes = 0
    from after
    where after.moves and r.task_id = $1 and r.run <> $2 and not r.acknowledged
),
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select id, log_length, at,
           case when $5 = 'delivered' then 'delivered to ' || destination || ': ' || $7::text else failure end
    from after
    union all
    select id, log_length + 1, at, state || ' -> ' || new_state from after where new_state <> state
)
select id, chain_id, trigger, planned_at, schedule_ended, action, new_state, is_newest and is_last as ends
from after
"""

LOST = """
select attempt, lost, extract(epoch from first_began_at - now())::float8 + $5 as seconds_left
from longshore.run_deliveries
where task_id = $1 and run = $2 and number = $3 and attempt = $4 and state = 'pending' and due_at is null
  and began_at is not null
"""

# At random, so that those which cannot be recovered keep no other waiting for long.
WITHOUT_MESSAGE = """
select d.task_id, d.run, d.number, d.attempt, d.began_at is not null as began
from longshore.run_deliveries d
where d.state = 'pending' and d.due_at is null
  and not exists (
      select from longshore.pgqueuer q
      where q.dedupe_key = 'delivery:' || d.task_id || ':' || d.run || ':' || d.number || ':' || d.attempt
        and q.status in ('queued', 'picked')
  )
order by random()
limit $1
"""


async def finish(pool: Pool, message: DeliveryMessage, address: str, evidence: str) -> None:
    """End a delivery: the result lies at `address`, where `evidence` (JSON) was read back.

    Raises StaleDeliveryError.
    """
    await _end(pool, message, "delivered", None, address, evidence)


async def fail(pool: Pool, message: DeliveryMessage, why: str) -> None:
    """End a delivery that is not tried any more. Raises StaleDeliveryError."""
    await _end(pool, message, "failed", storable(why), None, None)


async def _end(pool: Pool, message: DeliveryMessage, *end: str | None) -> None:
    """End a delivery. `end`: state, error, address and evidence, as END has them."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK_TASK, message.task)
        ended = await connection.fetchrow(END, *msgspec.structs.astuple(message), *end)
        if ended is None:
            raise StaleDeliveryError(message)
        await deliveries.send_due_deliveries(connection, ChainId(ended["chain_id"]))
        if ended["ends"]:
            await run_ends.plan_next_run(connection, ended)
    if ended["ends"]:
        metrics.RUNS.labels(ended["action"], ended["new_state"]).inc()


async def retry_or_fail_lost(pool: Pool, message: DeliveryMessage) -> bool:
    """Retry or fail a delivery whose worker is lost; return False if its attempt is not under way.

    Call it when the message of the attempt is delivered a second time or no longer exists.
    """
    row = await pool.fetchrow(LOST, *msgspec.structs.astuple(message), DELIVERY_SECONDS)
    if row is None:
        return False
    pause = DELIVERY.after(row["lost"] + 1)
    if row["lost"] + 1 >= MAX_LOST_DELIVERIES or pause >= row["seconds_left"]:
        await fail(pool, message, f"the worker was lost in attempt {row['attempt']}, and there is no further one")
    else:
        await deliveries.retry(pool, message, "the worker was lost", pause, lost=True)
    metrics.LOST.inc()
    return True


async def sweep(pool: Pool) -> None:
    """Recover deliveries without a message: those that began are lost, the message of the others is sent again."""
    for row in await pool.fetch(WITHOUT_MESSAGE, BATCH):
        message = DeliveryMessage(TaskId(row["task_id"]), row["run"], row["number"], row["attempt"])
        # A stale attempt was recovered by another worker.
        with isolated("delivery not recovered", delivery=message.key), suppress(StaleDeliveryError):
            if row["began"]:
                await retry_or_fail_lost(pool, message)
            else:
                async with pool.acquire() as connection:
                    await send(connection, [message])
            log.warning("delivery without a message recovered", delivery=message.key)
