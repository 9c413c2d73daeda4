"""State changes of a run up to its end: begin, report, retry. `run_ends` and `delivery_ends` have the end.

Each is one SQL statement with its log entries, names its attempt, and does nothing for an outdated one (promise 2).
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from longshore.database.connect import Pool
from longshore.tasks.conditions import RUNNING
from longshore.tasks.model import ChainId, Interval, NewDelivery, TaskId
from longshore.tasks.queue import Message, send
from longshore.tasks.watermarks import Increment
from longshore.telemetry import metrics

# If the statement waits for the lock of the task, the row of `before` is newer than its snapshot, which may not show
# changes of backfills by the transaction that held the lock. So `backfill` stays: the scheduler computes the next one.
BEGIN = f"""
with seen as materialized (
    select revision from longshore.tasks where id = $1
),
before as (
    select *, greatest(modified_at, now()) as at, state = 'INPROGRESS' as again,
           origin = 'schedule' and due_at is null as of_schedule,
           origin = 'backfill' and state <> 'INPROGRESS' and due_at is null as of_backfill
    from longshore.tasks t
    where t.id = $1 and t.attempt = $2 and t.attempt_began_at is null
    for update
),
task as (
    update longshore.tasks t
    set state = 'INPROGRESS',
        result = '',
        attempt_began_at = before.at,
        due_at = null,
        next_due_at = null,
        parked = false,
        run = before.run + (not before.again)::int,
        last_run_at = case when before.again then before.last_run_at else before.at end,
        schedule_cursor = case when before.of_schedule then before.interval_end else before.schedule_cursor end,
        covered_until = case when before.of_schedule then before.interval_end else before.covered_until end,
        backfill = case when not before.of_backfill or before.revision <> seen.revision then before.backfill else (
            select min(b.backfill)
            from longshore.backfills b
            where b.task_id = before.id and b.ended_at is null
              and b.begun + (b.backfill = before.backfill)::int < cardinality(b.times)
        ) end,
        modified_at = before.at,
        revision = before.revision + 1,
        log_length = before.log_length + 1
    from before, seen
    where t.id = before.id
    returning t.id, t.chain_id, t.action, t.trigger, t.target, t.run, t.attempt,
              t.traceparent, t.follows, extract(epoch from before.at - before.waits_since)::float8 as waited
),
backfill as (
    update longshore.backfills b
    set begun = b.begun + 1
    from before
    where before.of_backfill and b.task_id = before.id and b.backfill = before.backfill
),
run as (
    insert into longshore.runs (task_id, run, first_attempt, attempt, began_at, attempt_began_at, progress_at, claim_id,
                                due_at, backfill, interval_start, interval_end)
    select task.id, task.run, task.attempt, task.attempt, before.at, before.at, before.at, $3,
           case when before.origin <> 'execute' then before.interval_end end,
           case when before.of_backfill then before.backfill end, before.interval_start, before.interval_end
    from task, before
    on conflict (task_id, run) do update
    set attempt = excluded.attempt, attempt_began_at = excluded.attempt_began_at, claim_id = excluded.claim_id,
        progress_at = excluded.progress_at, rows = 0, bytes = 0, rows_expected = null
    returning first_attempt, failures, due_at, interval_start, interval_end
),
entry as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select before.id, before.log_length, before.at,
           case when before.again then 'attempt ' || before.attempt - run.first_attempt + 1 || ' begins'
                else before.state || ' -> INPROGRESS' end
    from before, run
)
select task.*, run.* from task, run
union all
select t.id, t.chain_id, t.action, t.trigger, t.target, t.run, t.attempt,
       t.traceparent, t.follows, extract(epoch from t.attempt_began_at - t.waits_since)::float8,
       r.first_attempt, r.failures, r.due_at, r.interval_start, r.interval_end
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run and r.attempt = t.attempt and r.claim_id = $3
where t.id = $1 and t.attempt = $2 and {RUNNING}
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

ADD_LOG_ENTRY = f"""
with task as (
    update longshore.tasks t
    set modified_at = greatest(modified_at, now()), revision = revision + 1, log_length = log_length + 1
    where t.id = $1 and t.attempt = $2 and {RUNNING}
    returning id, log_length, modified_at
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, $3 from task
returning task_id
"""

LOCATIONS = "select location from longshore.runs where task_id = $1 and expires_at is not null"

RETRY = f"""
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks t
    where t.id = $1 and t.attempt = $2 and {RUNNING}
    for update
),
task as (
    update longshore.tasks t
    set attempt = before.attempt + 1, attempt_began_at = null, waits_since = now() + make_interval(secs => $5),
        modified_at = before.at, revision = before.revision + 1, log_length = before.log_length + 1
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

CURRENT = "select id, attempt from longshore.tasks where id = any($1::bigint[])"

STORE_TRACE = "update longshore.tasks set traceparent = $3 where id = $1 and attempt = $2"

MAX_LOG_CHARACTERS = 4000  # of an entry


class StaleAttemptError(Exception):
    """A newer attempt of the task exists, or the task has ended, so the attempt may write nothing."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"attempt {message.attempt} of task {message.task} is no longer the newest")


class Attempt(msgspec.Struct, frozen=True):
    """An attempt that has begun, with everything that its action needs."""

    message: Message
    chain: ChainId
    action: str
    trigger: str
    target: str
    run: int
    number: int
    """Number of the attempt within its run, from 1."""
    failures: int
    """Earlier attempts of this run that failed or were lost."""
    interval: Interval
    """Data interval of the run, the same in all its attempts."""
    due: datetime | None = None
    """Time of the trigger that the run is for; None if `execute` asked for it."""
    waited: float = 0.0
    """Seconds between the due time of the attempt and its start."""
    traceparent: str | None = None
    """`traceparent` of the trace that the run belongs to; None if it has none yet."""
    follows: str | None = None
    """`traceparent` of the request that asked for the run, if the run has a trace of its own."""


class RunResult(msgspec.Struct, frozen=True):
    """The result of a successful run."""

    result: str = ""
    """Name of the result file; empty if there is none."""
    location: str | None = None
    total: int = 0
    """Rows that matched."""
    success: int = 0
    """Rows written."""
    size: int = 0
    """Bytes of the file."""
    sha256: bytes | None = None
    snapshot_at: datetime | None = None
    manifest: str | None = None
    """The manifest, as JSON text."""
    signature: str | None = None
    """The signature of the manifest."""
    increment: Increment | None = None
    """Set for an incremental run."""
    note: str | None = None
    """An additional entry for the task's log."""
    deliveries: Sequence[NewDelivery] = ()
    """The deliveries of the result, which come before the run is DONE."""
    column_types: str | None = None
    """PostgreSQL types of the columns of the result, as a JSON object by name; None if unknown."""
    table_schema: str | None = None
    """The schema of the result as a table, as JSON text of Delta Lake; None where it is none."""
    table_stats: Sequence[str] = ()
    """Statistics of its files as JSON texts, in the order of the manifest; empty where it is not shared."""
    skips: int = 0
    """Values that are NULL in the file because they are not of the type that the catalog declares."""


async def begin(pool: Pool, message: Message, claim_id: UUID | None = None) -> Attempt | None:
    """Claim the attempt that a message names; None if the message is outdated or the attempt is claimed already.

    `claim_id`: the id of this claim. A claim that is repeated with the same id returns the same attempt again.
    """
    row = await pool.fetchrow(BEGIN, message.task, message.attempt, claim_id)
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
        interval=Interval(row["interval_start"], row["interval_end"]),
        due=row["due_at"],
        waited=max(0.0, row["waited"]),
        traceparent=row["traceparent"],
        follows=row["follows"],
    )


async def current_attempts(pool: Pool, tasks: Sequence[TaskId]) -> set[Message]:
    """Return the newest attempts of tasks."""
    return {Message(*row) for row in await pool.fetch(CURRENT, list(tasks))}


async def store_trace(pool: Pool, message: Message, traceparent: str) -> None:
    """Store the trace of a run, so that its later attempts and shards continue it."""
    await pool.execute(STORE_TRACE, message.task, message.attempt, traceparent)


async def report(  # noqa: PLR0913 (the columns of the statement)
    pool: Pool, message: Message, rows: int, size: int, expected: int | None, *, exact: bool
) -> None:
    """Record the progress of an attempt: rows, bytes, and rows expected. Raises StaleAttemptError.

    `exact`: whether `expected` was counted rather than estimated.
    """
    before = await pool.fetchrow(REPORT, message.task, message.attempt, rows, size, expected, exact)
    if before is None:
        raise StaleAttemptError(message)
    metrics.count_written(before["action"], rows - before["rows"], size - before["bytes"])


def storable(text: str) -> str:
    """Return a text that PostgreSQL can store: without U+0000 and lone surrogates, cut to MAX_LOG_CHARACTERS."""
    if len(text) > MAX_LOG_CHARACTERS:
        text = f"{text[:MAX_LOG_CHARACTERS]}…"
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


async def add_log_entry(pool: Pool, message: Message, text: str) -> None:
    """Add an entry of an attempt to the log of its task. Raises StaleAttemptError."""
    if await pool.fetchval(ADD_LOG_ENTRY, message.task, message.attempt, storable(text)) is None:
        raise StaleAttemptError(message)


async def locations(pool: Pool, task: TaskId) -> list[str]:
    """Return the locations of the results of a task that are kept, which no later attempt may remove."""
    return [row["location"] for row in await pool.fetch(LOCATIONS, task)]


async def retry(pool: Pool, message: Message, why: str, delay: float, *, counts_as_failure: bool) -> None:
    """End an attempt and send the message of the next one, `delay` seconds from now. Raises StaleAttemptError.

    `why`: the entry of the task's log. `counts_as_failure`: towards MAX_FAILURES.
    """
    async with pool.acquire() as connection, connection.transaction():
        ids = msgspec.structs.astuple(message)
        attempt = await connection.fetchval(RETRY, *ids, storable(why), counts_as_failure, delay)
        if attempt is None:
            raise StaleAttemptError(message)
        await send(connection, [Message(message.task, attempt)], delay)
