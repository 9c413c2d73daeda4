"""Idempotency keys: the result of a request is stored under its key and answers the same request when it is repeated.

The key is claimed in the transaction that does what the request asks for. So of two requests at once the second waits
and then finds the answer of the first, and a transaction that fails releases the key.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.errors import ProblemError
from longshore.tasks.model import ChainId, TaskId

FIND = """
select body_sha256, answer, task_id from longshore.idempotency_keys
where chain_id = $1 and key = $2 and created_at > now() - interval '24 hours'
"""

# Each claim deletes some expired keys; an expired key that is claimed is overwritten.
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


# Of two requests that find the same task failed, one gets the key.
RENEW = """
update longshore.idempotency_keys
set task_id = null, answer = null, created_at = now()
where chain_id = $1 and key = $2 and task_id = $3
returning true
"""


class Claim(msgspec.Struct, frozen=True):
    """The idempotency key of a request."""

    chain: ChainId
    key: str
    """Prefixed with the credential, see `claim_of`."""
    digest: bytes
    """SHA-256 of its method, path and body, which is stored."""
    accepted_digests: Sequence[bytes]
    """The stored digests that mean the same request."""


class StoredAnswer(msgspec.Struct, frozen=True):
    """The stored result of a request: its task, if it concerned one, and the data of its answer."""

    task: TaskId | None
    answer: bytes


Make = Callable[[Connection], Awaitable[StoredAnswer]]
"""Carries out a request in the connection's transaction."""


async def find(pool: Connection | Pool, claim: Claim | None) -> StoredAnswer | None:
    """Return the result that is stored under a key; None without a claim or if nothing is stored.

    Raises ProblemError.
    """
    if claim is None or (found := await pool.fetchrow(FIND, claim.chain, claim.key)) is None:
        return None
    if found["body_sha256"] not in claim.accepted_digests:
        raise ProblemError("idempotency-key-reused")
    return StoredAnswer(found["task_id"], found["answer"])


async def once(pool: Pool, claim: Claim | None, make: Make) -> tuple[StoredAnswer, bool]:
    """Carry out a request, unless its key has a result already; always if there is no claim.

    Return the result, and whether it is that of an earlier request. Raises ProblemError.
    """
    async with pool.acquire() as connection, connection.transaction():
        if claim is None or await connection.fetchval(CLAIM, claim.chain, claim.key, claim.digest) is not None:
            return await _make(connection, claim, make), False
        # The claim has locked the row that it left as it is, and both statements see the same `now()`.
        found = await find(connection, claim)
    assert found, "a key that is claimed is kept for a day"
    return found, True


async def renew(pool: Pool, claim: Claim, failed: TaskId, make: Make) -> StoredAnswer | None:
    """Replace the failed task of a key by a new one; return None if another request has done so already."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(RENEW, claim.chain, claim.key, failed) is None:
            return None
        return await _make(connection, claim, make)


async def _make(connection: Connection, claim: Claim | None, make: Make) -> StoredAnswer:
    made = await make(connection)
    if claim is not None:
        await connection.execute(KEEP, claim.chain, claim.key, made.task, made.answer)
    return made
