"""The action `cleanup`: removes expired results, files without a task, and old tasks.

It is a task of the service itself, in chain 0, in which no request can create tasks. It runs by its schedule; a token
for that chain shows its state, log and runs in the same API.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import msgspec
import structlog

from longshore.access import sign_in
from longshore.database.connect import Pool
from longshore.database.queue_schema import QUEUE_SETTINGS
from longshore.database.retry import is_transient
from longshore.exports.shards import shard_rows
from longshore.results import links
from longshore.results.store import ALL_ATTEMPTS, AttemptFiles, Store, StoreUnavailableError
from longshore.tasks import requests, retention
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.model import ChainId
from longshore.tasks.requests import NewTask
from longshore.tasks.retention import ExpiredResult, StoredFiles
from longshore.tasks.schedule import Schedule

log = structlog.get_logger()

T = TypeVar("T")

SERVICE = ChainId(0)
"""The chain of the service's own tasks."""
ACTION = "cleanup"
CRON = "*/15 * * * *"
BATCH_SIZE = 500
MIN_FILE_AGE_SECONDS = 3600.0  # younger files without a task may be of a run that has just begun

# PgQueuer's log of its jobs, which Longshore does not read.
JOURNALS = tuple(
    f"delete from {QUEUE_SETTINGS.db_schema}.{table} where created < now() - interval '1 day'"
    for table in (QUEUE_SETTINGS.queue_table_log, QUEUE_SETTINGS.statistics_table)
)

DELETIONS = (
    *JOURNALS,
    links.DELETE_EXPIRED,
    shard_rows.DELETE_ENDED,
    sign_in.DELETE_OLD_FAILURES,
    sign_in.DELETE_OLD_KNOWN,
)


async def ensure_cleanup_task(pool: Pool) -> None:
    """Create the cleanup task if it does not exist."""
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
            await requests.create(connection, new)
    except asyncpg.UniqueViolationError:
        pass  # another process has created it


class Cleanup:
    """The action. `task_age`: time that an ended task is kept after its last change."""

    def __init__(self, pool: Pool, store: Store, task_age: timedelta) -> None:
        self._pool = pool
        self._store = store
        self._task_age = task_age
        self._error: Exception | None = None

    async def run(self, attempt: Attempt) -> RunResult:
        """Run once. An item or step that fails does not stop the others; its error is raised at the end.

        Transient errors of the database are raised at once, those of the store end the step and are raised at the end.
        """
        del attempt  # the action is the same for each attempt
        self._error = None
        results, tasks, files = [
            await self._isolated(self._step, step) or 0
            for step in (self._expire, self._remove_old_tasks, self._remove_unnamed)
        ]
        for statement in DELETIONS:
            await self._isolated(self._pool.execute, statement)
        if self._error is not None:
            raise self._error
        total = results + tasks + files
        return RunResult(
            total=total,
            success=total,
            note=f"removed {results} expired results, {tasks} old tasks, {files} files that nothing named",
        )

    async def _expire(self) -> int:
        removed = failed = 0
        while found := await retention.expired_results(self._pool, links.MAX_SECONDS, BATCH_SIZE, failed):
            for result in found:
                if await self._isolated(self._remove_result, result):
                    removed += 1
                else:
                    failed += 1
        return removed

    async def _remove_result(self, result: ExpiredResult) -> bool:
        await asyncio.to_thread(self._store.remove, result.location)
        await retention.forget_result(self._pool, result)
        return True

    async def _remove_old_tasks(self) -> int:
        removed = failed = 0
        while found := await retention.old_tasks(self._pool, self._task_age, BATCH_SIZE, failed):
            deleted = [
                task for task in found if await self._isolated(retention.delete_old, self._pool, self._task_age, task)
            ]
            removed += len(deleted)
            failed += len(found) - len(deleted)
            for task in deleted:  # a later cleanup finds files that are left by this one
                await self._isolated(asyncio.to_thread, self._store.remove_task, task.chain, task.id)
        return removed

    async def _remove_unnamed(self) -> int:
        removed = 0
        before = time.time() - MIN_FILE_AGE_SECONDS
        found = await asyncio.to_thread(self._store.attempts, before)
        for start in range(0, len(found), BATCH_SIZE):
            some = found[start : start + BATCH_SIZE]
            used = await retention.files_in_use(self._pool, [_stored(files) for files in some])
            for files in some:
                if _stored(files) not in used:
                    removed += bool(await self._isolated(self._remove_files, files))
        return removed

    async def _remove_files(self, files: AttemptFiles) -> bool:
        await asyncio.to_thread(self._store.remove_attempt, files)
        return True

    async def _step(self, step: Callable[[], Awaitable[int]]) -> int:
        """Return the number of things that a step has removed; 0 where it ended because the store is out of reach."""
        try:
            return await step()
        except StoreUnavailableError as error:
            log.warning("cleanup cannot reach the store", step=step.__name__, error=str(error))
            self._error = error  # rather than a permanent one, so that the run is retried
            return 0

    async def _isolated(self, step: Callable[..., Awaitable[T]], *item: Any) -> T | None:
        """Return the result for an item, or None if it failed; the error is logged and raised at the end of the run.

        Errors that the other items would meet too are raised at once: those of an outage of the database or the store.
        """
        try:
            return await step(*item)
        except Exception as error:
            if isinstance(error, StoreUnavailableError) or is_transient(error):
                raise
            log.error("not cleaned up", step=getattr(step, "__name__", ""), item=repr(item), exc_info=error)
            self._error = self._error or error
            return None


def _stored(files: AttemptFiles) -> StoredFiles:
    return StoredFiles(files.task, None if files.attempt == ALL_ATTEMPTS else files.attempt, files.prefix)
