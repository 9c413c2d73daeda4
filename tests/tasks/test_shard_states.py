"""The states of shards, as statements change them."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from longshore.database.connect import Pool
from longshore.exports import catalog
from longshore.exports.shards import shard_rows
from longshore.exports.shards.shard_rows import ShardTrial
from longshore.exports.shards.worker import ShardWorker
from longshore.exports.written_rows import WrittenRows
from longshore.results.local import LocalStore
from longshore.tasks import attempts
from longshore.tasks.attempts import StaleAttemptError
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message, ShardMessage
from tests.tasks.test_outdated_attempts import TASK

CHAIN = ChainId(502)
SILENCE = timedelta(minutes=1)
RESULT = WrittenRows()


async def cut(pool: Pool, shards: int) -> Message:
    """Return an attempt that was cut into shards."""
    message = Message(TaskId(await pool.fetchval(TASK, CHAIN)), 1)
    assert await attempts.begin(pool, message)
    await shard_rows.create_shards(pool, message, ["{}"] * shards)
    return message


async def begun(pool: Pool, message: Message, number: int) -> ShardTrial:
    trial = await shard_rows.begin(pool, ShardMessage(message.task, message.attempt, number), uuid4())
    assert trial is not None
    return trial


def test_the_release_of_a_shard_whose_answer_was_lost_may_be_sent_again_and_counts_once(run: Any) -> None:
    async def test(pool: Pool) -> None:
        message = await cut(pool, 1)
        trial = await begun(pool, message, 0)
        for _ in range(2):
            await shard_rows.release(pool, trial, "no room", failed=True, transient=True)
        rows = await pool.fetch("select state, failures from longshore.shards where task_id = $1", message.task)
        assert [tuple(row) for row in rows] == [("WAITING", 1)]
        with pytest.raises(StaleAttemptError):
            await shard_rows.release(pool, trial, "another reason", failed=True, transient=True)
        await begun(pool, message, 0)
        with pytest.raises(StaleAttemptError):
            await shard_rows.release(pool, trial, "no room", failed=True, transient=True)

    run(test)


def test_a_look_at_the_shards_fetches_the_result_of_the_next_one_alone(run: Any) -> None:
    async def test(pool: Pool) -> None:
        message = await cut(pool, 3)
        for number in (1, 2):
            await shard_rows.finish(pool, await begun(pool, message, number), RESULT)
        results = {assembled: await shard_rows.current(pool, message, assembled, SILENCE) for assembled in (0, 1, 2)}
        found = {assembled: [bool(shard.result) for shard in shards] for assembled, shards in results.items()}
        assert found == {0: [False] * 3, 1: [False, True, False], 2: [False, False, True]}

    run(test)


def test_shard_that_the_shutdown_interrupts_counts_as_no_failure_though_closing_it_fails(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(pool: Pool) -> None:
        begun = asyncio.Event()

        async def write(*_: Any) -> WrittenRows:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                raise OSError("closing failed")

        monkeypatch.setattr(ShardWorker, "_write", write)
        message = await cut(pool, 1)
        unused: Any = None
        worker = ShardWorker(pool, unused, catalog.load(), LocalStore(tmp_path), 0)
        working = asyncio.create_task(worker.run(ShardMessage(message.task, message.attempt, 0)))
        await begun.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        rows = await pool.fetch("select state, failures, reason from longshore.shards")
        assert [tuple(row) for row in rows] == [("WAITING", 0, "its worker was stopped")]

    run(test)
