"""The scheduler: sends the messages of due tasks and deliveries, and recovers attempts that have no message.

Every worker runs one; `skip locked` keeps them apart. Waiting tasks are rows with a due time and not jobs of the queue,
so that taking a job costs the same with a million of them.

An invalid row affects its own task alone: a task whose trigger cannot be decoded ends in ERROR.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Literal, TypeVar

import msgspec
import structlog

from longshore.database.connect import Connection, Pool
from longshore.database.retry import is_transient, isolated, loop_step
from longshore.tasks import backfills, deliveries, delivery_ends, run_ends
from longshore.tasks.attempts import StaleAttemptError, storable
from longshore.tasks.conditions import HOLDS_SLOT
from longshore.tasks.deliveries import StaleDeliveryError
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.queue import DeliveryMessage, Message, send
from longshore.tasks.schedule import begin_time, decode, latest_time, uncomputable, utc_text
from longshore.tasks.slots import fill_all_slots, fill_slots

log = structlog.get_logger()

TICK_SECONDS = 1.0  # the longest that a due task waits for its message
RECOVERY_SECONDS = 10.0  # between two searches for attempts without a message
BATCH_SIZE = 500

M = TypeVar("M", Message, DeliveryMessage)

# $3: tasks that are left out.
DUE = """
select id as task, chain_id as chain, trigger, due_at, covered_until, now() as now,
       case when due_at <= resumed_at then resume_catch_up end as catch_up
from longshore.tasks
where due_at <= now() and not paused and ($2::bigint is null or id = $2) and id <> all($3::bigint[])
order by due_at
limit $1
for update skip locked
"""

# $2, $3: the data interval of each run. A run that is late because the run before had not ended counts as waiting from
# that end.
PARK = """
update longshore.tasks t
set due_at = null, parked = true, waits_since = greatest(t.due_at, t.modified_at),
    origin = 'schedule', interval_start = due.since, interval_end = date_trunc('second', due.until)
from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as due (id, since, until)
where t.id = due.id
"""

POSTPONE = """
update longshore.tasks t
set due_at = later.at
from unnest($1::bigint[], $2::timestamptz[]) as later (id, at)
where t.id = later.id
"""

# $2: the log entries. $3: whether the task fails, as its trigger is invalid; one that never ran fails in any case. A
# valid schedule has no time after `until`, and its earlier ones may be backfilled.
END_SCHEDULES = """
with before as (
    select t.id, t.state, t.log_length, ended.why, greatest(t.modified_at, now()) as at,
           t.state = 'READY' or (ended.failed and t.state <> 'ERROR') as fails, ended.failed as is_invalid
    from longshore.tasks t
    join unnest($1::bigint[], $2::text[], $3::boolean[]) as ended (id, why, failed) on ended.id = t.id
),
task as (
    update longshore.tasks t
    set state = case when before.fails then 'ERROR' else t.state end,
        reason = case when before.fails then before.why else t.reason end, attempt_began_at = before.at, due_at = null,
        schedule_ended = before.is_invalid, schedule_cursor = before.at, paused = false,
        modified_at = before.at, revision = t.revision + 1,
        log_length = before.log_length + 1 + before.fails::int
    from before
    where t.id = before.id
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length, at, why from before
union all
select id, log_length + 1, at, state || ' -> ERROR' from before where fails
"""

SECONDS_UNTIL_NEXT = """
select extract(epoch from min(due_at) - now())::float8 from longshore.tasks where due_at is not null and not paused
"""

# PgQueuer redelivers the message of a lost worker; these attempts have no message. At random, so that those which
# cannot be recovered keep no other waiting for long, however many they are.
WITHOUT_MESSAGE = f"""
select t.id, t.attempt, t.attempt_began_at is not null as began
from longshore.tasks t
where {HOLDS_SLOT}
  and not exists (
      select from longshore.pgqueuer q
      where q.dedupe_key = t.id || ':' || t.attempt and q.status in ('queued', 'picked')
  )
order by random()
limit $1
"""


class DueTask(msgspec.Struct, frozen=True):
    """A task that is due."""

    task: TaskId
    chain: ChainId
    trigger: str
    due_at: datetime
    covered_until: datetime | None
    """The end of its schedule's newest run; None before the first."""
    now: datetime
    catch_up: Literal["one", "none", "all"] | None
    """Where it was due before its schedule was resumed, the treatment of missed runs that the client asked for."""


class Decision(msgspec.Struct, frozen=True):
    """The decision on a due task: it runs, waits for a later time, or its schedule ends."""

    task: TaskId
    chain: ChainId
    interval: Interval | None = None
    """The data interval of the run."""
    later: datetime | None = None
    reason: str = ""
    """The log entry, if the schedule ends."""
    failed: bool = False
    """Whether the end of the schedule is an error."""


async def run_scheduler(pool: Pool) -> None:
    """Run until cancelled. A step that fails is logged and repeated at the next tick."""
    next_recovery = 0.0
    loop = asyncio.get_running_loop()
    while True:
        await _log_errors(send_all_due, pool)
        await _log_errors(backfills.send_next, pool)
        await _log_errors(deliveries.send_all_due_deliveries, pool)
        if loop.time() >= next_recovery:
            await _log_errors(recover_attempts, pool)
            await _log_errors(fill_all_slots, pool)
            await _log_errors(recover_deliveries, pool)
            next_recovery = loop.time() + RECOVERY_SECONDS
        await asyncio.sleep(await _log_errors(_until_next, pool) or TICK_SECONDS)


async def _log_errors(step: Callable[[Pool], Awaitable[float | None]], pool: Pool) -> float | None:
    with loop_step("scheduler", step=step.__name__):
        return await step(pool)
    return None


async def _until_next(pool: Pool) -> float:
    """Return the seconds until the next task is due, at most TICK_SECONDS.

    Call it after `send_all_due`: a task that is due even so is locked or failed, and is tried again at the next tick.
    """
    until_next = await pool.fetchval(SECONDS_UNTIL_NEXT)
    return TICK_SECONDS if until_next is None or until_next <= 0 else min(TICK_SECONDS, max(0.01, until_next))


async def send_all_due(pool: Pool) -> None:
    """Decide on all due tasks.

    Those that cannot be sent are tried once: any number of them keeps none that is due later from being sent.
    """
    tried_alone: list[TaskId] = []
    while await send_due(pool, tried_alone) == BATCH_SIZE:
        pass


async def send_due(pool: Pool, tried_alone: list[TaskId]) -> int:
    """Decide on due tasks, at most BATCH_SIZE, and return their number.

    Their messages are sent as far as their chains have free slots. With the usual `catch_up` a run covers all runs
    missed before it. If the transaction fails for all of them together, each task gets a transaction of its own, and
    the error is logged of those that fail alone. `tried_alone`: tasks to leave out, to which those tasks are added.
    """
    try:
        return await _send_due(pool, None, tried_alone)
    except Exception as error:
        if is_transient(error):
            raise
    tasks = [TaskId(row["task"]) for row in await pool.fetch(DUE, BATCH_SIZE, None, tried_alone)]
    for task in tasks:
        with isolated("due task not sent", task=task):
            await _send_due(pool, task, [])
    tried_alone += tasks
    return len(tasks)


async def _send_due(pool: Pool, task: TaskId | None, left_out: list[TaskId]) -> int:
    """Decide on due tasks, at most BATCH_SIZE, or on one of them, in one transaction."""
    async with pool.acquire() as connection, connection.transaction():
        decisions = [decide(DueTask(**row)) for row in await connection.fetch(DUE, BATCH_SIZE, task, left_out)]
        await _apply(connection, decisions)
        # Ordered, so that two schedulers do not deadlock.
        for chain in sorted({each.chain for each in decisions if each.interval is not None}):
            await fill_slots(connection, chain)
    return len(decisions)


async def _apply(connection: Connection, decisions: list[Decision]) -> None:
    intervals = {each.task: each.interval for each in decisions if each.interval is not None}
    later = [each for each in decisions if each.later is not None]
    ended = [each for each in decisions if each.reason]
    if intervals:
        starts, ends = ([getattr(each, edge) for each in intervals.values()] for edge in ("start", "end"))
        await connection.execute(PARK, list(intervals), starts, ends)
    if later:
        await connection.execute(POSTPONE, [each.task for each in later], [each.later for each in later])
    if ended:
        entries = [storable(each.reason) for each in ended]
        await connection.execute(END_SCHEDULES, [each.task for each in ended], entries, [each.failed for each in ended])


def decide(due: DueTask) -> Decision:
    """Return the decision on a due task. An invalid trigger ends the schedule."""
    task, chain, now = due.task, due.chain, due.now
    try:
        schedule = decode(due.trigger)
        if due.catch_up is not None:
            schedule = msgspec.structs.replace(schedule, catch_up=due.catch_up)
        at = begin_time(schedule, due.due_at, now)
        covers_missed = schedule.repeats and schedule.catch_up == "one"
        end = latest_time(schedule, at, now) if at is not None and covers_missed else at
    except Exception as error:
        log.error("schedule ended", task=task, chain=chain, error=str(error))
        return Decision(task, chain, reason=f"the run failed: {uncomputable(error)}", failed=True)
    if at is None or end is None:
        return Decision(task, chain, reason=f"the run due at {utc_text(due.due_at)} was missed, and no time is left")
    if at != due.due_at:
        return Decision(task, chain, later=at)
    return Decision(task, chain, Interval(due.covered_until if schedule.repeats else None, end))


async def recover_attempts(pool: Pool) -> None:
    """Recover attempts of runs without a message."""
    await _recover(pool, WITHOUT_MESSAGE, Message, run_ends.retry_or_fail_lost)


async def recover_deliveries(pool: Pool) -> None:
    """Recover attempts of deliveries without a message."""
    await _recover(pool, delivery_ends.WITHOUT_MESSAGE, DeliveryMessage, delivery_ends.retry_or_fail_lost)


async def _recover(
    pool: Pool, statement: str, kind: type[M], retry_or_fail_lost: Callable[[Pool, M], Awaitable[bool]]
) -> None:
    """Recover the attempts of a statement: those that began are lost, the message of the others is sent again."""
    for *ids, began in await pool.fetch(statement, BATCH_SIZE):
        message = kind(*ids)
        # A stale attempt was recovered by another worker.
        with isolated("attempt not recovered", of=message.key), suppress(StaleAttemptError, StaleDeliveryError):
            if began:
                await retry_or_fail_lost(pool, message)
            else:
                async with pool.acquire() as connection:
                    await send(connection, [message])
            log.warning("attempt without a message recovered", of=message.key)
