"""The life of a task up to its end: create, execute, begin, report, retry. See `ending` for the end.

Nothing but these two changes a state. Each change is one SQL statement with its log entries, and one of a run names the
attempt that it speaks for: a statement of an attempt that is no longer the newest changes nothing (promise 2).
"""

from datetime import datetime
from uuid import UUID

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message, send
from longshore.tasks.schedule import Schedule, first
from longshore.tasks.slots import admit
from longshore.tasks.watermarks import Increment
from longshore.telemetry import metrics, tracing

CREATE = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, priority, due_at, parked,
                             traceparent, created_by, defined_by, asked_by)
values ($1, $2, $3, $4, $5, $6, $7, case when $8::timestamptz > now() then $8 end, $8 <= now(), $9, $10, $10, $11)
returning id, parked
"""

# The one thing that a new run needs is a new attempt: the message of the old one finds itself outdated. The state stays
# until the run begins, so the new revision and the log entry are how clients see that a run is to come.
EXECUTE = """
with task as (
    update longshore.tasks
    set attempt = attempt + 1, attempt_began_at = null, due_at = null, parked = true, waits_since = now(),
        traceparent = $3, asked_by = $4,
        modified_at = greatest(modified_at, now()), revision = revision + 1, log_length = log_length + 1
    where id = $1 and chain_id = $2 and state <> 'INPROGRESS'
    returning id, run, log_length, modified_at
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select id, log_length - 1, modified_at, 'run requested by ' || coalesce($4, 'the service') from task
)
select run from task
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
        parked = false,
        run = before.run + (not before.again)::int,
        last_run_at = case when before.again then before.last_run_at else before.at end,
        modified_at = before.at,
        revision = before.revision + 1,
        log_length = before.log_length + 1
    from before
    where t.id = before.id
    returning t.id, t.chain_id, t.action, t.trigger, t.target, t.run, t.attempt, t.last_run_at,
              t.traceparent, t.follows, extract(epoch from before.at - before.waits_since)::float8 as waited
),
run as (
    insert into longshore.runs (task_id, run, first_attempt, attempt, began_at, attempt_began_at, progress_at, holder)
    select task.id, task.run, task.attempt, task.attempt, before.at, before.at, before.at, $3
    from task, before
    on conflict (task_id, run) do update
    set attempt = excluded.attempt, attempt_began_at = excluded.attempt_began_at, holder = excluded.holder,
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
union all
select t.id, t.chain_id, t.action, t.trigger, t.target, t.run, t.attempt, t.last_run_at,
       t.traceparent, t.follows, extract(epoch from t.attempt_began_at - t.waits_since)::float8,
       r.first_attempt, r.failures
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run and r.attempt = t.attempt and r.holder = $3
where t.id = $1 and t.attempt = $2 and t.attempt_began_at is not null and t.state = 'INPROGRESS'
"""

REPORT = """
with before as (
    select t.action, r.task_id, r.run, r.rows, r.bytes
    from longshore.tasks t
    join longshore.runs r on r.task_id = t.id and r.run = t.run and r.attempt = t.attempt
    where t.id = $1 and t.attempt = $2 and t.state = 'INPROGRESS'
)
update longshore.runs r
set rows = $3, bytes = $4, rows_expected = $5, rows_expected_exact = $6,
    progress_at = case when (before.rows, before.bytes) = ($3, $4) then r.progress_at else now() end
from before
where r.task_id = before.task_id and r.run = before.run and r.attempt = $2
returning before.action, before.rows, before.bytes
"""

NOTE = """
with task as (
    update longshore.tasks
    set modified_at = greatest(modified_at, now()), revision = revision + 1, log_length = log_length + 1
    where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS'
    returning id, log_length, modified_at
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, $3 from task
returning task_id
"""

LOCATIONS = "select location from longshore.runs where task_id = $1 and location is not null"

RETRY = """
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks
    where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS'
    for update
),
task as (
    update longshore.tasks t
    set attempt = before.attempt + 1, attempt_began_at = null, waits_since = now() + make_interval(secs => $5),
        modified_at = before.at,
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

TRACE = "update longshore.tasks set traceparent = $3 where id = $1 and attempt = $2"

MAX_LOG_CHARACTERS = 4000  # of an entry

MAX_FAILURES = 3  # attempts of a run that may fail or be lost; then the run is an error


class StaleAttemptError(Exception):
    """A newer attempt of the task exists, or it has ended: this one has nothing to say any more."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"attempt {message.attempt} of task {message.task} is not the newest any more")


class NeverDueError(Exception):
    """The schedule of a new task has no time left."""


class AlreadyRunningError(Exception):
    """The task runs already."""


class Attempt(msgspec.Struct, frozen=True):
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
    waited: float = 0.0
    """Seconds from when the attempt was due until it began."""
    traceparent: str | None = None
    """The trace that the run belongs to, where there is one already."""
    follows: str | None = None
    """The trace of the request that planned it, where the run has one of its own."""


class RunResult(msgspec.Struct, frozen=True):
    """What a run that went well leaves behind."""

    result: str
    """Name of the result file; empty where there is none."""
    location: str | None
    total: int
    """Rows that matched."""
    success: int
    """Rows written."""
    size: int
    """Bytes of the file."""
    sha256: bytes | None
    snapshot_at: datetime | None
    manifest: str | None
    """What the result is, as it stands beside the file."""
    increment: Increment | None = None
    """Where the result is a part of the data."""
    note: str | None = None
    """What else the task's log should say."""
    skips: int = 0
    """Values that are NULL in the file because they are not of the type that the catalog declares."""


class NewTask(msgspec.Struct, frozen=True):
    """A task that has been checked and may be created. `trigger` and `target` are JSON text as it will be shown."""

    chain: ChainId
    desc: str
    action: str
    trigger: str
    target: str
    debug: str
    schedule: Schedule
    priority: int = 0


async def create(connection: Connection, new: NewTask, by: str | None = None) -> TaskId:
    """Create a task in the connection's transaction. Raises NeverDueError.

    `by`: kind and id of the credential that asks, such as `user 7`; None for the service itself. If its time has come,
    its message is sent as soon as its chain has a free slot.
    """
    due = new.schedule.once
    if new.schedule.repeats:
        due = first(new.schedule, await connection.fetchval("select now()"))
    if due is None:
        raise NeverDueError
    row = await connection.fetchrow(
        CREATE,
        new.chain,
        new.desc,
        new.action,
        new.trigger,
        new.target,
        new.debug,
        new.priority,
        due,
        tracing.current(),
        by,
        None if new.schedule.repeats else by,
    )
    assert row is not None
    if row["parked"]:
        await admit(connection, new.chain)
    return TaskId(row["id"])


async def execute(connection: Connection, chain: ChainId, task: TaskId, by: str | None = None) -> int:
    """Let a task run as soon as its chain has a free slot, and give the number that its run will have.

    In the connection's transaction. `by`: as for `create`. That the task exists in the chain is for the caller to have
    seen. Raises AlreadyRunningError.
    """
    row = await connection.fetchrow(EXECUTE, task, chain, tracing.current(), by)
    if row is None:
        raise AlreadyRunningError
    await admit(connection, chain)
    return int(row["run"]) + 1


async def begin(pool: Pool, message: Message, holder: UUID | None = None) -> Attempt | None:
    """Begin an attempt; None when the message is outdated or the attempt has begun before.

    `holder`: a name of this beginning's own. With the same one it may be begun twice, which is once.
    """
    row = await pool.fetchrow(BEGIN, message.task, message.attempt, holder)
    if row is None:
        return None
    return Attempt(
        message=message,
        chain=ChainId(row["chain_id"]),
        action=row["action"],
        trigger=row["trigger"],
        target=row["target"],
        run=row["run"],
        number=row["attempt"] - row["first_attempt"] + 1,
        failures=row["failures"],
        run_began_at=row["last_run_at"],
        waited=max(0.0, row["waited"]),
        traceparent=row["traceparent"],
        follows=row["follows"],
    )


async def trace(pool: Pool, message: Message, traceparent: str) -> None:
    """Keep the trace that a run has begun for itself, for its later attempts and all else that works on it."""
    await pool.execute(TRACE, message.task, message.attempt, traceparent)


async def report(pool: Pool, message: Message, rows: int, size: int, expected: int | None, *, exact: bool) -> None:
    """Write how far an attempt is: rows, bytes, and rows expected. Raises StaleAttemptError.

    `exact`: whether the rows expected were counted, rather than estimated.
    """
    before = await pool.fetchrow(REPORT, message.task, message.attempt, rows, size, expected, exact)
    if before is None:
        raise StaleAttemptError(message)
    metrics.count_written(before["action"], rows - before["rows"], size - before["bytes"])


def storable(text: str) -> str:
    """Return a text as PostgreSQL takes it into a log: without U+0000 and lone surrogates, and not too long."""
    if len(text) > MAX_LOG_CHARACTERS:
        text = f"{text[:MAX_LOG_CHARACTERS]}…"
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


async def note(pool: Pool, message: Message, text: str) -> None:
    """Add an entry to the log of a task, in the words of an attempt. Raises StaleAttemptError."""
    if await pool.fetchval(NOTE, message.task, message.attempt, storable(text)) is None:
        raise StaleAttemptError(message)


async def locations(pool: Pool, task: TaskId) -> list[str]:
    """Where the results of a task's runs are, which its next attempts have to leave alone."""
    return [row["location"] for row in await pool.fetch(LOCATIONS, task)]


async def retry(pool: Pool, message: Message, why: str, delay: float, *, failed: bool) -> None:
    """Give an attempt up and send the next one's message, `delay` seconds from now. Raises StaleAttemptError.

    `why`: what the task's log will say. `failed`: whether it counts towards MAX_FAILURES.
    """
    async with pool.acquire() as connection, connection.transaction():
        attempt = await connection.fetchval(RETRY, message.task, message.attempt, storable(why), failed, delay)
        if attempt is None:
            raise StaleAttemptError(message)
        await send(connection, [Message(message.task, attempt)], delay)
