"""The clock: sends the messages of tasks whose time has come, and sees to those that nobody works on.

Every worker runs one; they do not get in each other's way. A million waiting tasks are rows with a due time here and
not jobs in the queue, so that taking a job never has to look past them.
"""

import asyncio

import asyncpg
import structlog

from longshore.database.connect import Pool, is_passing
from longshore.tasks import lifecycle
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message, send

log = structlog.get_logger()

TICK = 1.0  # seconds; the longest that a due task waits for its message
SWEEP = 10.0  # seconds between two looks for what was left behind
BATCH = 500

DUE = """
with due as (
    select id from longshore.tasks
    where due_at <= now()
    order by due_at
    limit $1
    for update skip locked
)
update longshore.tasks t set due_at = null
from due
where t.id = due.id
returning t.id, t.attempt
"""

NEXT = "select extract(epoch from min(due_at) - now())::float8 from longshore.tasks where due_at is not null"

# An attempt that has a message, queued or being worked on, is looked after by PgQueuer; these have none.
LEFT_BEHIND = """
select t.id, t.attempt, t.attempt_began_at is not null as began
from longshore.tasks t
where (t.state = 'INPROGRESS' or (t.attempt_began_at is null and t.due_at is null))
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
            while await send_due(pool) == BATCH:
                pass
            if loop.time() >= next_sweep:
                await sweep(pool)
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
    """Send the messages of tasks whose time has come, at most BATCH, and say how many."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(DUE, BATCH)
        await send(connection, [Message(row["id"], row["attempt"]) for row in rows])
    return len(rows)


async def sweep(pool: Pool) -> None:
    """See to attempts without a message: begun ones are lost, the others' message is sent again."""
    for row in await pool.fetch(LEFT_BEHIND, BATCH):
        message = Message(TaskId(row["id"]), row["attempt"])
        log.warning("attempt without a message", task=message.task, attempt=message.attempt, began=row["began"])
        try:
            if row["began"]:
                await lifecycle.lost(pool, message)
            else:
                async with pool.acquire() as connection:
                    await send(connection, [message])
        except lifecycle.StaleAttemptError:
            pass  # somebody saw to it meanwhile
