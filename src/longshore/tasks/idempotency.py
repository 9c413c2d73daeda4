"""Requests that may be sent again: an answer is kept under a credential's key, and given again for the same body.

The key is claimed in the transaction that makes the task, so of two requests at once one waits for the other and then
finds its answer; a transaction that fails gives the key free again.
"""

from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId, TaskId

FIND = """
select body_sha256, answer, task_id from longshore.idempotency_keys
where chain_id = $1 and key = $2 and created_at > now() - interval '24 hours'
"""

# Those that are too old are swept by the way; a key that is claimed again is overwritten.
CLAIM = """
with old as (
    select chain_id, key from longshore.idempotency_keys
    where created_at <= now() - interval '24 hours' and (chain_id, key) <> ($1::bigint, $2::text)
    order by created_at
    limit 100
    for update skip locked
),
swept as (
    delete from longshore.idempotency_keys k using old where k.chain_id = old.chain_id and k.key = old.key
)
insert into longshore.idempotency_keys as k (chain_id, key, body_sha256) values ($1, $2, $3)
on conflict (chain_id, key) do update
set body_sha256 = excluded.body_sha256, task_id = null, answer = null, created_at = now()
where k.created_at <= now() - interval '24 hours'
returning true
"""

KEEP = "update longshore.idempotency_keys set task_id = $3, answer = $4 where chain_id = $1 and key = $2"


class OtherBodyError(Exception):
    """The key was used with another body."""


def key_of(who: str, key: str) -> str:
    """The key that a credential has sent, as it is kept: two credentials of a chain may use the same one.

    `who`: kind and id of the credential, such as `user 7`.
    """
    return f"{who} {key}"


async def find(pool: Pool, chain: ChainId, key: str, body: bytes) -> tuple[TaskId, bytes] | None:
    """The task and the answer that the key stands for, or None. `body`: SHA-256. Raises OtherBodyError."""
    row = await pool.fetchrow(FIND, chain, key)
    if row is None:
        return None
    if row["body_sha256"] != body:
        raise OtherBodyError
    return TaskId(row["task_id"]), row["answer"]


async def claim(connection: Connection, chain: ChainId, key: str, body: bytes) -> bool:
    """Claim a key in the connection's transaction; False where somebody else has, whose answer can be found now."""
    return await connection.fetchval(CLAIM, chain, key, body) is not None


async def keep(connection: Connection, chain: ChainId, key: str, task: TaskId, answer: bytes) -> None:
    """Keep the answer under a key that was claimed, in the same transaction."""
    await connection.execute(KEEP, chain, key, task, answer)
