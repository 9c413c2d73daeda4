"""The end of a delivery, and with the last one of its round the end of the round. Each is one statement with its log.

A round is what was asked for together: the run's own deliveries, which it waits for, or those that a client asked for
later. A run that waited is DONE if every place has its result, else ERROR. A later round changes the state of a run,
and of a task whose last run that is, from ERROR to DONE alone.
"""

from collections.abc import Iterable

import asyncpg
import msgspec

from longshore.database.connect import Pool
from longshore.database.retry import DELIVERY, DELIVERY_SECONDS, MAX_LOST_DELIVERIES
from longshore.tasks import deliveries
from longshore.tasks.attempts import storable
from longshore.tasks.conditions import DELIVERY_RUNNING, DELIVERY_SENT
from longshore.tasks.deliveries import LOCK_TASK, StaleDeliveryError
from longshore.tasks.model import StateCode
from longshore.tasks.next_run import ENDED_COLUMNS, EndedRun, plan_next_run
from longshore.tasks.queue import DeliveryMessage
from longshore.telemetry import metrics

# The deliveries that were asked for together with one that is under way, itself included.
ROUND = f"""
select o.number, o.state, o.destination, o.error, t.delivering and t.run = d.run as is_awaited
from longshore.run_deliveries d
join longshore.tasks t on t.id = d.task_id
join longshore.run_deliveries o on o.task_id = d.task_id and o.run = d.run and o.round = d.round
where d.task_id = $1 and d.run = $2 and d.number = $3 and d.attempt = $4 and {DELIVERY_RUNNING}
order by o.ended_at
"""

# $5 to $8: state, error, address and evidence. $9: the log entry, in the statements that follow.
ENDED_DELIVERY = f"""
delivery as (
    update longshore.run_deliveries d
    set state = $5, error = $6, address = $7, evidence = $8, ended_at = now(), due_at = null,
        discard_at = case when $5 <> 'delivered' then discard_at end
    where d.task_id = $1 and d.run = $2 and d.number = $3 and d.attempt = $4 and {DELIVERY_RUNNING}
    returning task_id
)"""

END_DELIVERY = f"""
with {ENDED_DELIVERY},
task as (
    update longshore.tasks t
    set modified_at = greatest(t.modified_at, now()), revision = t.revision + 1, log_length = t.log_length + 1
    from delivery
    where t.id = delivery.task_id
    returning t.*
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg) select id, log_length - 1, modified_at, $9 from task
)
select {ENDED_COLUMNS} from task
"""

# $10: the state that the run gets, and its task, where that waits for it or ended in ERROR because of it. $11: the log
# entry of the failed delivery that ended last; null if none failed.
END_ROUND = f"""
with {ENDED_DELIVERY},
before as (
    select t.*, greatest(t.modified_at, now()) as at, r.watermark_from, r.watermark_to, r.acknowledged,
           r.interval_end as run_interval_end, r.result as run_result,
           t.run = $2 and (t.delivering or (t.state = 'ERROR' and r.state = 'ERROR')) as changes,
           -- The watermark moves only if it still stands where the run began, and all rows were not requested since. A
           -- newer run that is in progress began there too, and moves it further; one that is to be acknowledged gives
           -- the same increment.
           $10 = 'DONE' and r.watermark_to is not null and not coalesce(r.acknowledged, false)
               and r.watermark_from is not distinct from t.watermark
               and (r.state <> 'DONE' or r.acknowledged is not null)
               and $2 > t.full_after_run and (r.acknowledged is not null or t.run = $2 or t.state <> 'INPROGRESS')
               as moves
    from delivery
    join longshore.tasks t on t.id = delivery.task_id
    join longshore.runs r on r.task_id = t.id and r.run = $2
),
task as (
    update longshore.tasks t
    set state = case when before.changes then $10 else before.state end,
        reason = case when before.changes then $11 else before.reason end,
        delivering = before.delivering and before.run <> $2,
        result = case when $10 <> 'DONE' or (not before.changes and before.state <> 'DONE') then before.result
                      else coalesce((
            select r.result
            from longshore.runs r
            where r.task_id = $1 and r.run <> $2 and r.state = 'DONE'
              and (r.interval_end, r.run) > (before.run_interval_end, $2)
            order by r.interval_end desc, r.run desc
            limit 1
        ), before.run_result) end,
        watermark = case when before.moves then before.watermark_to else before.watermark end,
        modified_at = before.at, revision = before.revision + 1,
        log_length = before.log_length + 1 + before.changes::int
    from before
    where t.id = before.id
),
run as (
    update longshore.runs r
    set state = $10, reason = $11,
        ended_at = case when before.delivering and before.run = $2 then before.at else r.ended_at end,
        acknowledged = case when r.acknowledged is not null then r.acknowledged or $10 = 'DONE' end,
        key_list_bytes = case when $10 = 'DONE' then 0 else r.key_list_bytes end
    from before
    where r.task_id = before.id and r.run = $2
),
-- Other runs that brought the same increment need no more; the key lists of all are needed no more.
superseded_increments as (
    update longshore.runs r
    set acknowledged = r.watermark_from is not distinct from before.watermark_from
                       and r.watermark_to = before.watermark_to,
        key_list_bytes = 0
    from before
    where before.moves and r.task_id = before.id and r.run <> $2 and not r.acknowledged
),
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select id, log_length, at, $9 from before
    union all
    select id, log_length + 1, at, state || ' -> ' || $10 from before where changes
)
select {ENDED_COLUMNS} from before
"""

LOST = f"""
select d.attempt, d.lost_workers, extract(epoch from d.first_began_at - now())::float8 + $5 as seconds_left
from longshore.run_deliveries d
where d.task_id = $1 and d.run = $2 and d.number = $3 and d.attempt = $4 and {DELIVERY_RUNNING}
"""

# At random, so that those which cannot be recovered keep no other waiting for long.
WITHOUT_MESSAGE = f"""
select d.task_id, d.run, d.number, d.attempt, d.began_at is not null as began
from longshore.run_deliveries d
where {DELIVERY_SENT}
  and not exists (
      select from longshore.pgqueuer q
      where q.dedupe_key = 'delivery:' || d.task_id || ':' || d.run || ':' || d.number || ':' || d.attempt
        and q.status in ('queued', 'picked')
  )
order by random()
limit $1
"""


class DeliveryEnd(msgspec.Struct, frozen=True):
    """How a delivery has ended."""

    state: str
    """`delivered` or `failed`."""
    error: str | None = None
    address: str | None = None
    evidence: str | None = None
    """As JSON."""

    def entry(self, destination: str) -> str:
        """Return the entry of the task's log."""
        if self.state == "delivered":
            return f"delivered to {destination}: {self.address}"
        return f"delivery to {destination} failed: {self.error}"


async def finish(pool: Pool, message: DeliveryMessage, address: str, evidence: str) -> None:
    """End a delivery: the result lies at `address`, where `evidence` (JSON) was read back.

    Raises StaleDeliveryError.
    """
    await _end(pool, message, DeliveryEnd("delivered", address=address, evidence=evidence))


async def fail(pool: Pool, message: DeliveryMessage, why: str) -> None:
    """End a delivery that is not tried any more. Raises StaleDeliveryError."""
    await _end(pool, message, DeliveryEnd("failed", error=storable(why)))


async def _end(pool: Pool, message: DeliveryMessage, end: DeliveryEnd) -> None:
    ids = msgspec.structs.astuple(message)
    async with pool.acquire() as connection, connection.transaction():
        # In a statement of its own, so that the snapshot of the next one shows the deliveries that have ended before.
        await connection.execute(LOCK_TASK, message.task)
        others = {row["number"]: row for row in await connection.fetch(ROUND, *ids)}
        this = others.pop(message.number, None)
        if this is None:
            raise StaleDeliveryError(message)
        states = {end.state, *(other["state"] for other in others.values())}
        is_good, ends_run = states == {"delivered"}, this["is_awaited"] and "pending" not in states
        args = (*ids, *msgspec.structs.astuple(end), end.entry(this["destination"]))
        if is_good or ends_run:
            state = StateCode.DONE if is_good else StateCode.ERROR
            row = await connection.fetchrow(END_ROUND, *args, state, _failure(end, this, others.values()))
        else:
            row = await connection.fetchrow(END_DELIVERY, *args)
        assert row is not None, "the task is locked"
        ended = EndedRun(**row)
        await deliveries.send_due_deliveries(connection, ended.chain)
        if ends_run:
            await plan_next_run(connection, ended)
    if ends_run:
        metrics.RUNS.labels(ended.action, state).inc()


def _failure(end: DeliveryEnd, this: asyncpg.Record, others: Iterable[asyncpg.Record]) -> str | None:
    """Return the log entry of the failed delivery of a round that ended last, None if none failed.

    `this`: the row of ROUND that ends now. `others`: in the order of their ends.
    """
    ends = [(DeliveryEnd(other["state"], other["error"]), other["destination"]) for other in others]
    failed = [
        each.entry(destination) for each, destination in [*ends, (end, this["destination"])] if each.state == "failed"
    ]
    return failed[-1] if failed else None


async def retry_or_fail_lost(pool: Pool, message: DeliveryMessage) -> bool:
    """Retry or fail a delivery whose worker is lost; return False if its attempt is not under way.

    Call it when the message of the attempt is delivered a second time or no longer exists.
    """
    row = await pool.fetchrow(LOST, *msgspec.structs.astuple(message), DELIVERY_SECONDS)
    if row is None:
        return False
    pause = DELIVERY.after(row["lost_workers"] + 1)
    if row["lost_workers"] + 1 >= MAX_LOST_DELIVERIES or pause >= row["seconds_left"]:
        await fail(pool, message, f"the worker was lost in attempt {row['attempt']}, and there is no further one")
    else:
        await deliveries.retry(pool, message, "the worker was lost", pause, is_lost=True)
    metrics.LOST_ATTEMPTS.inc()
    return True
