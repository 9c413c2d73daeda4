"""Record with a run what it reads: its stored segment, and its reads, which are merged into those of its task."""

from uuid import UUID

from longshore.database.connect import Pool
from longshore.tasks.attempts import Attempt, StaleAttemptError
from longshore.tasks.conditions import RUNNING
from longshore.tasks.reads import Read, decoded, encoded, merged

LOCK = f"""
select t.reads from longshore.tasks t
where t.id = $1 and t.attempt = $2 and {RUNNING}
for update
"""

RECORD = """
with task as (
    update longshore.tasks set reads = $3 where id = $1 and reads <> $3
)
update longshore.runs set reads = $4 where task_id = $1 and run = $2
"""

# The first attempt stores the segment for the whole run; no row means that a newer attempt exists.
RECORD_SEGMENT = """
update longshore.runs r
set segment = coalesce(r.segment, (select s.segment from longshore.segments s where s.id = $4 and s.chain_id = $5))
where r.task_id = $1 and r.run = $2 and r.attempt = $3
returning r.segment
"""


async def record(pool: Pool, attempt: Attempt, reads: list[Read]) -> None:
    """Record the reads of an attempt before its first row. Raises StaleAttemptError."""
    message = attempt.message
    async with pool.acquire() as connection, connection.transaction():
        before = await connection.fetchval(LOCK, message.task, message.attempt)
        if before is None:
            raise StaleAttemptError(message)
        together = merged([*decoded(before), *reads])
        await connection.execute(RECORD, message.task, attempt.run, encoded(together), encoded(merged(reads)))


async def record_segment(pool: Pool, attempt: Attempt, id: UUID | None) -> str | None:
    """Record a stored segment as it is when the run begins, and return its JSON, the same in every attempt of the run.

    Returns None if the chain has no such segment. Raises StaleAttemptError.
    """
    message = attempt.message
    row = await pool.fetchrow(RECORD_SEGMENT, message.task, attempt.run, message.attempt, id, attempt.chain)
    if row is None:
        raise StaleAttemptError(message)
    segment: str | None = row["segment"]
    return segment
