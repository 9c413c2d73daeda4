"""Queries of deliveries: those of a run, of a task and of a destination, and whether a destination is in use."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page, raw_json
from longshore.tasks.conditions import NO_RUN_LEFT
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.reads import Read, decoded

COLUMNS = """
d.number as id, d.destination, d.entry ->> 'table' as table,
case when d.entry ->> 'table' is null then d.place end as path,
d.state, d.attempt as attempts, d.address, d.evidence, d.error, date_trunc('second', d.created_at) as created,
d.created_by, date_trunc('second', d.ended_at) as ended, date_trunc('second', d.due_at) as next
"""

ROW_COLUMNS = f"d.task_id as task, d.run, d.place, r.reads, {COLUMNS}"

OF_DESTINATION = f"""
select {ROW_COLUMNS}
from longshore.run_deliveries d
join longshore.destinations named on named.id = d.destination_id and named.name = d.destination
join longshore.runs r on r.task_id = d.task_id and r.run = d.run
where d.chain_id = $1 and d.destination = $2
order by d.created_at desc, d.task_id desc, d.run desc, d.number desc
limit $3 offset $4
"""

OF_TASK = f"""
select {ROW_COLUMNS}
from longshore.run_deliveries d
join longshore.runs r on r.task_id = d.task_id and r.run = d.run
where d.chain_id = $1 and d.task_id = $2
order by d.run desc, d.number desc
limit $3 offset $4
"""

OF_RUN = f"""
select {COLUMNS}
from longshore.run_deliveries d
where d.chain_id = $1 and d.task_id = $2 and d.run = $3
order by d.number desc
limit $4 offset $5
"""

NEWEST = f"""
select newest.*
from unnest($2::text[]) as named (name)
cross join lateral (
    select {ROW_COLUMNS}
    from longshore.run_deliveries d
    join longshore.destinations of_name on of_name.id = d.destination_id and of_name.name = d.destination
    join longshore.runs r on r.task_id = d.task_id and r.run = d.run
    where d.chain_id = $1 and d.destination = named.name
    order by d.created_at desc, d.task_id desc, d.run desc, d.number desc
    limit 1
) newest
"""


IN_USE = f"""
select exists (
    select from longshore.run_deliveries where chain_id = $1 and destination = $2 and state = 'pending'
) or exists (
    select from longshore.tasks t
    where t.chain_id = $1 and t.action = 'export' and not ({NO_RUN_LEFT})
      and case when longshore.is_decodable(t.target) then exists (
          select from json_array_elements(t.target -> 'deliver') one where one ->> 'destination' = $2
      ) else false end
)
"""


class RunDelivery(msgspec.Struct, frozen=True):
    """A delivery of a run to a destination. Times are UTC, in whole seconds."""

    id: int
    """Its number, from 1 for each run; one that was asked for again has a number of its own."""
    destination: str
    path: str | None
    """The path of its files, with `{name}` in place of their names; null for a table."""
    table: str | None
    state: str
    """`pending`, `delivered`, `failed` or `cancelled`."""
    attempts: int
    """Attempts that have begun, or are about to."""
    address: str | None
    """Where the result lies, once it is delivered: its file, its manifest where it has many files, or the table."""
    evidence: Any
    """The proof that was read back there: `files`, `bytes` and `sha256` of files, `rows` and `totals` of a table."""
    error: str | None
    """Why the last attempt failed."""
    created: datetime
    created_by: str | None
    """Kind and id of the credential that asked for it again; null for the run's own."""
    ended: datetime | None
    next: datetime | None
    """When the next attempt begins; null while one is under way, and once the delivery has ended."""


class DeliveryRow(RunDelivery, frozen=True):
    """A delivery with its task and run, for people."""

    task: TaskId
    run: int
    place: str
    """The path of its files, with `{name}` in place of their names, or the table."""
    reads: list[Read]
    """Of its run: a credential that may not see them may not see its evidence."""


async def of_run(pool: Pool, chain: ChainId, task: TaskId, run: int, page: Page) -> tuple[list[RunDelivery], bool]:
    """Return a page of the deliveries of a run, newest first, and whether more follow."""
    return await fetch_page(pool, _delivery, page, OF_RUN, chain, task, run)


async def of_destination(pool: Pool, chain: ChainId, name: str, page: Page) -> tuple[list[DeliveryRow], bool]:
    """Return a page of the deliveries to a destination, newest first, and whether more follow."""
    return await fetch_page(pool, _row, page, OF_DESTINATION, chain, name)


async def of_task(pool: Pool, chain: ChainId, task: TaskId, page: Page) -> tuple[list[DeliveryRow], bool]:
    """Return a page of the deliveries of a task's runs, newest run first, and whether more follow."""
    return await fetch_page(pool, _row, page, OF_TASK, chain, task)


async def newest_of(pool: Pool, chain: ChainId, names: Sequence[str]) -> dict[str, DeliveryRow]:
    """Return the newest delivery to each of these destinations, by name, for those that have any."""
    rows = [_row(**row) for row in await pool.fetch(NEWEST, chain, list(names))]
    return {row.destination: row for row in rows}


async def is_in_use(connection: Connection | Pool, chain: ChainId, name: str) -> bool:
    """Return whether a task that names a destination has a run to come or is delivering to it."""
    return bool(await connection.fetchval(IN_USE, chain, name))


def _delivery(evidence: str | None, **columns: Any) -> RunDelivery:
    return RunDelivery(evidence=raw_json(evidence), **columns)


def _row(evidence: str | None, reads: str | None, **columns: Any) -> DeliveryRow:
    proof = None if evidence is None else msgspec.json.decode(evidence)
    return DeliveryRow(evidence=proof, reads=decoded(reads), **columns)
