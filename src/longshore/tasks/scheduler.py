"""The clock: sends the messages of tasks whose time has come, and sees to those that nobody works on.

Every worker runs one; they do not get in each other's way. A million waiting tasks are rows with a due time here and
not jobs in the queue, so that taking a job never has to look past them.

Whatever is stored in a task concerns that task alone: each is looked at by itself, and one whose trigger cannot be read
ends in ERROR.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import asyncpg
import msgspec
import structlog

from longshore.database.connect import Connection, Pool, is_transient
from longshore.tasks import run_ends
from longshore.tasks.attempts import StaleAttemptError, storable
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message, send
from longshore.tasks.run_ends import SCHEDULE, uncomputable
from longshore.tasks.schedule import not_missed
from longshore.tasks.slots import admit, admit_all

log = structlog.get_logger()

TICK = 1.0  # seconds; the longest that a due task waits for its message
SWEEP = 10.0  # seconds between two looks for what was left behind
BATCH = 500

DUE = """
select id, chain_id, trigger, due_at, now() as now
from longshore.tasks
where due_at <= now() and ($2::bigint is null or id = $2)
order by due_at
limit $1
for update skip locked
"""

DUE_ALONE = "select id from longshore.tasks where due_at <= now() order by due_at limit $1"

# $2: what each run stands for. What waits for the run before to end is late through no fault of the queue.
PARK = """
update longshore.tasks t
set due_at = null, parked = true, waits_since = greatest(t.due_at, t.modified_at), planned_at = due.planned
from unnest($1::bigint[], $2::timestamptz[]) as due (id, planned)
where t.id = due.id
"""

PUT_OFF = """
update longshore.tasks t
set due_at = later.at
from unnest($1::bigint[], $2::timestamptz[]) as later (id, at)
where t.id = later.id
"""

# $2: what the log says. $3: whether that is an error; a task that never ran is one in any case.
END = """
with before as (
    select t.id, t.state, t.log_length, ended.why, greatest(t.modified_at, now()) as at,
           t.state = 'READY' or (ended.failed and t.state <> 'ERROR') as fails
    from longshore.tasks t
    join unnest($1::bigint[], $2::text[], $3::boolean[]) as ended (id, why, failed) on ended.id = t.id
),
task as (
    update longshore.tasks t
    set state = case when before.fails then 'ERROR' else t.state end, attempt_began_at = before.at, due_at = null,
        schedule_ended = true, modified_at = before.at, revision = t.revision + 1,
        log_length = before.log_length + 1 + before.fails::int
    from before
    where t.id = before.id
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length, at, why from before
union all
select id, log_length + 1, at, state || ' -> ERROR' from before where fails
"""

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


class Decision(msgspec.Struct, frozen=True):
    """What becomes of a task that is due: it runs, waits for a later time, or its schedule ends."""

    task: TaskId
    chain: ChainId
    planned: datetime | None = None
    """The time that the run stands for."""
    later: datetime | None = None
    why: str = ""
    """Why the schedule ends, for the log."""
    failed: bool = False
    """Whether that is an error."""


async def run_scheduler(pool: Pool) -> None:
    """Tick until cancelled. Raises nothing: what fails is logged and tried again with the next tick."""
    next_sweep = 0.0
    loop = asyncio.get_running_loop()
    while True:
        await _survive(send_all_due, pool)
        if loop.time() >= next_sweep:
            await _survive(sweep, pool)
            await _survive(admit_all, pool)
            next_sweep = loop.time() + SWEEP
        await asyncio.sleep(await _survive(_until_next, pool) or TICK)


async def _survive(step: Callable[[Pool], Awaitable[float | None]], pool: Pool) -> float | None:
    try:
        return await step(pool)
    except Exception as error:
        if is_transient(error):
            log.warning("clock out of reach of the database", step=step.__name__, error=str(error))
        else:
            log.error("clock failed", step=step.__name__, exc_info=error)
        return None


async def _until_next(pool: Pool) -> float:
    """Return the seconds until there may be something to do, between none and TICK."""
    until_next = await pool.fetchval(NEXT)
    return TICK if until_next is None else min(TICK, max(0.01, until_next))


async def send_all_due(pool: Pool) -> None:
    """See to all tasks whose time has come."""
    while await send_due(pool) == BATCH:
        pass


async def send_due(pool: Pool) -> int:
    """See to tasks whose time has come, at most BATCH, and return how many were seen to.

    Their messages are sent as far as their chains have free slots. A run stands for all that was missed before it,
    unless `catch_up` wants each of them, or none. Where they cannot be seen to together, each is by itself.
    """
    try:
        return await _send_due(pool, None)
    except Exception as error:
        if is_transient(error):
            raise
        log.error("due tasks not sent together", exc_info=error)
    for row in await pool.fetch(DUE_ALONE, BATCH):
        try:
            await _send_due(pool, TaskId(row["id"]))
        except Exception as error:
            if is_transient(error):
                raise
            log.error("due task not sent", task=row["id"], exc_info=error)
    return 0


async def _send_due(pool: Pool, task: TaskId | None) -> int:
    """See to the tasks that are due, at most BATCH, or to one of them, in one transaction."""
    async with pool.acquire() as connection, connection.transaction():
        decisions = [decide(row) for row in await connection.fetch(DUE, BATCH, task)]
        await _apply(connection, decisions)
        # In one order, so that no two clocks wait for each other.
        for chain in sorted({each.chain for each in decisions if each.planned is not None}):
            await admit(connection, chain)
    return len(decisions)


async def _apply(connection: Connection, decisions: list[Decision]) -> None:
    runs = [each for each in decisions if each.planned is not None]
    later = [each for each in decisions if each.later is not None]
    ended = [each for each in decisions if each.why]
    if runs:
        await connection.execute(PARK, [each.task for each in runs], [each.planned for each in runs])
    if later:
        await connection.execute(PUT_OFF, [each.task for each in later], [each.later for each in later])
    if ended:
        whys = [storable(each.why) for each in ended]
        await connection.execute(END, [each.task for each in ended], whys, [each.failed for each in ended])


def decide(row: asyncpg.Record) -> Decision:
    """Decide on a row of DUE. Raises nothing, whatever its trigger is."""
    task, chain, now = TaskId(row["id"]), ChainId(row["chain_id"]), row["now"]
    try:
        schedule = SCHEDULE.decode(row["trigger"])
        at = not_missed(schedule, row["due_at"], now)
    except Exception as error:
        log.error("schedule ended", task=task, chain=chain, error=str(error))
        return Decision(task, chain, why=f"the run failed: {uncomputable(error)}", failed=True)
    if at is None:
        return Decision(task, chain, why=f"the run due at {_shown(row['due_at'])} was missed, and no time is left")
    if at != row["due_at"]:
        return Decision(task, chain, later=at)
    return Decision(task, chain, planned=at if schedule.catch_up == "all" else now)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


async def sweep(pool: Pool) -> None:
    """See to attempts without a message: begun ones are lost, the others' message is sent again."""
    for row in await pool.fetch(LEFT_BEHIND, BATCH):
        message = Message(TaskId(row["id"]), row["attempt"])
        log.warning("attempt without a message", task=message.task, attempt=message.attempt, began=row["began"])
        try:
            if row["began"]:
                await run_ends.lost(pool, message)
            else:
                async with pool.acquire() as connection:
                    await send(connection, [message])
        except StaleAttemptError:
            pass  # somebody saw to it meanwhile
        except Exception as error:
            if is_transient(error):
                raise
            log.error("attempt not seen to", task=message.task, attempt=message.attempt, exc_info=error)
