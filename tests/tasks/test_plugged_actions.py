"""Actions of other packages under the worker's hand: they are told of a cancel, and survive a short outage."""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pgqueuer import Job

from longshore.actions import Action, Context, Target
from longshore.actions.action import plugged
from longshore.database.connect import Pool
from longshore.results.local import LocalStore
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message
from longshore.vault import Vault
from longshore.worker.runner import Runner
from longshore.worker.running_attempts import RunningAttempts
from tests.service import Longshore

CHAIN = ChainId(501)
TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values ($1, '', 'plugged', '{}', '{"action": "plugged"}', '') returning id
"""
CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name = 'test' and pid <> pg_backend_pid()
"""
LOG = "select msg from longshore.task_logs where task_id = $1 order by seq"


async def no_shard(_: object) -> None:
    raise AssertionError


def runner_of(pool: Pool, folder: Path, act: Callable[[Context[Any]], Awaitable[None]]) -> Runner:
    acting = plugged(Action(Target, act), pool, LocalStore(folder), Vault((), folder, may_use_file=False))
    return Runner(RunningAttempts(pool, 0.0), pool, {"plugged": acting}, lambda _: timedelta(days=1), no_shard)


async def created(pool: Pool) -> tuple[TaskId, Job]:
    task = TaskId(await pool.fetchval(TASK, CHAIN))
    return task, Job.model_construct(payload=msgspec.json.encode(Message(task, 1)))


def test_thread_sees_that_its_run_is_cancelled_while_the_coroutine_waits_for_its_end(run: Any, tmp_path: Path) -> None:
    seen: list[bool] = []

    async def test(pool: Pool) -> None:
        begun = asyncio.Event()

        async def act(context: Context[Any]) -> None:
            def work() -> None:
                deadline = time.monotonic() + 5
                while not context.cancelled and time.monotonic() < deadline:
                    time.sleep(0.01)
                seen.append(context.cancelled)

            with ThreadPoolExecutor(1) as thread:
                working = asyncio.get_running_loop().run_in_executor(thread, work)
                begun.set()
                try:
                    await asyncio.shield(working)
                finally:
                    await working

        task, job = await created(pool)
        runner = runner_of(pool, tmp_path, act)
        handling = asyncio.create_task(runner.handle(job))
        await begun.wait()
        runner.running.stop()
        await handling
        assert await pool.fetchval("select attempt from longshore.tasks where id = $1", task) == 2

    run(test)
    assert seen == [True]


def test_plugged_action_goes_on_after_a_short_outage_of_the_database(idle: Longshore, run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        async def act(context: Context[Any]) -> None:
            await context.progress(1)
            idle.sql(CUT)
            await context.progress(2)
            idle.sql(CUT)
            await context.log("half of it")
            await context.progress(3)

        task, job = await created(pool)
        await runner_of(pool, tmp_path, act).handle(job)
        log = [row["msg"] for row in await pool.fetch(LOG, task)]
        assert log == ["READY -> INPROGRESS", "half of it", "success", "INPROGRESS -> DONE"]

    run(test)


def test_progress_takes_the_integers_of_other_libraries(run: Any, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")

    async def test(pool: Pool) -> None:
        async def act(context: Context[Any]) -> None:
            await context.progress(numpy.int64(3))

        task, job = await created(pool)
        await runner_of(pool, tmp_path, act).handle(job)
        assert await pool.fetchval("select state from longshore.tasks where id = $1", task) == "DONE"

    run(test)


def test_result_may_be_named_by_a_subclass_of_str(run: Any, tmp_path: Path) -> None:
    class Name(str):
        __slots__ = ()

    async def test(pool: Pool) -> None:
        async def act(context: Context[Any]) -> None:
            async with context.result(Name("a.csv")) as file:
                file.write(b"a\n")

        task, job = await created(pool)
        await runner_of(pool, tmp_path, act).handle(job)
        assert await pool.fetchval("select result from longshore.tasks where id = $1", task) == "a.csv"

    run(test)


def test_connection_that_a_plugged_action_lost_is_not_called_that_of_the_source(run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        async def act(_: Context[Any]) -> None:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

        task, job = await created(pool)
        await runner_of(pool, tmp_path, act).handle(job)
        log = [row["msg"] for row in await pool.fetch(LOG, task)]
        said = "attempt 1 failed: ConnectionResetError: Connection reset by peer; the next one begins in 1 s"
        assert log == ["READY -> INPROGRESS", said]

    run(test)
