"""Reading tasks: by id, as a list, their progress and runs. Each answer is one statement.

Promise 5 is kept here: the chain is part of every `where`, so another chain's task and a missing one are the same.
"""

import math
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.tasks.model import (
    FORMAT_VERSION,
    ChainId,
    Code,
    LogEntry,
    Progress,
    Run,
    RunField,
    RunIncrement,
    State,
    Task,
    TaskId,
)

# `seq` counts from 0 without holes, so a page of the log is a range of its primary key, however far back it lies.
GET = """
select t.id, t.chain_id, t.description, t.state, t.trigger, t.target, t.debug, t.result,
       t.last_run_at, t.modified_at, t.created_at,
       array(
           select row(l.msg, l.at, l.total, l.success, l.skips, l.errors)
           from longshore.task_logs l
           where l.task_id = t.id and l.seq >= $3 and l.seq < $3::bigint + $4
           order by l.seq
       ) as logs
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""

LIST = """
select t.id, t.chain_id, t.description, t.state, t.trigger, t.target, t.debug, t.result,
       t.last_run_at, t.modified_at, t.created_at,
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
  and ($4::bigint is null or t.target ->> 'campaign' = $4::text)
order by t.id desc
limit $5 offset $6
"""

STATE = """
select t.state, t.last_run_at, t.modified_at, t.created_at, t.run, t.revision
from longshore.tasks t
where t.id = $1 and t.chain_id = $2
"""

PROGRESS = """
select t.run, coalesce(r.attempt - r.first_attempt + 1, 0) as attempt, coalesce(r.rows, 0) as rows,
       coalesce(r.bytes, 0) as bytes, r.rows_expected, r.rows_expected_exact, coalesce(r.state, '') as state,
       extract(epoch from coalesce(r.ended_at, r.progress_at) - r.attempt_began_at)::float8 as seconds,
       extract(epoch from now() - r.progress_at)::float8 as age
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.id = $1 and t.chain_id = $2
"""

# A mark counts the transactions of the whole source, other chains' too: clients see its hash.
RUNS = """
select r.run, r.state, r.attempt - r.first_attempt + 1 as attempts, r.began_at, r.ended_at, r.rows, r.bytes,
       r.snapshot_at, encode(r.sha256, 'hex') as sha256, r.result,
       r.manifest, r.mark_to is not null as is_increment, r.acknowledged,
       left(encode(sha256(convert_to(r.mark_from, 'UTF8')), 'hex'), 16) as mark_from,
       left(encode(sha256(convert_to(r.mark_to, 'UTF8')), 'hex'), 16) as mark_to
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = coalesce($5, r.run)
where t.id = $1 and t.chain_id = $2
order by r.run desc
limit $3 offset $4
"""

MANIFEST = """
select r.manifest
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""


class TaskNotFoundError(Exception):
    """There is no such task in this chain, which is also what another chain's task looks like."""


class Written(msgspec.Struct, frozen=True):
    """What a run shows of its result's manifest."""

    fields: list[RunField] | None = None
    segment: Any = None


class Standing(msgspec.Struct, frozen=True):
    """What a waiter needs to know of a task."""

    state: State
    run: int
    revision: int


async def get(pool: Pool | Connection, chain: ChainId, task: TaskId, log_limit: int, offset: int) -> Task:
    """One task with a page of its log: `log_limit` entries from the `offset`-th on, oldest first.

    Raises TaskNotFoundError.
    """
    row = await pool.fetchrow(GET, task, chain, offset, log_limit)
    if row is None:
        raise TaskNotFoundError
    return _task(row)


async def list_tasks(
    pool: Pool, chain: ChainId, status: str | None, action: str | None, campaign: int | None, limit: int, offset: int
) -> tuple[list[Task], bool]:
    """A page of a chain's tasks, newest first, each with its ten newest log entries, and whether more follow."""
    rows = await pool.fetch(LIST, chain, status, action, campaign, limit + 1, offset)
    return [_task(row) for row in rows[:limit]], len(rows) > limit


async def standing(pool: Pool | Connection, chain: ChainId, task: TaskId) -> Standing:
    """State, run number and revision of a task. Raises TaskNotFoundError."""
    row = await pool.fetchrow(STATE, task, chain)
    if row is None:
        raise TaskNotFoundError
    return Standing(_state(row), row["run"], row["revision"])


async def progress(pool: Pool, chain: ChainId, task: TaskId) -> Progress:
    """How far the newest run is. Raises TaskNotFoundError."""
    row = await pool.fetchrow(PROGRESS, task, chain)
    if row is None:
        raise TaskNotFoundError
    done, expected, seconds = row["rows"], row["rows_expected"], row["seconds"]
    speed = done / seconds if seconds else None
    finished = row["state"] == Code.DONE
    exact = finished or row["rows_expected_exact"]
    if finished:
        expected = done
    # An estimate may turn out too low; 99 % says "nearly" until the run itself says "done".
    percent = 100.0 if finished else min(99.0, 100 * done / expected) if expected else None
    left = 0.0 if finished else max(0.0, (expected - done) / speed) if expected and speed else None
    return Progress(
        run=row["run"],
        attempt=row["attempt"],
        rows=done,
        bytes=row["bytes"],
        rows_expected=expected,
        rows_expected_is=None if expected is None else "exact" if exact else "estimate",
        rows_per_second=_rounded(speed),
        percent=_rounded(percent),
        seconds_left=_rounded(left),
        heartbeat_age=_rounded(row["age"]) if row["state"] == Code.INPROGRESS else None,
    )


async def runs(pool: Pool, chain: ChainId, task: TaskId, limit: int, offset: int) -> tuple[list[Run], bool]:
    """A page of the runs of a task, newest first, and whether more follow. Raises TaskNotFoundError."""
    rows = await pool.fetch(RUNS, task, chain, limit + 1, offset, None)
    if not rows and not offset:
        raise TaskNotFoundError
    return [_run(row) for row in rows[:limit] if row["run"] is not None], len(rows) > limit


async def one_run(pool: Pool, chain: ChainId, task: TaskId, run: int) -> Run:
    """A run that exists. Raises TaskNotFoundError."""
    row = await pool.fetchrow(RUNS, task, chain, 1, 0, run)
    if row is None or row["run"] is None:
        raise TaskNotFoundError
    return _run(row)


async def manifest(pool: Pool, chain: ChainId, task: TaskId, run: int) -> str | None:
    """The manifest of a run, or None where it left none. Raises TaskNotFoundError."""
    row = await pool.fetchrow(MANIFEST, task, chain, run)
    if row is None:
        raise TaskNotFoundError
    text: str | None = row["manifest"]
    return text


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
    written, ended = msgspec.json.decode(row["manifest"] or "{}", type=Written), row["ended_at"]
    increment = RunIncrement(start=row["mark_from"], end=row["mark_to"], acknowledged=row["acknowledged"])
    return Run(
        run=row["run"],
        state=row["state"],
        attempts=row["attempts"],
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
    )


def _state(row: asyncpg.Record) -> State:
    last_run = row["last_run_at"]
    return State(
        code=Code(row["state"]),
        last_run_date=last_run and _whole(last_run),
        last_modified=_whole(row["modified_at"]),
        created_date=_whole(row["created_at"]),
    )


def _entry(entry: asyncpg.Record) -> LogEntry:
    msg, at, total, success, skips, errors = entry
    if total is None:
        return LogEntry(msg=msg, time=_whole(at))
    return LogEntry(errors=errors, msg=msg, skips=skips, success=success, time=_whole(at), total=total)


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _rounded(figure: float | None) -> float | None:
    return None if figure is None or not math.isfinite(figure) else round(figure, 1)
