"""The clock: sends the messages of tasks whose time has come, and sees to those that nobody works on.

Every worker runs one; they do not get in each other's way. A million waiting tasks are rows with a due time here and
not jobs in the queue, so that taking a job never has to look past them.
"""

import asyncio
from datetime import timedelta

import asyncpg
import structlog

from longshore.database.connect import Pool, is_passing
from longshore.tasks import ending, schedule
from longshore.tasks.ending import SCHEDULE
from longshore.tasks.lifecycle import StaleAttemptError
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message, send
from longshore.tasks.slots import admit, admit_all

log = structlog.get_logger()

TICK = 1.0  # seconds; the longest that a due task waits for its message
SWEEP = 10.0  # seconds between two looks for what was left behind
BATCH = 500
LATE = timedelta(minutes=1)  # a run that begins later than this was missed

# A run stands for all that was missed before it, unless each of them is wanted.
DUE = """
with due as (
    select id from longshore.tasks
    where due_at <= now()
    order by due_at
    limit $1
    for update skip locked
)
update longshore.tasks t
set due_at = null, parked = true, waits_since = t.due_at,
    planned_at = case when t.trigger ->> 'catch_up' = 'all' then t.due_at else now() end
from due
where t.id = due.id
returning t.chain_id
"""

# Runs that were missed and are not wanted any more.
MISSED = """
select id, trigger, now() as now
from longshore.tasks
where due_at < now() - $1::interval and trigger ->> 'catch_up' = 'none'
order by due_at
limit $2
for update skip locked
"""

PUT_OFF = "update longshore.tasks set due_at = $2 where id = $1"

NEXT = "select extract(epoch from min(due_at) - now())::float8 from longshore.tasks where due_at is not null"

# An attempt that has a message, queued or being worked on, is looked after by PgQueuer; these have none.
LEFT_BEHIND = """
select t.id, t.attempt, t.attempt_began_at is not null as began
from longshore.tasks t
where (t.state = 'INPROGRESS' or (t.attempt_began_at is null and t.due_at is null))
  and not t.parked
  and not exists (
      select from longshore.pgqueuer q
      where q.dedupe_key = t.id || ':' || t.attempt and q.status in ('queued', 'picked')
  )
limit $1
"""


async def run_clock(pool: Pool) -> None:
    """Tick until cancelled."""
    next_sweep = 0.0
    loop = asyncio.get_running_loop()
    while True:
        pause = TICK
        try:
            await put_off_missed(pool)
            while await send_due(pool) == BATCH:
                pass
            if loop.time() >= next_sweep:
                await sweep(pool)
                await admit_all(pool)
                next_sweep = loop.time() + SWEEP
            until_next = await pool.fetchval(NEXT)
            if until_next is not None:
                pause = min(TICK, max(0.01, until_next))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if not is_passing(error):
                raise
            log.warning("clock out of reach of the database", error=str(error))
        await asyncio.sleep(pause)


async def send_due(pool: Pool) -> int:
    """Send the messages of tasks whose time has come, at most BATCH, as far as slots are free; say how many were."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(DUE, BATCH)
        # In one order, so that no two clocks wait for each other.
        for chain in sorted({row["chain_id"] for row in rows}):
            await admit(connection, ChainId(chain))
    return len(rows)


async def put_off_missed(pool: Pool) -> None:
    """Give tasks that do not catch up their next time, if one is left, when the last is over by more than LATE."""
    async with pool.acquire() as connection, connection.transaction():
        for row in await connection.fetch(MISSED, LATE, BATCH):
            due = next(schedule.times(SCHEDULE.decode(row["trigger"]), row["now"]), None)
            if due is not None:
                await connection.execute(PUT_OFF, row["id"], due)


async def sweep(pool: Pool) -> None:
    """See to attempts without a message: begun ones are lost, the others' message is sent again."""
    for row in await pool.fetch(LEFT_BEHIND, BATCH):
        message = Message(TaskId(row["id"]), row["attempt"])
        log.warning("attempt without a message", task=message.task, attempt=message.attempt, began=row["began"])
        try:
            if row["began"]:
                await ending.lost(pool, message)
            else:
                async with pool.acquire() as connection:
                    await send(connection, [message])
        except StaleAttemptError:
            pass  # somebody saw to it meanwhile
