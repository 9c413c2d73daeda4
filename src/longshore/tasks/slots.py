"""Slots: the limit of tasks of one chain that run at a time, so that a chain with many exports does not delay others.

A due task is parked until its chain has a free slot; then its message goes to the queue. Of equal priority the task
that has waited longest goes first, so a new task gets its turn however often others are due again. The queue holds no
more messages than there are slots, so taking one costs the same however many tasks wait. A run that is being delivered
holds no slot.
"""

from longshore.database.connect import Connection, Pool
from longshore.database.retry import isolated
from longshore.tasks.conditions import HOLDS_SLOT
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message, send

SETTING = "longshore.chain_tasks"
"""Session setting in PostgreSQL: the number of slots of each chain."""
DEFAULT_SLOTS = 2

LOCK = "select pg_advisory_xact_lock(hashtextextended('longshore.slots', $1))"

FILL = f"""
update longshore.tasks t set parked = false
from (
    select id from longshore.tasks
    where chain_id = $1 and parked
    order by priority desc, waits_since, id
    limit greatest(0, coalesce(nullif(current_setting('{SETTING}', true), ''), '{DEFAULT_SLOTS}')::int - (
        select count(*) from longshore.tasks t where t.chain_id = $1 and {HOLDS_SLOT}
    ))
    for update skip locked
) next
where t.id = next.id
returning t.id, t.attempt
"""

# From chain to chain through the index, however many tasks of each are parked.
CHAINS = """
with recursive chain(id) as (
    select min(chain_id) from longshore.tasks where parked
    union all
    select (select min(t.chain_id) from longshore.tasks t where t.parked and t.chain_id > chain.id)
    from chain
    where chain.id is not null
)
select id from chain where id is not null
"""


async def fill_slots(connection: Connection, chain: ChainId) -> None:
    """Send the messages of as many parked tasks as their chain has free slots, within the connection's transaction.

    Call it last in a transaction that parks a task or frees a slot: its lock blocks other transactions of the chain.
    """
    await connection.execute(LOCK, chain)
    rows = await connection.fetch(FILL, chain)
    await send(connection, [Message(TaskId(row["id"]), row["attempt"]) for row in rows])


async def fill_all_slots(pool: Pool) -> None:
    """Fill the slots of all chains, in case a slot became free without `fill_slots`.

    An error of one chain is logged; a transient error of the database is raised.
    """
    for row in await pool.fetch(CHAINS):
        with isolated("slots not filled", chain=row["id"]):
            async with pool.acquire() as connection, connection.transaction():
                await fill_slots(connection, ChainId(row["id"]))
