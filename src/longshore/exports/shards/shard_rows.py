"""The shards of an export that many workers write: their states, as SQL statements on `longshore.shards`.

As with tasks, the row is the truth and a message is only "begin shard S": a shard that a worker has, or whose export
has a newer attempt, is not begun again. Each time it is begun is a trial with a number of its own, and only the newest
may write (promise 2, within an attempt).
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from longshore.database.connect import Pool
from longshore.database.retry import MAX_FAILURES
from longshore.exports.written_rows import WrittenRows
from longshore.tasks import queue
from longshore.tasks.attempts import StaleAttemptError, storable
from longshore.tasks.queue import Message, ShardMessage
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

# A message that comes again for a shard that runs means that the worker which had it is lost, unless the same
# statement comes again ($5).
BEGIN = """
with one as (
    select s.task_id, s.attempt, s.number, s.state = 'RUNNING' as lost
    from longshore.shards s
    join longshore.tasks t on t.id = s.task_id and t.attempt = s.attempt and t.state = 'INPROGRESS'
    where s.task_id = $1 and s.attempt = $2 and s.number = $3 and s.state in ('WAITING', 'RUNNING')
      and s.claim_id is distinct from $5
    for update of s
),
begun as (
    update longshore.shards s
    set state = case when s.failures + one.lost::int < $4 then 'RUNNING' else 'FAILED' end,
        reason = case when one.lost then 'its worker was lost' else s.reason end, transient = true,
        trial = s.trial + 1, claim_id = $5, failures = s.failures + one.lost::int, seen_at = now(), rows = 0, bytes = 0
    from one
    where (s.task_id, s.attempt, s.number) = (one.task_id, one.attempt, one.number)
    returning s.trial, s.work, s.state, one.lost
)
select * from begun
union all
select trial, work, state, false from longshore.shards
where task_id = $1 and attempt = $2 and number = $3 and claim_id = $5 and state = 'RUNNING'
"""

NEWEST_TRIAL = "task_id = $1 and attempt = $2 and number = $3 and trial = $4 and state = 'RUNNING'"

REPORT = f"""
update longshore.shards set rows = $5, bytes = $6, seen_at = now()
where {NEWEST_TRIAL}
returning (
    select count(*) from longshore.shards s where s.task_id = $1 and s.attempt = $2 and s.state = 'RUNNING'
) as running
"""

FINISH = f"""
update longshore.shards set state = 'DONE', rows = $5, bytes = $6, outcome = $7 where {NEWEST_TRIAL} returning number
"""

# The second part: the same statement comes again because the answer to it was lost.
RELEASE = f"""
with released as (
    update longshore.shards
    set state = case when given.transient and failures + $5::int < $8 then 'WAITING' else 'FAILED' end,
        failures = failures + $5::int, reason = $6, transient = given.transient, seen_at = now()
    from (select $7::boolean as transient) given
    where {NEWEST_TRIAL}
    returning state
)
select state from released
union all
select state from longshore.shards
where task_id = $1 and attempt = $2 and number = $3 and trial = $4 and state in ('WAITING', 'FAILED')
  and reason = $6 and transient = $7
"""

# $3: the next shard to assemble, whose result alone is fetched: each look at the shards would fetch the others again.
# PgQueuer delivers the message of a shard again when its worker is lost; a shard without a message, and without a
# report for $4, is lost.
CURRENT = """
select number, trial, state, rows, bytes, reason, transient,
       case when number = $3 then outcome end as result,
       state in ('WAITING', 'RUNNING') and seen_at < now() - $4::interval and not exists (
           select from longshore.pgqueuer q
           where q.dedupe_key = s.task_id || ':' || s.attempt || ':' || s.number
             and q.status in ('queued', 'picked')
       ) as is_lost
from longshore.shards s
where task_id = $1 and attempt = $2
order by number
"""

OFFER_AGAIN = """
update longshore.shards
set state = case when failures + 1 < $5 then 'WAITING' else 'FAILED' end, failures = failures + 1,
    reason = 'its worker was lost', transient = true, seen_at = now()
where task_id = $1 and attempt = $2 and number = $3 and trial = $4 and state in ('WAITING', 'RUNNING')
returning state
"""

DELETE = "delete from longshore.shards where task_id = $1 and attempt = $2"

DELETE_EARLIER = "delete from longshore.shards where task_id = $1 and attempt < $2"

# Of attempts that have ended in any way, and whose task has no next one to remove them.
DELETE_ENDED = """
delete from longshore.shards s
using longshore.tasks t
where t.id = s.task_id and (t.attempt <> s.attempt or t.state <> 'INPROGRESS')
"""


RESULT = msgspec.json.Decoder(WrittenRows)


class ShardTrial(msgspec.Struct, frozen=True):
    """A trial of a shard. `message`: of the attempt that it is a part of."""

    message: Message
    number: int
    trial: int
    work: str = ""


class Shard(msgspec.Struct, frozen=True):
    """The state of a shard."""

    number: int
    trial: int
    state: str
    rows: int
    bytes: int
    is_lost: bool
    """Whether its worker reports nothing, and no other worker will get a message."""
    reason: str | None
    transient: bool
    result: WrittenRows | None
    """Of the shard that is assembled next, once it is DONE; None for all others."""


async def create_shards(pool: Pool, message: Message, works: Sequence[str]) -> None:
    """Cut an attempt into shards, and send their messages. Raises StaleAttemptError."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(SEND, message.task, message.attempt, works)
        if not rows:
            raise StaleAttemptError(message)
        await queue.send(connection, [ShardMessage(message.task, message.attempt, row["number"]) for row in rows])


async def begin(pool: Pool, message: ShardMessage, claim_id: UUID) -> ShardTrial | None:
    """Begin a trial of a shard. Return None where its message is outdated, or its worker was lost too often.

    `claim_id`: a unique name of this trial. A second call with the same one begins no second trial.
    """
    row = await pool.fetchrow(BEGIN, message.task, message.attempt, message.number, MAX_FAILURES, claim_id)
    if row is None:
        return None
    if row["lost"]:
        metrics.LOST_ATTEMPTS.inc()
    return None if row["state"] == "FAILED" else ShardTrial(message.of, message.number, row["trial"], row["work"])


async def report(pool: Pool, trial: ShardTrial, rows: int, size: int) -> int:
    """Record the progress of a trial, which also shows that its worker lives. Return how many shards of the export run.

    Raises StaleAttemptError.
    """
    running = await pool.fetchval(REPORT, *_key(trial), rows, size)
    if running is None:
        raise StaleAttemptError(trial.message)
    return int(running)


async def finish(pool: Pool, trial: ShardTrial, result: WrittenRows) -> None:
    """End a trial with its result. Raises StaleAttemptError."""
    outcome = msgspec.json.encode(result).decode()
    if await pool.fetchval(FINISH, *_key(trial), result.rows, result.size, outcome) is None:
        raise StaleAttemptError(trial.message)


async def release(pool: Pool, trial: ShardTrial, reason: str, *, failed: bool, transient: bool) -> None:
    """End a trial without a result; the shard's message comes again. Raises StaleAttemptError. May be called again.

    `failed`: whether it counts as a failure. `transient`: whether to retry; else the export has failed.
    """
    if await pool.fetchval(RELEASE, *_key(trial), failed, storable(reason), transient, MAX_FAILURES) is None:
        raise StaleAttemptError(trial.message)


async def offer_again(pool: Pool, message: Message, shard: Shard) -> None:
    """End the trial of a lost shard, if it had begun, and send its message again."""
    async with pool.acquire() as connection, connection.transaction():
        key = (message.task, message.attempt, shard.number)
        state = await connection.fetchval(OFFER_AGAIN, *key, shard.trial, MAX_FAILURES)
        if state == "WAITING":
            await queue.send(connection, [ShardMessage(*key)])


async def current(pool: Pool, message: Message, assembled: int, silence: timedelta) -> list[Shard]:
    """Return all shards of an attempt; the first one after those `assembled` has its result, once it is DONE.

    `silence`: the time after which a shard without a message, and of which no worker reports, is lost.
    """
    rows = await pool.fetch(CURRENT, message.task, message.attempt, assembled, silence)
    return [Shard(**{**row, "result": row["result"] and RESULT.decode(row["result"])}) for row in rows]


async def forget_earlier(pool: Pool, message: Message) -> None:
    """Remove the shards of earlier attempts that could not remove them themselves."""
    await pool.execute(DELETE_EARLIER, message.task, message.attempt)


async def forget(pool: Pool, message: Message) -> None:
    """Remove the shards of an attempt that has ended; messages about them do nothing from then on."""
    await pool.execute(DELETE, message.task, message.attempt)


def _key(trial: ShardTrial) -> tuple[int, int, int, int]:
    return trial.message.task, trial.message.attempt, trial.number, trial.trial
