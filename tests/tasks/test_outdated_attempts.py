"""Attempts that are outdated while a worker has them: it cancels their work, whenever that happens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pgqueuer import Job, RetryRequested

from longshore.database.connect import Pool
from longshore.destinations.kind import OpenDestination
from longshore.results.local import LocalStore
from longshore.tasks import attempts, cancellation, deliveries, delivery_ends
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import AnyMessage, Message, ShardMessage
from longshore.worker.delivery_runner import DeliveryRunner
from longshore.worker.runner import Runner
from longshore.worker.running_attempts import RunningAttempts
from tests.destinations.folder import FilesFolder
from tests.tasks.test_delivery_ends import sent

CHAIN = ChainId(501)
TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values ($1, '', 'wait', '{}', '{}', '') returning id
"""


def job(message: AnyMessage) -> Job:
    return Job.model_construct(payload=msgspec.json.encode(message))


async def cancel(pool: Pool, task: TaskId) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(deliveries.LOCK_TASK, task)
        await cancellation.cancel(connection, CHAIN, task, "token x")


async def ended(handling: "asyncio.Task[None]") -> None:
    """Wait for the end of the handling of a message, without a cancel, which it would take for a stop."""
    done, _ = await asyncio.wait({handling}, timeout=5)
    assert done, "it goes on"
    await handling


async def hang(*_: object) -> None:
    await asyncio.Event().wait()


async def hanging_action(_: Attempt) -> RunResult:
    await hang()
    raise AssertionError


def test_cancel_between_the_claim_of_an_attempt_and_its_first_step_stops_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(pool: Pool) -> None:
        message = Message(TaskId(await pool.fetchval(TASK, CHAIN)), 1)
        claim = attempts.begin

        async def begin_and_cancel(*args: Any) -> Any:
            begun = await claim(*args)
            await cancel(pool, message.task)
            return begun

        monkeypatch.setattr(attempts, "begin", begin_and_cancel)
        runner = Runner(RunningAttempts(pool, 1.0), pool, {"wait": hanging_action}, lambda _: timedelta(days=1), hang)
        await ended(asyncio.create_task(runner.handle(job(message))))
        assert await pool.fetchval("select state from longshore.tasks where id = $1", message.task) == "ERROR"

    run(test)


def test_shard_of_an_attempt_that_was_cancelled_before_it_begins_is_stopped(run: Any) -> None:
    async def test(pool: Pool) -> None:
        message = Message(TaskId(await pool.fetchval(TASK, CHAIN)), 1)
        assert await attempts.begin(pool, message)
        await cancel(pool, message.task)
        runner = Runner(RunningAttempts(pool, 1.0), pool, {}, lambda _: timedelta(days=1), hang)
        with pytest.raises(RetryRequested):
            await ended(asyncio.create_task(runner.handle_shard(job(ShardMessage(message.task, 1, 0)))))

    run(test)


def test_delivery_whose_worker_counts_as_lost_is_stopped_there_also_before_its_next_attempt(
    run: Any, tmp_path: Path
) -> None:
    opened = asyncio.Event()

    @contextlib.asynccontextmanager
    async def place(_chain: ChainId, _name: str) -> AsyncIterator[OpenDestination]:
        opened.set()
        await hang()
        yield FilesFolder(tmp_path)

    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "slow")
        runner = DeliveryRunner(RunningAttempts(pool, 1.0), pool, place, LocalStore(tmp_path))
        handling = asyncio.create_task(runner.handle(job(message)))
        await opened.wait()
        await asyncio.sleep(0.2)  # the check of its begin is over
        assert await delivery_ends.retry_or_fail_lost(pool, message)
        runner.running.check_all()
        await ended(handling)
        assert (
            await pool.fetchval("select lost_workers from longshore.run_deliveries where task_id = $1", message.task)
            == 1
        )

    run(test)
