"""Cancel: the end of a run, its deliveries, its schedule and its backfills at a client's request, in one statement."""

from longshore.database.connect import Connection
from longshore.errors import ProblemError
from longshore.tasks import backfills, deliveries
from longshore.tasks.conditions import SETTLED
from longshore.tasks.model import ChainId, CredentialName, TaskId
from longshore.tasks.slots import fill_slots

# A READY task has no run to end. A task that has ended and waits for its next run keeps the state of the last one.
CANCEL = f"""
with before as (
    select *, greatest(modified_at, now()) as at, state in ('READY', 'INPROGRESS') as ends
    from longshore.tasks t
    where id = $1 and chain_id = $2 and not ({SETTLED})
    for update
),
deliveries as (
    update longshore.run_deliveries d
    set state = 'cancelled', ended_at = before.at, due_at = null
    from before
    where d.task_id = before.id and d.state = 'pending'
),
task as (
    update longshore.tasks t
    set state = case when before.ends then 'ERROR' else before.state end,
        reason = case when before.ends then $3 else before.reason end, delivering = false,
        attempt = before.attempt + 1, attempt_began_at = before.at, due_at = null, next_due_at = null, parked = false,
        schedule_ended = true, paused = false,
        modified_at = before.at, revision = before.revision + 1,
        log_length = before.log_length + 1 + before.ends::int
    from before
    where t.id = before.id
),
run as (
    update longshore.runs r
    set state = 'ERROR', reason = $3, ended_at = before.at
    from before
    where r.task_id = before.id and r.run = before.run and before.state = 'INPROGRESS'
),
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select before.id, before.log_length, before.at, $3 from before
    union all
    select before.id, before.log_length + 1, before.at, before.state || ' -> ERROR' from before where before.ends
)
select id from before
"""


class NothingToCancelError(ProblemError):
    """The task has ended and has no run to come."""

    def __init__(self) -> None:
        super().__init__("nothing-to-cancel")


async def cancel(connection: Connection, chain: ChainId, task: TaskId, by: CredentialName) -> None:
    """End run, deliveries, schedule and backfills of a task, in the connection's transaction.

    The caller has locked the task, which exists in the chain. The new revision notifies the workers that run it or
    deliver its results. Raises NothingToCancelError.
    """
    await connection.execute(deliveries.LOCK_CHAIN, chain)
    if await connection.fetchval(CANCEL, task, chain, f"cancelled by {by}") is None:
        raise NothingToCancelError
    await backfills.end(connection, chain, task, None, by)
    await deliveries.send_due_deliveries(connection, chain)
    await fill_slots(connection, chain)
