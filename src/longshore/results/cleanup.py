"""The action `cleanup`: what the service does about results that expire, files that nothing names, and old tasks.

It is a task of the service itself, in chain 0, which no request can create tasks in: it runs by its schedule, and its
state, log and runs are seen in the same API by whoever has a token for that chain.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import structlog

from longshore.access import login
from longshore.database.connect import Pool
from longshore.database.queue_schema import QUEUE_SETTINGS
from longshore.exports import shards
from longshore.results import links
from longshore.results.open import Store
from longshore.results.store import Abandonable, StoreAwayError
from longshore.tasks import lifecycle
from longshore.tasks.lifecycle import Begun, NewTask, Outcome
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.schedule import Schedule

log = structlog.get_logger()

SERVICE = ChainId(0)
"""The chain of the service's own tasks."""
ACTION = "cleanup"
CRON = "*/15 * * * *"
BATCH = 500
SETTLED = 3600.0  # seconds after which a file that nothing names is not just being made

EXPIRED = """
select task_id, run, location from longshore.runs
where expires_at <= now() order by expires_at, task_id, run limit $1 offset $2
"""

FORGET = "update longshore.runs set expires_at = null where task_id = $1 and run = $2"

OLD = """
delete from longshore.tasks
where id in (
    select id from longshore.tasks
    where state in ('DONE', 'ERROR') and modified_at < now() - $1::interval
      and due_at is null and not parked and attempt_began_at is not null and chain_id <> 0
    limit $2
    for update skip locked
)
returning id, chain_id
"""

# The places of a task that are in use: its results, and what its newest attempt is writing.
USED = """
select t.id, case when t.state = 'INPROGRESS' then t.attempt end as writing,
       array(select r.location from longshore.runs r where r.task_id = t.id and r.location is not null) as locations
from longshore.tasks t
where t.id = any($1::bigint[])
"""

# PgQueuer's own record of what its jobs went through; nobody here reads it.
JOURNALS = tuple(
    f"delete from {QUEUE_SETTINGS.db_schema}.{table} where created < now() - interval '1 day'"  # noqa: S608  # constants
    for table in (QUEUE_SETTINGS.queue_table_log, QUEUE_SETTINGS.statistics_table)
)


async def ensure(pool: Pool) -> None:
    """Create the service's task of this action where there is none yet."""
    schedule = Schedule(cron=CRON)
    new = NewTask(
        chain=SERVICE,
        desc="Remove expired results, files that nothing names, and old tasks",
        action=ACTION,
        trigger=msgspec.json.encode(schedule).decode(),
        target=msgspec.json.encode({"action": ACTION}).decode(),
        debug="",
        schedule=schedule,
    )
    if await pool.fetchval("select 1 from longshore.tasks where chain_id = $1 and action = $2", SERVICE, ACTION):
        return
    try:
        async with pool.acquire() as connection, connection.transaction():
            await lifecycle.create(connection, new)
    except asyncpg.UniqueViolationError:
        pass  # another process was faster, or it is there


class Cleanup:
    """Removes what is not needed any more. `task_age`: how long a task is kept after it last changed."""

    def __init__(self, pool: Pool, store: Store, task_age: timedelta) -> None:
        self._pool = pool
        self._store = store
        self._task_age = task_age
        self._refused: Exception | None = None

    async def run(self, begun: Begun) -> Outcome:
        """Run once. Raises what the database and the store raise.

        What cannot be removed does not keep the rest; the first failure is raised at the end.
        """
        del begun  # it says nothing that matters here
        self._refused = None
        results, tasks, files = await self._expire(), await self._remove_old_tasks(), await self._remove_unnamed()
        for statement in (*JOURNALS, links.FORGET, shards.FORGET_ENDED, login.OLD, login.OLD_KNOWN):
            await self._pool.execute(statement)
        if self._refused is not None:
            raise self._refused
        total = results + tasks + files
        return Outcome(
            result="",
            location=None,
            total=total,
            success=total,
            size=0,
            sha256=None,
            snapshot_at=None,
            manifest=None,
            note=f"removed {results} expired results, {tasks} old tasks, {files} files that nothing named",
        )

    async def _expire(self) -> int:
        removed = refused = 0
        while rows := await self._pool.fetch(EXPIRED, BATCH, refused):
            for row in rows:
                if not await self._removes(self._store.remove, row["location"]):
                    refused += 1
                    continue
                await self._pool.execute(FORGET, row["task_id"], row["run"])
                removed += 1
        return removed

    async def _remove_old_tasks(self) -> int:
        removed = 0
        while rows := await self._pool.fetch(OLD, self._task_age, BATCH):
            for row in rows:  # what is left of them if this ends here is found as files that nothing names
                await self._removes(self._store.remove_task, ChainId(row["chain_id"]), TaskId(row["id"]))
            removed += len(rows)
        return removed

    async def _remove_unnamed(self) -> int:
        removed = 0
        before = time.time() - SETTLED
        found = await asyncio.to_thread(self._store.attempts, before)
        for start in range(0, len(found), BATCH):
            some = found[start : start + BATCH]
            used = {row["id"]: row for row in await self._pool.fetch(USED, [place.task for place in some])}
            for place in some:
                if not _is_used(place, used.get(place.task)):
                    removed += await self._removes(self._store.remove_attempt, place)
        return removed

    async def _removes(self, remove: Callable[..., None], *what: Any) -> bool:
        try:
            await asyncio.to_thread(remove, *what)
        except StoreAwayError:
            raise  # the other items would only wait for it too
        except Exception as error:
            log.error("not removed", item=repr(what), exc_info=error)
            self._refused = self._refused or error
            return False
        return True


def _is_used(place: Abandonable, row: asyncpg.Record | None) -> bool:
    if row is None:
        return False
    return place.attempt == row["writing"] or any(location.startswith(place.prefix) for location in row["locations"])
