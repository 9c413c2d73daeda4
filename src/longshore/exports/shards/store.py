"""The shards of an export that is too large for one worker: who does which, and what each left.

As with tasks, the row is the truth and a message is only "begin shard S": a shard that somebody has, or whose export
has a newer attempt, is not begun again. Each time it is begun is a trial with a number of its own, and only the newest
may write (promise 2, within an attempt).
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from longshore.database.connect import Pool
from longshore.exports.totals import Sum
from longshore.results.pieces import Piece
from longshore.tasks.attempts import MAX_FAILURES, StaleAttemptError, storable
from longshore.tasks.queue import Message, ShardMessage, send_shards
from longshore.telemetry import metrics

SEND = """
with task as (
    select id from longshore.tasks where id = $1 and attempt = $2 and state = 'INPROGRESS' for share
)
insert into longshore.shards (task_id, attempt, number, work)
select task.id, $2, work.number - 1, work.text
from task, unnest($3::text[]) with ordinality as work(text, number)
returning number
"""

# A message that comes again for a shard that runs says that the worker which had it is lost, unless it is the same
# statement that comes again ($5).
BEGIN = """
with one as (
    select s.task_id, s.attempt, s.number, s.state = 'RUNNING' as lost
    from longshore.shards s
    join longshore.tasks t on t.id = s.task_id and t.attempt = s.attempt and t.state = 'INPROGRESS'
    where s.task_id = $1 and s.attempt = $2 and s.number = $3 and s.state in ('WAITING', 'RUNNING')
      and s.holder is distinct from $5
    for update of s
),
begun as (
    update longshore.shards s
    set state = case when s.failures + one.lost::int < $4 then 'RUNNING' else 'FAILED' end,
        reason = case when one.lost then 'its worker was lost' else s.reason end, passing = true,
        trial = s.trial + 1, holder = $5, failures = s.failures + one.lost::int, seen_at = now(), rows = 0, bytes = 0
    from one
    where (s.task_id, s.attempt, s.number) = (one.task_id, one.attempt, one.number)
    returning s.trial, s.work, s.state, one.lost
)
select * from begun
union all
select trial, work, state, false from longshore.shards
where task_id = $1 and attempt = $2 and number = $3 and holder = $5 and state = 'RUNNING'
"""

MINE = "task_id = $1 and attempt = $2 and number = $3 and trial = $4 and state = 'RUNNING'"

REPORT = f"""
update longshore.shards set rows = $5, bytes = $6, seen_at = now()
where {MINE}
returning (
    select count(*) from longshore.shards s where s.task_id = $1 and s.attempt = $2 and s.state = 'RUNNING'
) as running
"""  # noqa: S608  # a constant

FINISH = f"""
update longshore.shards set state = 'DONE', rows = $5, bytes = $6, outcome = $7 where {MINE} returning number
"""  # noqa: S608  # a constant

GIVE_BACK = f"""
update longshore.shards
set state = case when passing.is and failures + $5::int < $8 then 'WAITING' else 'FAILED' end,
    failures = failures + $5::int, reason = $6, passing = passing.is, seen_at = now()
from (select $7::boolean as is) passing
where {MINE}
returning state
"""  # noqa: S608  # a constant

# $3: those before are gathered already. A shard with a message, queued or being worked on, is looked after by PgQueuer;
# one that has none, and of which nothing is heard for $4, is left behind.
STANDING = """
select number, trial, state, rows, bytes, reason, passing, case when number >= $3 then outcome end as outcome,
       state in ('WAITING', 'RUNNING') and seen_at < now() - $4::interval and not exists (
           select from longshore.pgqueuer q
           where q.dedupe_key = s.task_id || ':' || s.attempt || ':' || s.number
             and q.status in ('queued', 'picked')
       ) as left_behind
from longshore.shards s
where task_id = $1 and attempt = $2
order by number
"""

LEFT_BEHIND = """
update longshore.shards
set state = case when failures + 1 < $5 then 'WAITING' else 'FAILED' end, failures = failures + 1,
    reason = 'its worker was lost', passing = true, seen_at = now()
where task_id = $1 and attempt = $2 and number = $3 and trial = $4 and state in ('WAITING', 'RUNNING')
returning state
"""

FORGET = "delete from longshore.shards where task_id = $1 and attempt = $2"

FORGET_EARLIER = "delete from longshore.shards where task_id = $1 and attempt < $2"

# Of attempts that have ended in whatever way, and whose task has no next one to remove them.
FORGET_ENDED = """
delete from longshore.shards s
using longshore.tasks t
where t.id = s.task_id and (t.attempt <> s.attempt or t.state <> 'INPROGRESS')
"""


class ShardResult(msgspec.Struct, frozen=True):
    """What a shard that went well leaves."""

    piece: Piece
    sent: int
    rows: int
    sums: Sequence[Sum] | None
    """What was written adds up to, where that was read on its way."""


class ShardAttempt(msgspec.Struct, frozen=True):
    """A shard that has been begun."""

    of: Message
    number: int
    trial: int
    work: str = ""


class Shard(msgspec.Struct, frozen=True):
    """How a shard stands."""

    number: int
    trial: int
    state: str
    rows: int
    bytes: int
    left_behind: bool
    """Whether nothing is heard of whoever has it, and nobody else will have it."""
    reason: str | None
    passing: bool
    outcome: str | None


async def send(pool: Pool, of: Message, works: Sequence[str]) -> None:
    """Cut an attempt into shards, and tell all workers of them. Raises StaleAttemptError."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(SEND, of.task, of.attempt, works)
        if not rows:
            raise StaleAttemptError(of)
        await send_shards(connection, [ShardMessage(of.task, of.attempt, row["number"]) for row in rows])


async def begin(pool: Pool, message: ShardMessage, holder: UUID) -> ShardAttempt | None:
    """Begin a shard; None where its message is outdated, or it was lost too often.

    `holder`: a name of this trial's own. With the same one it may be begun twice, which is once.
    """
    row = await pool.fetchrow(BEGIN, message.task, message.attempt, message.number, MAX_FAILURES, holder)
    if row is None:
        return None
    if row["lost"]:
        metrics.LOST.inc()
    return None if row["state"] == "FAILED" else ShardAttempt(message.of, message.number, row["trial"], row["work"])


async def report(pool: Pool, trial: ShardAttempt, rows: int, size: int) -> int:
    """Write how far a trial is, as a sign of life; gives how many shards of the export run.

    Raises StaleAttemptError.
    """
    running = await pool.fetchval(REPORT, *_key(trial), rows, size)
    if running is None:
        raise StaleAttemptError(trial.of)
    return int(running)


async def finish(pool: Pool, trial: ShardAttempt, left: ShardResult) -> None:
    """End a trial well. Raises StaleAttemptError."""
    outcome = msgspec.json.encode(left).decode()
    if await pool.fetchval(FINISH, *_key(trial), left.rows, left.piece.size, outcome) is None:
        raise StaleAttemptError(trial.of)


async def give_back(pool: Pool, trial: ShardAttempt, why: str, *, failed: bool, passing: bool) -> None:
    """End a trial that came to nothing; its message is to come again. Raises StaleAttemptError.

    `failed`: whether it counts. `passing`: whether another one may do better; else the export has failed.
    """
    if await pool.fetchval(GIVE_BACK, *_key(trial), failed, storable(why), passing, MAX_FAILURES) is None:
        raise StaleAttemptError(trial.of)


async def offer_again(pool: Pool, of: Message, shard: Shard) -> None:
    """End the trial of a shard that was left behind, if it had begun, and tell all workers of it anew."""
    async with pool.acquire() as connection, connection.transaction():
        key = (of.task, of.attempt, shard.number)
        state = await connection.fetchval(LEFT_BEHIND, *key, shard.trial, MAX_FAILURES)
        if state == "WAITING":
            await send_shards(connection, [ShardMessage(*key)])


async def standing(pool: Pool, of: Message, gathered: int, silence: timedelta) -> list[Shard]:
    """How all shards of an attempt stand; without the outcomes of the first `gathered`."""
    rows = await pool.fetch(STANDING, of.task, of.attempt, gathered, silence)
    return [msgspec.convert(dict(row), Shard) for row in rows]


async def forget_earlier(pool: Pool, of: Message) -> None:
    """Remove what earlier attempts have left that could not remove it themselves."""
    await pool.execute(FORGET_EARLIER, of.task, of.attempt)


async def forget(pool: Pool, of: Message) -> None:
    """Remove the shards of an attempt that has ended; messages about them say nothing any more."""
    await pool.execute(FORGET, of.task, of.attempt)


def outcome(shard: Shard) -> ShardResult:
    """What a shard that is DONE left."""
    return msgspec.json.decode(shard.outcome or "", type=ShardResult)


def _key(trial: ShardAttempt) -> tuple[int, int, int, int]:
    return trial.of.task, trial.of.attempt, trial.number, trial.trial
