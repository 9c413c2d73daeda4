"""The life of a task: create, execute, begin, report, finish, retry, fail. Nothing else changes a state.

Each is one SQL statement with its log entries, and names the attempt that it speaks for: a statement of an attempt that
is no longer the newest changes nothing (promise 2). `worker` and `api` rely on this module.
"""

from datetime import datetime

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.tasks.marks import Increment
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message, send

CREATE = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at)
values ($1, $2, $3, $4, $5, $6, case when $7::timestamptz > now() then $7 end)
returning id, attempt, due_at
"""

# The one thing that a new run needs is a new attempt: the message of the old one finds itself outdated.
EXECUTE = """
update longshore.tasks
set attempt = attempt + 1, attempt_began_at = null, due_at = null
where id = $1 and chain_id = $2 and state <> 'INPROGRESS'
returning attempt, run
"""

BEGIN = """
with before as (
    select *, greatest(modified_at, now()) as at, state = 'INPROGRESS' as again
    from longshore.tasks
    where id = $1 and attempt = $2 and attempt_began_at is null
    for update
),
task as (
    update longshore.tasks t
    set state = 'INPROGRESS',
        result = '',
        attempt_began_at = before.at,
        due_at = null,
        run = before.run + (not before.again)::int,
        last_run_at = case when before.again then before.last_run_at else before.at end,
        modified_at = before.at,
        revision = before.revision + 1,
        log_length = before.log_length + 1
    from before
    where t.id = before.id
    returning t.id, t.chain_id, t.action, t.trigger, t.target, t.run, t.attempt, t.last_run_at
),
run as (
    insert into longshore.runs (task_id, run, first_attempt, attempt, began_at, attempt_began_at, progress_at)
    select task.id, task.run, task.attempt, task.attempt, before.at, before.at, before.at
    from task, before
    on conflict (task_id, run) do update
    set attempt = excluded.attempt, attempt_began_at = excluded.attempt_began_at,
        progress_at = excluded.progress_at, rows = 0, bytes = 0, rows_expected = null
    returning first_attempt, failures
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select before.id, before.log_length, before.at,
           case when before.again then 'attempt ' || before.attempt - run.first_attempt + 1 || ' begins'
                else before.state || ' -> INPROGRESS' end
    from before, run
)
select task.*, run.first_attempt, run.failures from task, run
"""

REPORT = """
update longshore.runs r
set rows = $3, bytes = $4, rows_expected = $5, rows_expected_exact = $6, progress_at = now()
from longshore.tasks t
where t.id = $1 and t.attempt = $2 and t.state = 'INPROGRESS'
  and r.task_id = t.id and r.run = t.run and r.attempt = t.attempt
returning r.run
"""

FINISH = """
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks
    where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS'
    for update
),
task as (
    update longshore.tasks t
    set state = 'DONE', result = $3, modified_at = before.at,
        mark = case when $13::boolean is false then $12 else before.mark end,
        revision = before.revision + 1, log_length = before.log_length + 2 + ($14::text is not null)::int
    from before
    where t.id = before.id
),
run as (
    update longshore.runs r
    set state = 'DONE', ended_at = before.at, progress_at = before.at, result = $3, location = $4,
        rows = $5, bytes = $6, sha256 = $7, snapshot_at = $8, manifest = $10,
        mark_from = $11, mark_to = $12,
        -- An increment that is given again may have been acknowledged meanwhile: then the mark has moved on.
        acknowledged = case when $13 then before.mark is distinct from $11 end
    from before
    where r.task_id = before.id and r.run = before.run
),
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg, total, success, skips, errors)
    select before.id, before.log_length, before.at, 'success', $9::bigint, $5::bigint, 0, 0
    from before
    union all
    select before.id, before.log_length + 1, before.at, $14, null, null, null, null
    from before
    where $14 is not null
    union all
    select before.id, before.log_length + 1 + ($14 is not null)::int, before.at, 'INPROGRESS -> DONE',
           null, null, null, null
    from before
)
select id from before
"""

RETRY = """
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks
    where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS'
    for update
),
task as (
    update longshore.tasks t
    set attempt = before.attempt + 1, attempt_began_at = null, modified_at = before.at,
        revision = before.revision + 1, log_length = before.log_length + 1
    from before
    where t.id = before.id
    returning t.attempt
),
run as (
    update longshore.runs r
    set failures = r.failures + $4::boolean::int
    from before
    where r.task_id = before.id and r.run = before.run
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select before.id, before.log_length, before.at, $3 from before
)
select attempt from task
"""

FAIL = """
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks
    where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS'
    for update
),
task as (
    update longshore.tasks t
    set state = 'ERROR', modified_at = before.at,
        revision = before.revision + 1, log_length = before.log_length + 2
    from before
    where t.id = before.id
),
run as (
    update longshore.runs r
    set state = 'ERROR', ended_at = before.at
    from before
    where r.task_id = before.id and r.run = before.run
),
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select before.id, before.log_length, before.at, $3 from before
    union all
    select before.id, before.log_length + 1, before.at, 'INPROGRESS -> ERROR' from before
)
select id from before
"""

# A run whose newest attempt has begun and has not ended.
UNENDED = """
select t.attempt - r.first_attempt + 1 as number, r.failures
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.id = $1 and t.attempt = $2 and t.attempt_began_at is not null and t.state = 'INPROGRESS'
"""

MOST_FAILURES = 3  # attempts of a run that may fail or be lost; then the run is an error


class StaleAttemptError(Exception):
    """A newer attempt of the task exists, or it has ended: this one has nothing to say any more."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"attempt {message.attempt} of task {message.task} is not the newest any more")


class AlreadyRunningError(Exception):
    """The task runs already."""


class Begun(msgspec.Struct, frozen=True):
    """An attempt that has begun: all that the work needs to know."""

    message: Message
    chain: ChainId
    action: str
    trigger: str
    target: str
    run: int
    number: int
    """Which attempt of this run it is, from 1."""
    failures: int
    """How many attempts of this run failed or were lost before."""
    run_began_at: datetime
    """When the run began; relative rules count back from here, in every attempt of the run alike."""


class Outcome(msgspec.Struct, frozen=True):
    """What a run that went well leaves behind."""

    result: str
    location: str
    total: int
    """Rows that matched."""
    success: int
    """Rows written."""
    size: int
    """Bytes of the file."""
    sha256: bytes
    snapshot_at: datetime
    manifest: str
    """What the result is, as it stands beside the file."""
    increment: Increment | None = None
    """Where the result is a part of the data."""
    note: str | None = None
    """What else the task's log should say."""


class NewTask(msgspec.Struct, frozen=True):
    """A task that has been checked and may be created. `trigger` and `target` are JSON text as it will be shown."""

    chain: ChainId
    desc: str
    action: str
    trigger: str
    target: str
    debug: str
    once: datetime


async def create(connection: Connection, new: NewTask) -> TaskId:
    """Create a task in the connection's transaction; its message is sent at once if its time has come."""
    row = await connection.fetchrow(
        CREATE, new.chain, new.desc, new.action, new.trigger, new.target, new.debug, new.once
    )
    assert row is not None
    if row["due_at"] is None:
        await send(connection, [Message(row["id"], row["attempt"])])
    return TaskId(row["id"])


async def execute(connection: Connection, chain: ChainId, task: TaskId) -> int:
    """Let a task run now, in the connection's transaction, and give the number that its run will have.

    Raises AlreadyRunningError. That the task exists in the chain is for the caller to have seen.
    """
    row = await connection.fetchrow(EXECUTE, task, chain)
    if row is None:
        raise AlreadyRunningError
    await send(connection, [Message(task, row["attempt"])])
    return int(row["run"]) + 1


async def begin(pool: Pool, message: Message) -> Begun | None:
    """Begin an attempt; None when the message is outdated or the attempt has begun before."""
    row = await pool.fetchrow(BEGIN, message.task, message.attempt)
    if row is None:
        return None
    return Begun(
        message=message,
        chain=ChainId(row["chain_id"]),
        action=row["action"],
        trigger=row["trigger"],
        target=row["target"],
        run=row["run"],
        number=row["attempt"] - row["first_attempt"] + 1,
        failures=row["failures"],
        run_began_at=row["last_run_at"],
    )


async def report(pool: Pool, message: Message, rows: int, size: int, expected: int | None, *, exact: bool) -> None:
    """Write how far an attempt is: rows, bytes, and rows expected. Raises StaleAttemptError.

    `exact`: whether the rows expected were counted, rather than estimated.
    """
    if await pool.fetchval(REPORT, message.task, message.attempt, rows, size, expected, exact) is None:
        raise StaleAttemptError(message)


async def finish(pool: Pool, message: Message, outcome: Outcome) -> None:
    """End an attempt well: state, result, summary and run record in one step. Raises StaleAttemptError."""
    increment = outcome.increment
    done = await pool.fetchval(
        FINISH,
        message.task,
        message.attempt,
        outcome.result,
        outcome.location,
        outcome.success,
        outcome.size,
        outcome.sha256,
        outcome.snapshot_at,
        outcome.total,
        outcome.manifest,
        increment and increment.start,
        increment and increment.end,
        increment and increment.on_ack,
        outcome.note,
    )
    if done is None:
        raise StaleAttemptError(message)


async def retry(pool: Pool, message: Message, why: str, delay: float, *, failed: bool) -> None:
    """Give an attempt up and send the next one's message, `delay` seconds from now. Raises StaleAttemptError.

    `why`: what the task's log will say. `failed`: whether it counts towards MOST_FAILURES.
    """
    async with pool.acquire() as connection, connection.transaction():
        attempt = await connection.fetchval(RETRY, message.task, message.attempt, why, failed)
        if attempt is None:
            raise StaleAttemptError(message)
        await send(connection, [Message(message.task, attempt)], delay)


async def fail(pool: Pool, message: Message, why: str) -> None:
    """End an attempt and its run with an error; `why` is what the task's log will say. Raises StaleAttemptError."""
    if await pool.fetchval(FAIL, message.task, message.attempt, why) is None:
        raise StaleAttemptError(message)


async def lost(pool: Pool, message: Message) -> bool:
    """See to an attempt that began and whose worker is gone; False when there is nothing to see to.

    Called when its message is delivered a second time or is no longer there at all.
    """
    run = await pool.fetchrow(UNENDED, message.task, message.attempt)
    if run is None:
        return False
    if run["failures"] + 1 < MOST_FAILURES:
        await retry(pool, message, f"worker lost, attempt {run['number'] + 1}", 0, failed=True)
    else:
        await fail(pool, message, f"worker lost, given up after {MOST_FAILURES} failures")
    return True
