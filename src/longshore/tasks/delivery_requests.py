"""Requests for deliveries: deliver a run again."""

from collections.abc import Sequence

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks import deliveries
from longshore.tasks.model import ChainId, CredentialName, Interval, NewDelivery, TaskId
from longshore.tasks.reads import Read, decoded

RUN = """
select t.id as task, t.action, t.target, t.trigger, r.run, r.result, r.location, r.reads, r.interval_start,
       r.summary ->> 'index' as index, r.interval_end,
       exists (
           select from longshore.run_deliveries d where d.task_id = t.id and d.run = r.run and d.state = 'pending'
       ) as delivering
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

# $3, $4: wanted places. Their numbers, from 1, where the run lacks a good delivery.
LACKING = """
select wanted.number
from unnest($3::text[], $4::text[]) with ordinality as wanted (destination, place, number)
left join longshore.destinations named on named.chain_id = $5 and named.name = wanted.destination
where not exists (
    select from longshore.run_deliveries d
    where d.task_id = $1 and d.run = $2 and d.state = 'delivered'
      and d.destination_id = named.id and d.place = wanted.place
)
order by wanted.number
"""

# $3, $4: places. A later run that has been delivered to one of them, or is on its way there.
LATER_DELIVERY = """
select d.run, d.destination, d.place, d.state
from unnest($3::text[], $4::text[]) as chosen (destination, place)
join longshore.destinations named on named.chain_id = $5 and named.name = chosen.destination
join longshore.run_deliveries d
    on d.task_id = $1 and d.destination = chosen.destination and d.place = chosen.place and d.destination_id = named.id
where d.run > $2 and d.state in ('delivered', 'pending')
order by d.run desc
limit 1
"""

# $3 to $5: the deliveries. $6: the credential.
CREATE_ROUND = """
with task as (
    update longshore.tasks
    set modified_at = greatest(modified_at, now()), revision = revision + 1, log_length = log_length + 1
    where id = $1
    returning id, chain_id, log_length, modified_at
),
newest as (
    select coalesce(max(number), 0) as number, coalesce(max(round), 0) as round
    from longshore.run_deliveries
    where task_id = $1 and run = $2
),
deliveries as (
    insert into longshore.run_deliveries (task_id, run, number, round, chain_id, destination, destination_id, place,
                                          entry, created_by)
    select task.id, $2, newest.number + chosen.number, newest.round + 1, task.chain_id, chosen.destination, named.id,
           chosen.place, chosen.entry::json, $6
    from task
    cross join newest
    cross join unnest($3::text[], $4::text[], $5::text[]) with ordinality as chosen (destination, place, entry, number)
    left join longshore.destinations named on named.chain_id = task.chain_id and named.name = chosen.destination
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at,
       'delivery of run ' || $2::int || ' to ' || array_to_string($3, ', ') || ' requested by ' || $6::text
from task
"""


class DeliverableRun(msgspec.Struct, frozen=True):
    """A run whose result may be delivered, with its task's present definition."""

    task: TaskId
    action: str
    target: str
    trigger: str
    run: int
    result: str | None
    """Null until the run has a result."""
    location: str | None
    index: str | None
    """The index that it exported; null of several."""
    interval: Interval
    reads: list[Read]
    delivering: bool
    """Whether a delivery of it is pending."""


async def run_of(connection: Connection | Pool, chain: ChainId, task: TaskId, run: int) -> DeliverableRun:
    """Return a run with what its task asks for now. Raises NotFoundError."""
    row = await connection.fetchrow(RUN, task, chain, run)
    if row is None:
        raise NotFoundError("task-not-found")
    if row["run"] is None:
        raise NotFoundError("run-not-found", f"Task {task} has no run {run}.")
    columns = dict(row)
    interval = Interval(columns.pop("interval_start"), columns.pop("interval_end"))
    return DeliverableRun(interval=interval, reads=decoded(columns.pop("reads")), **columns)


async def deliver(
    connection: Connection, chain: ChainId, wanted: Sequence[NewDelivery], of: DeliverableRun, by: CredentialName
) -> Sequence[NewDelivery]:
    """Deliver a run to those of its task's destinations that lack a good delivery, else to all; return the chosen ones.

    Runs in the connection's transaction, in which the caller has locked the task. Raises ProblemError.
    """
    task, run = of.task, of.run
    if of.delivering:
        raise ProblemError("run-delivering", f"Run {run} of task {task} is being delivered.")
    destinations, places = [each.destination for each in wanted], [each.place for each in wanted]
    lacking = [row["number"] - 1 for row in await connection.fetch(LACKING, task, run, destinations, places, chain)]
    chosen = [wanted[number] for number in lacking] or wanted
    destinations, places = [each.destination for each in chosen], [each.place for each in chosen]
    later = await connection.fetchrow(LATER_DELIVERY, task, run, destinations, places, chain)
    if later is not None:
        state = "has been" if later["state"] == "delivered" else "is being"
        detail = f"Run {later['run']}, which is later, {state} delivered to {later['place']} of {later['destination']}."
        raise ProblemError("later-run-delivered", detail)
    await connection.execute(CREATE_ROUND, task, run, destinations, places, [each.entry for each in chosen], by)
    await deliveries.send_due_deliveries(connection, chain)
    return chosen
