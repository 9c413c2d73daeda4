"""Backfills that change while another transaction waits for the lock of their task."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from longshore.database.connect import Connection, Pool
from longshore.tasks import attempts, backfills, run_ends
from longshore.tasks.backfills import BackfillRange
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message
from tests.tasks.test_backfills import HALF_HOUR, HOURLY, ROW, backfilled, begun, hourly, hours, runs_of, tick, tiles
from tests.tasks.test_repeating import CHAIN, DONE

BLOCKED = "select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"


async def meanwhile(
    pool: Pool, task: TaskId, waiting: Callable[[], Awaitable[Any]], change: Callable[[Connection], Awaitable[Any]]
) -> Any:
    """Change a locked task after `waiting` has begun to wait for its lock; return the result of `waiting`."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("select from longshore.tasks where id = $1 for update", task)
            waits = asyncio.ensure_future(waiting())
            async with asyncio.timeout(10):
                while not await connection.fetchval(BLOCKED):  # noqa: ASYNC110 (PostgreSQL has no event for it)
                    await asyncio.sleep(0.01)
            await change(connection)
        return await waits


async def queued(pool: Pool, task: TaskId) -> Message:
    """Queue the next run of a backfill and return its message."""
    await tick(pool)
    row = await pool.fetchrow(ROW, task)
    assert row is not None
    assert (row["origin"], row["parked"], row["attempt_began_at"]) == ("backfill", False, None)
    return Message(task, row["attempt"])


@pytest.mark.parametrize("count", [1, 2])
def test_backfill_that_is_created_while_a_run_of_another_one_begins_runs_after_it(run: Any, count: int) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(2)
        first = await backfilled(pool, task, times[:count])
        message = await queued(pool, task)

        async def create(connection: Connection) -> None:
            wanted = BackfillRange(times[0] - HALF_HOUR, times[-1] + HALF_HOUR)
            await backfills.create(connection, task, HOURLY, wanted, "user 7")

        attempt = await meanwhile(pool, task, lambda: attempts.begin(pool, message), create)
        while attempt is not None:
            await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
            await tick(pool)
            attempt = await begun(pool, task)
        assert await runs_of(pool, task, first) == tiles(times[:count])
        assert await runs_of(pool, task, first + 1) == tiles(times)
        assert (await pool.fetchrow(ROW, task))["backfill"] is None  # type: ignore[index]

    run(test)


def test_backfill_that_is_ended_while_a_run_of_another_one_begins_does_not_run(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(2)
        await backfilled(pool, task, times[:1])
        second = await backfilled(pool, task, times)
        message = await queued(pool, task)
        attempt = await meanwhile(
            pool,
            task,
            lambda: attempts.begin(pool, message),
            lambda connection: backfills.end(connection, CHAIN, task, second, "a test"),
        )
        assert attempt is not None
        await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        await tick(pool)
        assert await begun(pool, task) is None
        assert await runs_of(pool, task, second) == []
        assert (await pool.fetchrow(ROW, task))["backfill"] is None  # type: ignore[index]

    run(test)


def test_scheduler_that_waits_while_a_run_of_a_backfill_begins_and_ends_queues_the_one_after_it(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(2)
        await backfilled(pool, task, times)

        async def begin_and_end(connection: Connection) -> None:
            await connection.execute("update longshore.backfills set begun = begun + 1 where task_id = $1", task)
            await connection.execute("update longshore.tasks set attempt = attempt + 1 where id = $1", task)

        await meanwhile(pool, task, lambda: backfills.send_next(pool), begin_and_end)
        attempt = await begun(pool, task)
        assert attempt is not None
        assert attempt.interval == tiles(times)[1]

    run(test)
