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
from longshore.actions.action import attempt_runner
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
    acting = attempt_runner(Action(Target, act), pool, LocalStore(folder), Vault((), folder, may_use_file=False))
    return Runner(RunningAttempts(pool, 0.0), pool, {"plugged": acting}, lambda _: timedelta(days=1), no_shard)


async def created(pool: Pool) -> tuple[TaskId, Job]:
    task = TaskId(await pool.fetchval(TASK, CHAIN))
    return task, Job.model_construct(payload=msgspec.json.encode(Message(task, 1)))


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_run_whose_action_this_worker_lacks_is_tried_again_by_any_worker(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, job = await created(pool)
        runner = Runner(RunningAttempts(pool, 0.0), pool, {}, lambda _: timedelta(days=1), no_shard)
        await runner.handle(job)
        found = await pool.fetchrow("select state, attempt from longshore.tasks where id = $1", task)
        assert found is not None
        assert tuple(found) == ("INPROGRESS", 2)
        expected_message = [row["msg"] for row in await pool.fetch(LOG, task)]
        assert "no package on this worker has the action 'plugged'; install it on every machine" in expected_message[-1]

    run(test)


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


def test_plugged_action_goes_on_after_a_short_outage_of_the_database(
    idle_service: Longshore, run: Any, tmp_path: Path
) -> None:
    async def test(pool: Pool) -> None:
        async def act(context: Context[Any]) -> None:
            await context.progress(1)
            idle_service.sql(CUT)
            await context.progress(2)
            idle_service.sql(CUT)
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
        message = "attempt 1 failed: ConnectionResetError: Connection reset by peer; the next one begins in 1 s"
        assert log == ["READY -> INPROGRESS", message]

    run(test)


FAILURES = (ValueError("after the result"), asyncio.CancelledError(), KeyboardInterrupt())


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_files_of_an_action_that_fails_after_its_result_are_removed(
    run: Any, tmp_path: Path, error: BaseException
) -> None:
    async def test(pool: Pool) -> None:
        async def act(context: Context[Any]) -> None:
            async with context.result("codes.txt") as file:
                file.write(b"1")
            raise error

        task, job = await created(pool)
        await runner_of(pool, tmp_path, act).handle(job)
        assert await pool.fetchval("select state from longshore.tasks where id = $1", task) == "ERROR"
        assert files_in(tmp_path) == []

    run(test)


def test_files_of_an_action_that_times_out_after_its_result_are_removed(run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        async def act(context: Context[Any]) -> None:
            async with context.result("codes.txt") as file:
                file.write(b"1")
            await asyncio.sleep(60)

        task, job = await created(pool)
        target = '{"action": "plugged", "timeout_seconds": 1}'
        await pool.execute("update longshore.tasks set target = $2 where id = $1", task, target)
        await runner_of(pool, tmp_path, act).handle(job)
        assert await pool.fetchval("select state from longshore.tasks where id = $1", task) == "ERROR"
        assert files_in(tmp_path) == []

    run(test)


async def _second_result(context: Context[Any]) -> None:
    async with context.result("a.txt"):
        pass
    async with context.result("b.txt"):
        pass


async def _nested_result(context: Context[Any]) -> None:
    async with context.result("a.txt"), context.result("b.txt"):
        pass


async def _odd_name(context: Context[Any]) -> None:
    async with context.result("a/b.txt"):
        pass


async def _name_of_a_manifest(context: Context[Any]) -> None:
    async with context.result("x.manifest.json"):
        pass


async def _below_zero(context: Context[Any]) -> None:
    await context.progress(-1)


async def _too_many_expected(context: Context[Any]) -> None:
    await context.progress(1, 2**63)


async def _no_number(context: Context[Any]) -> None:
    await context.progress(float("nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (_second_result, "a run has one result, which is 'a.txt'; 'b.txt' is the second one"),
        (_nested_result, "a run has one result, which is 'a.txt'; 'b.txt' is the second one"),
        (_odd_name, "a result cannot be named 'a/b.txt'; expected 1 to 100 letters, "),
        (_name_of_a_manifest, "a result cannot be named 'x.manifest.json': names that end so are those of manifests"),
        (_below_zero, "progress takes whole numbers from 0 to 2**63 - 1, not -1"),
        (_too_many_expected, "progress takes whole numbers from 0 to 2**63 - 1, not 9223372036854775808"),
        (_no_number, "progress takes whole numbers from 0 to 2**63 - 1, not nan"),
    ],
)
def test_action_that_misuses_its_context_ends_in_error_with_the_reason_and_no_files(
    run: Any, tmp_path: Path, act: Callable[[Context[Any]], Awaitable[None]], reason: str
) -> None:
    async def test(pool: Pool) -> None:
        task, job = await created(pool)
        await runner_of(pool, tmp_path, act).handle(job)
        [_, failed, _] = [row["msg"] for row in await pool.fetch(LOG, task)]
        assert failed.startswith(f"failed: ValueError: {reason}")
        assert files_in(tmp_path) == []

    run(test)


def test_action_may_write_its_result_anew_after_it_caught_an_error_of_the_first(run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        async def act(context: Context[Any]) -> None:
            with pytest.raises(LookupError):
                async with context.result("a.txt"):
                    raise LookupError
            async with context.result("b.txt") as file:
                file.write(b"1")

        task, job = await created(pool)
        await runner_of(pool, tmp_path, act).handle(job)
        assert await pool.fetchval("select state from longshore.tasks where id = $1", task) == "DONE"
        assert files_in(tmp_path) == ["b.txt"]

    run(test)
