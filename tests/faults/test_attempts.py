"""Only the newest attempt of a task has a say, and each step of its life is taken once (promises 1 and 2)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from longshore.database.connect import Pool
from longshore.database.retry import MAX_FAILURES
from longshore.errors import ProblemError
from longshore.tasks import attempts, run_ends
from longshore.tasks.attempts import RunResult, StaleAttemptError
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message
from tests.faults.attempts import created, executed, with_pool
from tests.service import Longshore

OUTCOME = RunResult(
    result="Wallet_Export-1.csv",
    location="",
    total=3,
    success=3,
    size=30,
    sha256=bytes(32),
    snapshot_at=datetime(2026, 5, 26, 12, tzinfo=UTC),
    manifest="{}",
)

STEPS: dict[str, Callable[[Pool, Message], Awaitable[None]]] = {
    "report": lambda pool, message: attempts.report(pool, message, 1, 10, 3, exact=True),
    "finish": lambda pool, message: run_ends.finish(pool, message, outcome(message), timedelta(days=7)),
    "retry": lambda pool, message: attempts.retry(pool, message, "failed: a test", 0, counts_as_failure=True),
    "fail": lambda pool, message: run_ends.fail(pool, message, "failed: a test"),
}


def outcome(message: Message) -> RunResult:
    location = f"1764/{message.task}/{message.attempt}/Wallet_Export-{message.task}.csv"
    return msgspec.structs.replace(OUTCOME, location=location)


async def everything(pool: Pool, task: TaskId) -> list[object]:
    """All that the service keeps of a task."""
    statements = (
        "select t::text from longshore.tasks t where id = $1",
        "select r::text from longshore.runs r where task_id = $1 order by run",
        "select l::text from longshore.task_logs l where task_id = $1 order by seq",
        "select dedupe_key from longshore.pgqueuer where dedupe_key like $1 || ':%' order by 1",
    )
    return [await pool.fetch(sql, str(task) if "dedupe" in sql else task) for sql in statements]


async def log(pool: Pool, task: TaskId) -> list[str]:
    return [
        r["msg"] for r in await pool.fetch("select msg from longshore.task_logs where task_id = $1 order by seq", task)
    ]


@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_that_is_not_the_newest_changes_nothing(by_hand: Longshore, step: str) -> None:
    async def run(pool: Pool) -> None:
        old = await created(pool)
        assert await attempts.begin(pool, old)
        assert await run_ends.retry_or_fail_lost(pool, old)
        before = await everything(pool, old.task)
        with pytest.raises(StaleAttemptError):
            await STEPS[step](pool, old)
        assert await everything(pool, old.task) == before
        assert await attempts.begin(pool, Message(old.task, 2))  # nor when the new one runs
        before = await everything(pool, old.task)
        with pytest.raises(StaleAttemptError):
            await STEPS[step](pool, old)
        assert await attempts.begin(pool, old) is None
        assert not await run_ends.retry_or_fail_lost(pool, old)
        assert await everything(pool, old.task) == before

    with_pool(by_hand, run)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("end", ["finish", "fail"])
def test_an_attempt_that_has_ended_changes_nothing(by_hand: Longshore, end: str, step: str) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        assert await attempts.begin(pool, message)
        await STEPS[end](pool, message)
        before = await everything(pool, message.task)
        with pytest.raises(StaleAttemptError):
            await STEPS[step](pool, message)
        assert await attempts.begin(pool, message) is None
        assert not await run_ends.retry_or_fail_lost(pool, message)
        assert await everything(pool, message.task) == before

    with_pool(by_hand, run)


@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_that_has_not_begun_changes_nothing(by_hand: Longshore, step: str) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        before = await everything(pool, message.task)
        with pytest.raises(StaleAttemptError):
            await STEPS[step](pool, message)
        assert not await run_ends.retry_or_fail_lost(pool, message)
        assert await everything(pool, message.task) == before

    with_pool(by_hand, run)


def test_of_many_workers_with_one_message_one_begins(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        begun = await asyncio.gather(*(attempts.begin(pool, message) for _ in range(20)))
        assert sum(one is not None for one in begun) == 1
        assert await log(pool, message.task) == ["READY -> INPROGRESS"]

    with_pool(by_hand, run)


def test_an_attempt_begins_once_for_a_worker_whose_first_answer_was_lost_too(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message, worker, other = await created(pool), uuid4(), uuid4()
        first, again = await attempts.begin(pool, message, worker), await attempts.begin(pool, message, worker)
        assert first is not None
        assert first == again
        assert await attempts.begin(pool, message, other) is None
        assert await log(pool, message.task) == ["READY -> INPROGRESS"]

    with_pool(by_hand, run)


def test_run_without_progress_counts_as_silent_although_its_worker_lives(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        await attempts.begin(pool, message)
        silent_since = []
        for rows in (5, 5, 6):
            await attempts.report(pool, message, rows, 10 * rows, 100, exact=True)
            silent_since.append(await pool.fetchval("select progress_at from longshore.runs"))
        assert silent_since[0] == silent_since[1] < silent_since[2]

    with_pool(by_hand, run)


def test_of_many_ends_of_one_attempt_one_counts(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        assert await attempts.begin(pool, message)
        steps = [STEPS[name](pool, message) for _ in range(5) for name in ("finish", "fail", "retry")]
        ends = await asyncio.gather(*steps, return_exceptions=True)
        assert sum(end is None for end in ends) == 1
        assert {type(end) for end in ends if end is not None} == {StaleAttemptError}
        assert sum("->" in msg for msg in await log(pool, message.task)) <= 2

    with_pool(by_hand, run)


def test_lost_attempt_is_recovered_once(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        assert await attempts.begin(pool, message)
        found = await asyncio.gather(
            *(run_ends.retry_or_fail_lost(pool, message) for _ in range(10)), return_exceptions=True
        )
        assert found.count(True) == 1
        assert len(await log(pool, message.task)) == 2

    with_pool(by_hand, run)


def test_a_task_that_runs_cannot_be_executed(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        assert await attempts.begin(pool, message)
        before = await everything(pool, message.task)
        with pytest.raises(ProblemError, match="task-running"):
            await executed(pool, message.task)
        assert await everything(pool, message.task) == before

    with_pool(by_hand, run)


def test_a_task_executed_many_times_at_once_runs_once(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        first = await created(pool)
        asked = await asyncio.gather(*(executed(pool, first.task) for _ in range(8)))
        begun = await asyncio.gather(*(attempts.begin(pool, message) for message in [first, *asked]))
        assert [one.run for one in begun if one is not None] == [1]
        assert await log(pool, first.task) == ["run requested by the service", "READY -> INPROGRESS"]

    with_pool(by_hand, run)


def test_a_done_task_executed_again_has_a_second_run(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        first = await created(pool)
        assert await attempts.begin(pool, first)
        await run_ends.finish(pool, first, outcome(first), timedelta(days=7))
        again = await executed(pool, first.task)
        begun = await attempts.begin(pool, again)
        assert begun is not None
        assert (begun.run, begun.number) == (2, 1)
        assert (await log(pool, first.task))[2:] == [
            "INPROGRESS -> DONE",
            "run requested by the service",
            "DONE -> INPROGRESS",
        ]
        assert await pool.fetchval("select result from longshore.tasks where id = $1", first.task) == ""

    with_pool(by_hand, run)


def test_last_modified_never_goes_back(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        ahead = await pool.fetchval(  # as if the server's clock had been set back by an hour
            "update longshore.tasks set modified_at = now() + interval '1 hour' where id = $1 returning modified_at",
            message.task,
        )
        assert await attempts.begin(pool, message)
        await attempts.retry(pool, message, "failed: a test", 0, counts_as_failure=True)
        assert await attempts.begin(pool, Message(message.task, 2))
        await run_ends.finish(pool, Message(message.task, 2), outcome(message), timedelta(days=7))
        row = await pool.fetchrow("select modified_at, last_run_at from longshore.tasks where id = $1", message.task)
        assert row is not None
        assert row["modified_at"] >= ahead
        times = await pool.fetch("select at from longshore.task_logs where task_id = $1 order by seq", message.task)
        assert [row["at"] for row in times] == sorted(row["at"] for row in times)
        assert ahead - times[0]["at"] <= timedelta(0)

    with_pool(by_hand, run)


def test_attempts_that_a_worker_handed_back_do_not_count_as_failures(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        task = (await created(pool)).task
        for attempt in range(1, 10):
            assert await attempts.begin(pool, Message(task, attempt))
            await attempts.retry(pool, Message(task, attempt), "interrupted", 0, counts_as_failure=False)
        begun = await attempts.begin(pool, Message(task, 10))
        assert begun is not None
        assert (begun.number, begun.failures) == (10, 0)

    with_pool(by_hand, run)


def test_task_that_loses_each_of_its_workers_ends_in_error(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        task = (await created(pool)).task
        for attempt in range(1, MAX_FAILURES + 1):
            assert await attempts.begin(pool, Message(task, attempt))
            assert await run_ends.retry_or_fail_lost(pool, Message(task, attempt))
        assert await pool.fetchval("select state from longshore.tasks where id = $1", task) == "ERROR"
        assert (await log(pool, task))[-2:] == [
            f"worker lost, given up after {MAX_FAILURES} failures",
            "INPROGRESS -> ERROR",
        ]

    with_pool(by_hand, run)
