"""Queries of tasks: by id, as a list, with their log and runs. Each is one statement.

The chain is part of every `where`, so another chain's task looks like a missing one (promise 5).
"""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page
from longshore.errors import NotFoundError
from longshore.tasks.conditions import QUEUED, SETTLED
from longshore.tasks.model import FORMAT_VERSION, ChainId, LogEntry, State, StateCode, Task, TaskId, TaskVersion
from longshore.tasks.reads import Read, decoded

# Computed from the rows per second so far; `case` reads the run of a running task alone. Deliveries have no estimate.
SECONDS_LEFT = """case case when not t.delivering then t.state end
           when 'READY' then extract(epoch from case when not t.paused then t.due_at end - now())
           when 'INPROGRESS' then (
               select extract(epoch from r.progress_at - r.attempt_began_at) / nullif(r.rows, 0)
                      * greatest(r.rows_expected - r.rows, 0)
               from longshore.runs r
               where r.task_id = t.id and r.run = t.run
           )
       end::float8"""

MEMBER = "case when longshore.is_decodable(t.target) then t.target ->> '{}' end"
"""SQL expression for a member of a task's target; null if PostgreSQL cannot decode the target."""

# The number of steps of PROGRESS_SECONDS between the last change of the task and the last progress of its run.
PROGRESS_SECONDS = 10
PROGRESS_STEPS = f"""coalesce(case t.state
           when 'INPROGRESS' then (
               select greatest(floor(extract(epoch from r.progress_at - t.modified_at) / {PROGRESS_SECONDS}), 0)
               from longshore.runs r
               where r.task_id = t.id and r.run = t.run
           )
       end, 0)::int"""

TASK_COLUMNS = f"""t.id, t.chain_id, t.description, t.state, t.trigger, t.target, t.debug, t.result,
       t.last_run_at, t.modified_at, t.created_at, t.reads, {PROGRESS_STEPS} as progress_steps"""

# `seq` counts from 0 without gaps, so each page of the log is a range of the primary key.
LOGS = """array(
           select row(l.msg, l.at, l.total, l.success, l.skips, l.errors)
           from longshore.task_logs l
           where l.task_id = t.id and {}
       ) as logs"""

LOG_PAGE = LOGS.format("""l.seq >= case when $5 then t.log_length::bigint - $3 - $4 else $3 end
             and l.seq < case when $5 then t.log_length::bigint - $3 else $3::bigint + $4 end
           order by case when $5 then -l.seq else l.seq end""")

GET = f"""
select {TASK_COLUMNS}, t.revision, t.log_length, t.created_by,
       case when t.state = 'ERROR' then t.reason end as reason,
       {SETTLED} as settled, {QUEUED} as queued, {SECONDS_LEFT} as seconds_left, {LOG_PAGE}
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""

# $1, $2: tasks, and the chain of each poll.
POLL = f"""
select t.id, t.chain_id, t.state, t.revision, t.log_length, {SETTLED} as settled, {QUEUED} as queued,
       {PROGRESS_STEPS} as progress_steps, {SECONDS_LEFT} as seconds_left
from unnest($1::bigint[], $2::bigint[]) as asked (task, chain)
join longshore.tasks t on t.id = asked.task and t.chain_id = asked.chain
"""

# $3: log entries that the client has seen.
SINCE = f"""
select t.state, t.last_run_at, t.modified_at, t.created_at, t.revision, t.log_length, t.trigger, t.target,
       t.reads, {SETTLED} as settled, {PROGRESS_STEPS} as progress_steps,
       {LOGS.format("l.seq >= $3 and l.seq < $3::bigint + 1000 order by l.seq")}
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""

LIST = f"""
select {TASK_COLUMNS}, {LOGS.format("l.seq >= t.log_length - 10 order by l.seq")}
from longshore.tasks t
where t.chain_id = $1
  and ($2::text is null or t.state = $2)
  and ($3::text is null or t.action = $3)
  and ($4::bigint is null or {MEMBER.format("campaign")} = $4::text)
order by t.id desc
limit $5 offset $6
"""

STATUS = f"""
select t.state, t.last_run_at, t.modified_at, t.created_at, t.run, t.revision, t.log_length,
       {PROGRESS_STEPS} as progress_steps, {QUEUED} as queued, t.delivering
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""

LOCK = f"{STATUS} for update of t"


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
    delivering: bool
    """Whether the newest run has its result, which is on its way to the destinations."""


class TaskFilter(msgspec.Struct, frozen=True):
    """Conditions on the tasks of a list; None matches all."""

    status: str | None = None
    action: str | None = None
    campaign: int | None = None


class TaskWithReads(msgspec.Struct, frozen=True):
    """A task, with the reads of its runs."""

    task: Task
    reads: list[Read]


class PolledStatus(msgspec.Struct, frozen=True):
    """The status of a task that is polled: its version and what comes next."""

    code: StateCode
    version: TaskVersion
    log_length: int
    settled: bool
    """Whether nothing of the task is left to do (`conditions.SETTLED`)."""
    queued: bool
    """Whether a run is to begin as soon as its chain has a free slot and a worker takes it."""
    seconds_left: float | None
    """Until it begins (READY) or ends (INPROGRESS); None if unknown."""


class PolledTask(PolledStatus, frozen=True):
    """A task that is polled, with its status."""

    task: Task
    reads: list[Read]
    """The reads of its runs."""
    created_by: str | None
    """Kind and id of the credential that created it."""
    reason: str | None
    """Why it ended in ERROR; None in other states."""


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
    return (await poll(pool, chain, task, page)).task


async def poll(pool: Pool | Connection, chain: ChainId, task: TaskId, page: LogPage = FIRST_PAGE) -> PolledTask:
    """Return a task with a page of its log, its version and what comes next. Raises NotFoundError."""
    row = await pool.fetchrow(GET, task, chain, page.offset, page.limit, page.newest_first)
    if row is None:
        raise NotFoundError("task-not-found")
    return PolledTask(
        **_polled(row), task=_task(row), reads=decoded(row["reads"]), created_by=row["created_by"], reason=row["reason"]
    )


def polled_status(row: asyncpg.Record) -> PolledStatus:
    """Return the status in a row of POLL."""
    return PolledStatus(**_polled(row))


def _polled(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "code": StateCode(row["state"]),
        "version": TaskVersion(row["revision"], row["progress_steps"]),
        "log_length": row["log_length"],
        "settled": row["settled"],
        "queued": row["queued"],
        "seconds_left": row["seconds_left"],
    }


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


async def list_tasks(
    pool: Pool, chain: ChainId, conditions: TaskFilter, page: Page
) -> tuple[list[TaskWithReads], bool]:
    """Return a page of a chain's tasks, newest first, with their ten newest log entries, and whether more follow."""
    return await fetch_page(pool, _with_reads, page, LIST, chain, *msgspec.structs.astuple(conditions))


async def status(pool: Pool | Connection, chain: ChainId, task: TaskId) -> TaskStatus:
    """Return state, run number, revision and log length of a task. Raises NotFoundError."""
    return _status(await pool.fetchrow(STATUS, task, chain))


async def lock(connection: Connection, chain: ChainId, task: TaskId) -> TaskStatus:
    """Lock a task until the transaction ends and return its status. Raises NotFoundError."""
    return _status(await connection.fetchrow(LOCK, task, chain))


def _status(row: asyncpg.Record | None) -> TaskStatus:
    if row is None:
        raise NotFoundError("task-not-found")
    return TaskStatus(_state(row), row["run"], row["revision"], row["log_length"], row["queued"], row["delivering"])


def _with_reads(**columns: Any) -> TaskWithReads:
    return TaskWithReads(_task(columns), decoded(columns["reads"]))


def _task(row: asyncpg.Record | dict[str, Any]) -> Task:
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


def _state(row: asyncpg.Record | dict[str, Any]) -> State:
    last_run = row["last_run_at"]
    return State(
        code=StateCode(row["state"]),
        last_run_date=last_run and _whole_second(last_run),
        last_modified=_whole_second(row["modified_at"] + timedelta(seconds=PROGRESS_SECONDS * row["progress_steps"])),
        created_date=_whole_second(row["created_at"]),
    )


def _entry(entry: asyncpg.Record) -> LogEntry:
    msg, at, total, success, skips, errors = entry
    if total is None:
        return LogEntry(msg=msg, time=_whole_second(at))
    return LogEntry(errors=errors, msg=msg, skips=skips, success=success, time=_whole_second(at), total=total)


def _whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
