"""A worker that shuts down: what its grace time bounds, and that what it hands back counts as no failure."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pgqueuer import Job

from longshore.database.connect import Pool, open_pool
from longshore.destinations.kind import OpenDestination
from longshore.results.local import LocalStore
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.deliveries import LOCK_TASK
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import AnyMessage, Consumer, Message, RetryingDriver
from longshore.worker.delivery_runner import DeliveryRunner
from longshore.worker.runner import Runner
from longshore.worker.running_attempts import RunningAttempts, StoppedError
from tests.destinations.folder import FilesFolder
from tests.service import Longshore
from tests.tasks.test_delivery_ends import sent

CHAIN = ChainId(501)
TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values ($1, '', 'wait', '{}', '{}', '') returning id
"""
ENDS = """
select t.state, t.attempt, r.failures from longshore.tasks t join longshore.runs r on r.task_id = t.id where t.id = $1
"""
DELIVERY = "select state, lost_workers, error from longshore.run_deliveries where task_id = $1"


def job(message: AnyMessage) -> Job:
    return Job.model_construct(payload=msgspec.json.encode(message))


async def row(pool: Pool, statement: str, task: TaskId) -> tuple[Any, ...]:
    (found,) = await pool.fetch(statement, task)
    return tuple(found)


async def blocked(pool: Pool) -> None:
    """Wait until a statement waits for a lock."""
    async with asyncio.timeout(10):
        while not await pool.fetchval("select count(*) from pg_locks where not granted"):  # noqa: ASYNC110  # another's
            await asyncio.sleep(0.01)


async def ended_while_locked(pool: Pool, handling: "asyncio.Task[None]", running: RunningAttempts) -> None:
    """End the grace time of an attempt whose next write waits for the lock of its task, which the caller has."""
    await blocked(pool)
    running.stop()
    await asyncio.sleep(0.05)
    assert not handling.done(), "the write goes on"


def test_end_of_a_run_that_is_being_written_when_the_grace_time_ends_is_written(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = TaskId(await pool.fetchval(TASK, CHAIN))
        acted, goes_on = asyncio.Event(), asyncio.Event()

        async def act(_: Attempt) -> RunResult:
            acted.set()
            await goes_on.wait()
            return RunResult()

        runner = Runner(RunningAttempts(pool, 0.0), pool, {"wait": act}, lambda _: timedelta(days=1), _no_shard)
        handling = asyncio.create_task(runner.handle(job(Message(task, 1))))
        await acted.wait()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_TASK, task)
            goes_on.set()
            await ended_while_locked(pool, handling, runner.running)
        await handling
        assert await row(pool, ENDS, task) == ("DONE", 1, 0)

    run(test)


def test_message_that_arrives_after_the_grace_time_is_handed_back_at_once(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = TaskId(await pool.fetchval(TASK, CHAIN))

        async def act(_: Attempt) -> RunResult:
            await asyncio.Event().wait()
            raise AssertionError

        runner = Runner(RunningAttempts(pool, 0.0), pool, {"wait": act}, lambda _: timedelta(days=1), _no_shard)
        runner.running.stop()
        async with asyncio.timeout(10):
            await runner.handle(job(Message(task, 1)))
        assert await row(pool, ENDS, task) == ("INPROGRESS", 2, 0), "it counts as no failure"

    run(test)


async def fails_at_its_end(goes_on: asyncio.Event) -> None:
    try:
        await goes_on.wait()
    finally:
        raise RuntimeError("closing failed")


async def has_an_error_of_its_own(goes_on: asyncio.Event) -> None:
    try:
        await goes_on.wait()
    except asyncio.CancelledError:
        raise RuntimeError("interrupted") from None


async def exits(goes_on: asyncio.Event) -> None:
    try:
        await goes_on.wait()
    except asyncio.CancelledError:
        raise SystemExit(1) from None


async def returns_a_part(goes_on: asyncio.Event) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await goes_on.wait()


WORKS = [fails_at_its_end, has_an_error_of_its_own, exits, returns_a_part]


@pytest.mark.parametrize("work", WORKS)
def test_run_that_the_shutdown_interrupts_is_handed_back_however_its_action_ends(run: Any, work: Any) -> None:
    async def test(pool: Pool) -> None:
        task = TaskId(await pool.fetchval(TASK, CHAIN))
        acted = asyncio.Event()

        async def act(_: Attempt) -> RunResult:
            acted.set()
            await work(asyncio.Event())
            return RunResult()

        runner = Runner(RunningAttempts(pool, 0.0), pool, {"wait": act}, lambda _: timedelta(days=1), _no_shard)
        handling = asyncio.create_task(runner.handle(job(Message(task, 1))))
        await acted.wait()
        runner.running.stop()
        async with asyncio.timeout(10):
            await handling
        assert await row(pool, ENDS, task) == ("INPROGRESS", 2, 0), "it counts as no failure"

    run(test)


@pytest.mark.parametrize("work", WORKS)
def test_run_that_takes_longer_than_its_target_allows_ends_in_error_however_its_action_ends(
    run: Any, work: Any
) -> None:
    async def test(pool: Pool) -> None:
        task = TaskId(await pool.fetchval(TASK, CHAIN))
        await pool.execute("update longshore.tasks set target = '{\"timeout_seconds\": 1}' where id = $1", task)

        async def act(_: Attempt) -> RunResult:
            await work(asyncio.Event())
            return RunResult()

        runner = Runner(RunningAttempts(pool, 0.0), pool, {"wait": act}, lambda _: timedelta(days=1), _no_shard)
        async with asyncio.timeout(10):
            await runner.handle(job(Message(task, 1)))
        assert await row(pool, ENDS, task) == ("ERROR", 1, 0)
        reason = await pool.fetchval("select reason from longshore.tasks where id = $1", task)
        assert reason == "failed: the run took longer than 1 s"

    run(test)


@pytest.mark.parametrize("work", WORKS)
def test_delivery_that_the_shutdown_interrupts_is_due_at_once_however_it_ends(
    run: Any, work: Any, tmp_path: Path
) -> None:
    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "slow")
        opened = asyncio.Event()

        @contextlib.asynccontextmanager
        async def place(_chain: ChainId, _name: str) -> AsyncIterator[OpenDestination]:
            opened.set()
            await work(asyncio.Event())
            yield FilesFolder(tmp_path)

        runner = DeliveryRunner(RunningAttempts(pool, 0.0), pool, place, LocalStore(tmp_path))
        handling = asyncio.create_task(runner.handle(job(message)))
        await opened.wait()
        runner.running.stop()
        async with asyncio.timeout(10):
            await handling
        assert await row(pool, DELIVERY, message.task) == ("pending", 0, "the worker shut down")

    run(test)


def test_work_that_was_cancelled_twice_leaves_no_cancellation_behind(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = TaskId(await pool.fetchval(TASK, CHAIN))
        running = RunningAttempts(pool, 0.0)
        begun = asyncio.Event()

        async def work() -> int:
            current = asyncio.current_task()
            assert current is not None
            with pytest.raises(StoppedError), running.cancellable(Message(task, 1), "the action"):
                begun.set()
                await asyncio.Event().wait()
            return current.cancelling()

        working = asyncio.create_task(work())
        await begun.wait()
        running._cancel_work()
        working.cancel()
        assert await working == 0

    run(test)


def test_delivery_that_is_being_claimed_when_the_grace_time_ends_is_handed_back(run: Any, tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def place(_chain: ChainId, _name: str) -> AsyncIterator[OpenDestination]:
        yield FilesFolder(tmp_path)

    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "slow")
        runner = DeliveryRunner(RunningAttempts(pool, 0.0), pool, place, LocalStore(tmp_path))
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select from longshore.run_deliveries where task_id = $1 for update", message.task)
            handling = asyncio.create_task(runner.handle(job(message)))
            await ended_while_locked(pool, handling, runner.running)
        async with asyncio.timeout(10):
            await handling
        assert await row(pool, DELIVERY, message.task) == ("pending", 0, "the worker shut down")

    run(test)


def test_worker_whose_listener_never_connects_stops_on_request(run: Any) -> None:
    async def test(pool: Pool) -> None:
        nowhere = "postgresql://127.0.0.1:9/none"
        consumer = Consumer(pool, nowhere, Message.entrypoint, _no_shard, 2, timedelta(seconds=15))
        consuming = asyncio.create_task(consumer.run())
        await asyncio.sleep(0.5)
        assert not consuming.done()
        consumer.stop()
        async with asyncio.timeout(10):
            await consuming

    run(test)


async def _no_shard(_: object) -> None:
    raise AssertionError


def test_worker_that_is_stopped_in_the_pause_after_an_outage_claims_nothing(idle_service: Longshore) -> None:
    async def steps() -> None:
        async with open_pool(idle_service.url, size=1, name="test") as pool:
            driver = RetryingDriver(pool, idle_service.url, timedelta(seconds=60))
            assert await driver.fetch("select 1 as one") == [{"one": 1}]
            driver._answered_at = time.monotonic() - 3600
            asyncio.get_running_loop().call_later(0.2, driver.shutdown.set)
            async with asyncio.timeout(10):
                assert await driver.fetch("select 1 as one") == []

    asyncio.run(steps())
