"""The console's list of tasks: searched, filtered, sorted and counted.

As in `queries`, every `where` has the chain (promise 5). The cost is bounded: the conditions on constant parts of
tasks read the narrow rows of `task_texts`, of which a quota limits the number, and counting ends at MAX_COUNTED.
"""

import re
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from longshore.database.connect import Pool
from longshore.database.rows import Page
from longshore.tasks.model import ChainId
from longshore.tasks.reads import Read, decoded

MAX_COUNTED = 1000
"""Matching tasks that are counted; of a list without conditions all are."""

Order = Literal["newest", "oldest", "last", "next"]

ORDERS: dict[Order, str] = {
    "newest": "t.id desc",
    "oldest": "t.id",
    "last": "t.last_run_at desc nulls last, t.id desc",
    "next": "t.due_at, t.id",
}
"""SQL of each order; only tasks that are due later have a place in `next`."""

# `due_at is not null` and the bare order let the index of each order be read from its end on.
LIST = """
with found as materialized (
    select t.id, row_number() over (order by {order}) as place
    from longshore.tasks t
    {join}
    where t.chain_id = $1 and ($2::text is null or t.state = $2) and ($10::bigint is null or t.id = $10) {due}
          {conditions}
    order by {order}
    limit greatest($7::bigint, $8::bigint + $9::bigint + 1)
),
page as (
    select t.id, t.description as desc, t.action, longshore.indexes_of(t.target) as indexes, t.state, t.paused,
           t.last_run_at as last_run, t.due_at as due, t.trigger, t.target, t.reads, t.schedule_ended,
           coalesce(r.rows, 0) as rows, r.rows_expected,
           case when t.state = 'ERROR' then t.reason end as reason, found.place
    from found
    join longshore.tasks t on t.id = found.id
    left join longshore.runs r on r.task_id = t.id and r.run = t.run
    where found.place > $9
    order by found.place
    limit $8
)
select page.*, counted.total
from (select count(*) as total from found) counted
left join page on true
order by page.place
"""

JOIN = "join longshore.task_texts x on x.chain_id = t.chain_id and x.task_id = t.id"

# Without a condition on `task_texts` it is not joined. PostgreSQL estimates how many texts match a pattern of `like`,
# and so chooses between the order of the list and a scan of the texts.
CONDITIONS = """
      and ($3::text is null or x.action = $3)
      and ($4::text is null or $4 = any(x.indexes))
      and ($5::interval is null or x.created_at > now() - $5)
      and ($6::text is null or x.text like lower($6))
"""

UNUSED = "and coalesce($3::text, $4::text, $6::text) is null and $5::interval is null"

SPECIAL, ESCAPED = re.compile(r"[\\%_]"), r"\\\g<0>"
"""The characters with a meaning in a pattern, and what stands for them."""

COUNT = "select tasks from longshore.chain_usage where chain_id = $1"


class ListedTask(msgspec.Struct, frozen=True):
    """A task in a list."""

    id: int
    desc: str
    action: str
    indexes: list[str]
    state: str
    paused: bool
    last_run: datetime | None
    due: datetime | None
    trigger: str
    target: str
    schedule_ended: bool
    rows: int
    rows_expected: int | None
    reason: str | None
    """Why it ended in ERROR; None in other states."""
    reads: list[Read]
    """Export indexes and columns that its runs have read."""

    @property
    def percent(self) -> float | None:
        """Progress of the run; at most 99 while it runs, because the expected rows may be estimated too low."""
        if self.state == "DONE":
            return 100.0
        return min(99.0, 100 * self.rows / self.rows_expected) if self.rows_expected else None


class TaskSearch(msgspec.Struct, frozen=True):
    """A filter for the list of tasks; None matches every value."""

    state: str | None = None
    action: str | None = None
    index: str | None = None
    age: timedelta | None = None
    """Maximum time since the task was created."""
    text: str | None = None
    """Part of the description, of an index or of the result, in any case of letters."""
    task: int | None = None


class TaskList(msgspec.Struct, frozen=True):
    """A page of a list of tasks."""

    rows: list[ListedTask]
    total: int
    """Tasks that match. Above MAX_COUNTED, unless `is_exact`: counted as far as the page after this one begins."""
    is_exact: bool


def statement(conditions: TaskSearch, order: Order) -> str:
    """Return the statement of a list."""
    joined = conditions.action or conditions.index or conditions.age or conditions.text
    return LIST.format(
        order=ORDERS[order],
        join=JOIN if joined else "",
        conditions=CONDITIONS if joined else UNUSED,
        due="and t.due_at is not null" if order == "next" else "",
    )


async def search(pool: Pool, chain: ChainId, conditions: TaskSearch, order: Order, page: Page) -> TaskList:
    """Return a page of a chain's tasks and their number."""
    pattern = None if conditions.text is None else f"%{SPECIAL.sub(ESCAPED, conditions.text)}%"
    wanted = (conditions.state, conditions.action, conditions.index, conditions.age, pattern)
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        # A plan for any conditions would read every task of the chain in the order of the list.
        await connection.execute("set local plan_cache_mode = force_custom_plan")
        found = await connection.fetch(
            statement(conditions, order), chain, *wanted, MAX_COUNTED + 1, page.limit, page.offset, conditions.task
        )
        total = found[0]["total"]
        is_exact = total <= MAX_COUNTED
        if conditions == TaskSearch() and order != "next":
            total, is_exact = await connection.fetchval(COUNT, chain) or 0, True
    return TaskList([_row(**row) for row in found if row["id"] is not None], total, is_exact)


def _row(reads: str, place: int, total: int, **columns: Any) -> ListedTask:  # noqa: ARG001  # of the statement
    return ListedTask(reads=decoded(reads), **columns)
