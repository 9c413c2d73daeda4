"""Reads of tasks: by id, as a list, with their log and runs. Each is one statement.

The chain is part of every `where`, so another chain's task looks like a missing one (promise 5).
"""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.errors import NotFoundError
from longshore.tasks.model import (
    FORMAT_VERSION,
    ChainId,
    Code,
    Interval,
    LogEntry,
    Run,
    RunField,
    RunIncrement,
    State,
    Task,
    TaskId,
    Version,
)
from longshore.tasks.recorded_reads import Read, decoded

# The task has ended, is not due again, and has no queued run and no run of a backfill to come.
SETTLED = """t.state in ('DONE', 'ERROR') and t.due_at is null and t.attempt_began_at is not null
       and t.backfill is null"""

# A run is to begin as soon as its chain and a worker have room for it; of an ended task, another run.
QUEUED = "t.attempt_began_at is null and t.due_at is null"

# Computed from the rows per second so far; `case` reads the run of a running task alone.
SECONDS_LEFT = """case t.state
           when 'READY' then extract(epoch from case when not t.paused then t.due_at end - now())
           when 'INPROGRESS' then (
               select extract(epoch from r.progress_at - r.attempt_began_at) / nullif(r.rows, 0)
                      * greatest(r.rows_expected - r.rows, 0)
               from longshore.runs r
               where r.task_id = t.id and r.run = t.run
           )
       end::float8"""

# PostgreSQL raises an error for a JSON text that escapes U+0000 or a lone surrogate, and one such task would fail a
# statement over all tasks of a chain: https://www.postgresql.org/docs/current/datatype-json.html
MEMBER = r"case when t.target::text !~* '\\u(0000|d[89a-f])' then t.target ->> '{}' end"
"""SQL expression for a member of a task's target; null if PostgreSQL cannot decode the target."""

# The number of steps of PROGRESS_SECONDS between the last change of the task and the last progress of its run.
PROGRESS_SECONDS = 10
PROGRESS = f"""coalesce(case t.state
           when 'INPROGRESS' then (
               select greatest(floor(extract(epoch from r.progress_at - t.modified_at) / {PROGRESS_SECONDS}), 0)
               from longshore.runs r
               where r.task_id = t.id and r.run = t.run
           )
       end, 0)::int"""  # noqa: S608  # a constant

# `seq` counts from 0 without gaps, so each page of the log is a range of the primary key.
GET = f"""
select t.id, t.chain_id, t.description, t.state, t.trigger, t.target, t.debug, t.result,
       t.last_run_at, t.modified_at, t.created_at, t.revision, t.log_length, t.reads, t.created_by,
       {SETTLED} as settled, {QUEUED} as queued, {PROGRESS} as progress,
       array(
           select row(l.msg, l.at, l.total, l.success, l.skips, l.errors)
           from longshore.task_logs l
           where l.task_id = t.id
             and l.seq >= case when $5 then t.log_length::bigint - $3 - $4 else $3 end
             and l.seq < case when $5 then t.log_length::bigint - $3 else $3::bigint + $4 end
           order by case when $5 then -l.seq else l.seq end
       ) as logs,
       {SECONDS_LEFT} as seconds_left
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""  # noqa: S608  # only constants are put in

# $1, $2: tasks, and the chain of each poll.
STANDING = f"""
select t.id, t.chain_id, t.state, t.revision, t.log_length, {SETTLED} as settled, {QUEUED} as queued,
       {PROGRESS} as progress, {SECONDS_LEFT} as seconds_left
from unnest($1::bigint[], $2::bigint[]) as asked (task, chain)
join longshore.tasks t on t.id = asked.task and t.chain_id = asked.chain
"""  # noqa: S608  # only constants are put in

# $3: log entries that the client has seen.
SINCE = f"""
select t.state, t.last_run_at, t.modified_at, t.created_at, t.revision, t.log_length, t.trigger, t.target,
       t.reads, {SETTLED} as settled, {PROGRESS} as progress,
       array(
           select row(l.msg, l.at, l.total, l.success, l.skips, l.errors)
           from longshore.task_logs l
           where l.task_id = t.id and l.seq >= $3 and l.seq < $3::bigint + 1000
           order by l.seq
       ) as logs
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""  # noqa: S608  # only constants are put in

LIST = f"""
select t.id, t.chain_id, t.description, t.state, t.trigger, t.target, t.debug, t.result,
       t.last_run_at, t.modified_at, t.created_at, t.reads, {PROGRESS} as progress,
       array(
           select row(l.msg, l.at, l.total, l.success, l.skips, l.errors)
           from longshore.task_logs l
           where l.task_id = t.id and l.seq >= t.log_length - 10
           order by l.seq
       ) as logs
from longshore.tasks t
where t.chain_id = $1
  and ($2::text is null or t.state = $2)
  and ($3::text is null or t.action = $3)
  and ($4::bigint is null or {MEMBER.format("campaign")} = $4::text)
order by t.id desc
limit $5 offset $6
"""  # noqa: S608  # only constants are put in

STATE = f"""
select t.state, t.last_run_at, t.modified_at, t.created_at, t.run, t.revision, t.log_length, {PROGRESS} as progress,
       {QUEUED} as queued
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""  # noqa: S608  # only constants are put in

LOCK = f"{STATE} for update of t"

# A watermark counts the transactions of the whole source, those of other chains too, so clients see a hash of it.
RUNS = """
select r.run, r.state, r.attempt - r.first_attempt + 1 as attempts, r.due_at, r.interval_start, r.interval_end,
       r.backfill, r.began_at, r.ended_at, r.rows, r.bytes,
       r.snapshot_at, encode(r.sha256, 'hex') as sha256, r.result,
       r.manifest, r.watermark_to is not null as is_increment, r.acknowledged,
       left(encode(sha256(convert_to(r.watermark_from, 'UTF8')), 'hex'), 16) as watermark_from,
       left(encode(sha256(convert_to(r.watermark_to, 'UTF8')), 'hex'), 16) as watermark_to,
       r.reads
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = coalesce($5, r.run)
where t.id = $1 and t.chain_id = $2
order by r.run desc
limit $3 offset $4
"""

MANIFEST = """
select r.manifest, r.reads
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

# Of runs whose intervals have the same end, the later one.
LATEST_RUN = """
select (
    select r.run
    from longshore.runs r
    where r.task_id = t.id and r.state = 'DONE'
    order by r.interval_end desc, r.run desc
    limit 1
) as run
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""

# Null before the first run, and until the run has recorded its reads.
NEWEST = """
select r.reads
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.id = $1 and t.chain_id = $2
"""


class ManifestSummary(msgspec.Struct, frozen=True):
    """The parts of a manifest that a run shows."""

    fields: list[RunField] | None = None
    segment: Any = None
    full: bool | None = None


class LogPage(msgspec.Struct, frozen=True):
    """A page of a task's log: `limit` entries after `offset` entries, counted from the oldest or the newest."""

    limit: int = 10
    offset: int = 0
    newest_first: bool = False


FIRST_PAGE = LogPage()


class TaskStatus(msgspec.Struct, frozen=True):
    """The status of a task for waiters."""

    state: State
    run: int
    revision: int
    log_length: int
    queued: bool
    """Whether a run is to begin as soon as its chain has a free slot and a worker takes it."""


class TaskWithReads(msgspec.Struct, frozen=True):
    """A task, with the reads of its runs."""

    task: Task
    reads: list[Read]


class RunWithReads(msgspec.Struct, frozen=True):
    """A run, with its reads."""

    run: Run
    reads: list[Read]


class PolledTask(msgspec.Struct, frozen=True):
    """The answer to a poll: the task, its version and what comes next."""

    task: Task | None
    """None if only the status was read."""
    code: Code
    version: Version
    log_length: int
    settled: bool
    """Whether the task has ended, is not due again and has no queued run."""
    queued: bool
    """Whether a run is to begin as soon as its chain has a free slot and a worker takes it."""
    seconds_left: float | None
    """Until it begins (READY) or ends (INPROGRESS); None if unknown."""
    reads: list[Read] = []
    """The reads of its runs; empty if only the status was read."""
    created_by: str | None = None
    """Kind and id of the credential that created it."""


class TaskChanges(msgspec.Struct, frozen=True):
    """The changes of a task after a number of entries of its log."""

    state: State
    revision: int
    settled: bool
    logs: list[LogEntry]
    """The next entries, at most 1,000."""
    more: bool
    """Whether further entries follow."""
    target: str
    trigger: str
    reads: list[Read]
    """The reads of all its runs."""


async def get(pool: Pool | Connection, chain: ChainId, task: TaskId, page: LogPage = FIRST_PAGE) -> Task:
    """Return a task with a page of its log. Raises NotFoundError."""
    found = (await reading(pool, chain, task, page)).task
    assert found is not None
    return found


async def reading(pool: Pool | Connection, chain: ChainId, task: TaskId, page: LogPage = FIRST_PAGE) -> PolledTask:
    """Return a task with a page of its log, its version and what comes next. Raises NotFoundError."""
    row = await pool.fetchrow(GET, task, chain, page.offset, page.limit, page.newest_first)
    if row is None:
        raise NotFoundError("task-not-found")
    found = standing_in(row, _task(row))
    return msgspec.structs.replace(found, reads=decoded(row["reads"]), created_by=row["created_by"])


def standing_in(row: asyncpg.Record, task: Task | None = None) -> PolledTask:
    """Return the answer to a poll from a row of GET or STANDING."""
    return PolledTask(
        task=task,
        code=Code(row["state"]),
        version=Version(row["revision"], row["progress"]),
        log_length=row["log_length"],
        settled=row["settled"],
        queued=row["queued"],
        seconds_left=row["seconds_left"],
    )


async def since(pool: Pool, chain: ChainId, task: TaskId, seen: int) -> TaskChanges:
    """Return the changes of a task after `seen` entries of its log. Raises NotFoundError."""
    row = await pool.fetchrow(SINCE, task, chain, seen)
    if row is None:
        raise NotFoundError("task-not-found")
    return TaskChanges(
        state=_state(row),
        revision=row["revision"],
        settled=row["settled"],
        logs=[_entry(entry) for entry in row["logs"]],
        more=row["log_length"] > seen + len(row["logs"]),
        target=row["target"],
        trigger=row["trigger"],
        reads=decoded(row["reads"]),
    )


async def list_tasks(  # noqa: PLR0913 (the parameters of the query)
    pool: Pool, chain: ChainId, status: str | None, action: str | None, campaign: int | None, limit: int, offset: int
) -> tuple[list[TaskWithReads], bool]:
    """A page of a chain's tasks, newest first, each with its ten newest log entries, and whether more follow."""
    rows = await pool.fetch(LIST, chain, status, action, campaign, limit + 1, offset)
    return [TaskWithReads(_task(row), decoded(row["reads"])) for row in rows[:limit]], len(rows) > limit


async def standing(pool: Pool | Connection, chain: ChainId, task: TaskId) -> TaskStatus:
    """Return state, run number, revision and log length of a task. Raises NotFoundError."""
    return _standing(await pool.fetchrow(STATE, task, chain))


async def lock(connection: Connection, chain: ChainId, task: TaskId) -> TaskStatus:
    """Lock a task until the transaction ends and return its status. Raises NotFoundError."""
    return _standing(await connection.fetchrow(LOCK, task, chain))


def _standing(row: asyncpg.Record | None) -> TaskStatus:
    if row is None:
        raise NotFoundError("task-not-found")
    return TaskStatus(_state(row), row["run"], row["revision"], row["log_length"], row["queued"])


async def runs(pool: Pool, chain: ChainId, task: TaskId, limit: int, offset: int) -> tuple[list[RunWithReads], bool]:
    """Return a page of the runs of a task, newest first, and whether more follow. Raises NotFoundError."""
    rows = await pool.fetch(RUNS, task, chain, limit + 1, offset, None)
    if not rows and not offset:
        raise NotFoundError("task-not-found")
    found = [RunWithReads(_run(row), decoded(row["reads"])) for row in rows[:limit] if row["run"] is not None]
    return found, len(rows) > limit


async def one_run(pool: Pool, chain: ChainId, task: TaskId, run: int) -> RunWithReads | None:
    """Return one run of a task, None if there is none. Raises NotFoundError."""
    row = await pool.fetchrow(RUNS, task, chain, 1, 0, run)
    if row is None:
        raise NotFoundError("task-not-found")
    return None if row["run"] is None else RunWithReads(_run(row), decoded(row["reads"]))


async def latest_run(pool: Pool | Connection, chain: ChainId, task: TaskId) -> int | None:
    """Return the number of the DONE run with the greatest end of its interval, None if there is none.

    Raises NotFoundError.
    """
    row = await pool.fetchrow(LATEST_RUN, task, chain)
    if row is None:
        raise NotFoundError("task-not-found")
    number: int | None = row["run"]
    return number


async def manifest(pool: Pool, chain: ChainId, task: TaskId, run: int) -> tuple[str | None, list[Read]]:
    """Return the manifest of a run, None if it has none, and the reads of the run. Raises NotFoundError."""
    row = await pool.fetchrow(MANIFEST, task, chain, run)
    if row is None:
        raise NotFoundError("task-not-found")
    return row["manifest"], decoded(row["reads"])


async def newest_reads(pool: Pool, chain: ChainId, task: TaskId) -> list[Read]:
    """Return the reads of the newest run of a task. Raises NotFoundError."""
    row = await pool.fetchrow(NEWEST, task, chain)
    if row is None:
        raise NotFoundError("task-not-found")
    return decoded(row["reads"])


def _task(row: asyncpg.Record) -> Task:
    return Task(
        id=row["id"],
        chain=row["chain_id"],
        desc=row["description"],
        state=_state(row),
        trigger=msgspec.Raw(row["trigger"].encode()),
        target=msgspec.Raw(row["target"].encode()),
        logs=[_entry(entry) for entry in row["logs"]],
        debug=row["debug"],
        version=FORMAT_VERSION,
        result=row["result"],
    )


def _run(row: asyncpg.Record) -> Run:
    written, ended = msgspec.json.decode(row["manifest"] or "{}", type=ManifestSummary), row["ended_at"]
    increment = RunIncrement(start=row["watermark_from"], end=row["watermark_to"], acknowledged=row["acknowledged"])
    return Run(
        run=row["run"],
        state=row["state"],
        attempts=row["attempts"],
        due=row["due_at"],
        interval=Interval(row["interval_start"], row["interval_end"]),
        backfill=row["backfill"],
        began=_whole(row["began_at"]),
        ended=ended and _whole(ended),
        rows=row["rows"],
        bytes=row["bytes"],
        snapshot=row["snapshot_at"],
        sha256=row["sha256"],
        result=row["result"],
        seconds=ended and (ended - row["began_at"]).total_seconds(),
        fields=written.fields,
        segment=written.segment,
        increment=increment if row["is_increment"] else None,
        full=written.full,
    )


def _state(row: asyncpg.Record) -> State:
    last_run = row["last_run_at"]
    return State(
        code=Code(row["state"]),
        last_run_date=last_run and _whole(last_run),
        last_modified=_whole(row["modified_at"] + timedelta(seconds=PROGRESS_SECONDS * row["progress"])),
        created_date=_whole(row["created_at"]),
    )


def _entry(entry: asyncpg.Record) -> LogEntry:
    msg, at, total, success, skips, errors = entry
    if total is None:
        return LogEntry(msg=msg, time=_whole(at))
    return LogEntry(errors=errors, msg=msg, skips=skips, success=success, time=_whole(at), total=total)


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
