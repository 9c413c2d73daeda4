"""Record the reads of a run, with the run and merged into those of its task."""

from longshore.database.connect import Pool
from longshore.tasks.attempts import Attempt, StaleAttemptError
from longshore.tasks.recorded_reads import Read, decoded, encoded, merged

LOCK = """
select reads from longshore.tasks
where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS'
for update
"""

RECORD = """
with task as (
    update longshore.tasks set reads = $3 where id = $1 and reads <> $3
)
update longshore.runs set reads = $4 where task_id = $1 and run = $2
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
