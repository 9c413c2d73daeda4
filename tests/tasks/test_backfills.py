"""Backfills: every time of the range has exactly one run, whatever happens to the task and its workers meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from longshore.database.connect import Pool, open_pool
from longshore.database.rows import Page
from longshore.errors import ProblemError
from longshore.tasks import attempts, backfills, pauses, requests, run_ends, scheduler
from longshore.tasks.backfills import BackfillRange, calendar_intervals
from longshore.tasks.model import Interval, TaskId
from longshore.tasks.queue import Message
from longshore.tasks.schedule import Schedule
from tests.service import Longshore
from tests.tasks.test_pauses import paused, resumed
from tests.tasks.test_repeating import CHAIN, DONE, created, new

ROW = "select * from longshore.tasks where id = $1"
RUNS = "select * from longshore.runs where task_id = $1 order by run"
HOURLY = Schedule(cron="0 * * * *")
HALF_HOUR = timedelta(minutes=30)
DAILY = Schedule(once=datetime(2026, 3, 28, 3, tzinfo=UTC), repeat="daily", timezone="Europe/Amsterdam")


def hours(count: int) -> list[datetime]:
    """Return the last so many full hours but two, so that none comes while a test runs."""
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    return [newest - timedelta(hours=number) for number in reversed(range(count))]


async def backfilled(pool: Pool, task: TaskId, times: list[datetime]) -> int:
    """Create a backfill of these times of an hourly task."""
    wanted = BackfillRange(times[0] - HALF_HOUR, times[-1] + HALF_HOUR)
    async with pool.acquire() as connection, connection.transaction():
        made = await backfills.create(connection, task, HOURLY, wanted, "user 7")
    assert made.runs == len(times)
    return made.id


async def tick(pool: Pool) -> None:
    """Take one step of the scheduler."""
    await scheduler.send_all_due(pool)
    await backfills.send_next(pool)
    await scheduler.send_all_due(pool)


async def begun(pool: Pool, task: TaskId) -> attempts.Attempt | None:
    """Begin the attempt of a task whose message has been sent."""
    row = await pool.fetchrow(ROW, task)
    assert row is not None
    if row["parked"] or row["due_at"] is not None or row["attempt_began_at"] is not None:
        return None
    return await attempts.begin(pool, Message(task, row["attempt"]))


async def runs_of(pool: Pool, task: TaskId, backfill: int) -> list[Interval]:
    rows = [row for row in await pool.fetch(RUNS, task) if row["backfill"] == backfill]
    assert all(row["due_at"] == row["interval_end"] for row in rows)
    return [Interval(row["interval_start"], row["interval_end"]) for row in rows]


async def hourly(pool: Pool) -> TaskId:
    """Return an hourly task that has not run yet."""
    return await created(pool, new(once=None, cron="0 * * * *"))


def tiles(times: list[datetime]) -> list[Interval]:
    return [Interval(time - timedelta(hours=1), time) for time in times]


def test_backfill_runs_its_times_oldest_first_and_one_at_a_time(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(4)
        number = await backfilled(pool, task, times)
        due = (await pool.fetchrow(ROW, task))["due_at"]  # type: ignore[index]
        for done in range(4):
            await tick(pool)
            attempt = await begun(pool, task)
            assert attempt is not None
            assert (attempt.due, attempt.interval) == (times[done], tiles(times)[done])
            await tick(pool)
            assert await begun(pool, task) is None, "one at a time"
            await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        await tick(pool)
        assert await begun(pool, task) is None
        assert await runs_of(pool, task, number) == tiles(times)
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert (row["due_at"], row["backfill"], row["covered_until"]) == (due, None, None)

    run(test)


def test_failed_run_does_not_stop_a_backfill(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(3)
        number = await backfilled(pool, task, times)
        for _ in times:
            await tick(pool)
            attempt = await begun(pool, task)
            assert attempt is not None
            await run_ends.fail(pool, attempt.message, "failed: a test")
        [listed], _ = await backfills.of_task(pool, CHAIN, task, Page(10))
        assert (listed.id, listed.state, listed.failed, listed.left) == (number, "DONE", 3, 0)

    run(test)


def test_run_of_the_schedule_that_is_due_goes_before_a_queued_run_of_a_backfill(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(2)
        number = await backfilled(pool, task, times)
        await tick(pool)
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert row["origin"] == "backfill"
        old = Message(task, row["attempt"])
        await pool.execute("update longshore.tasks set next_due_at = now() where id = $1", task)
        await tick(pool)
        assert await attempts.begin(pool, old) is None
        attempt = await begun(pool, task)
        assert attempt is not None
        await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        assert await runs_of(pool, task, number) == []
        await tick(pool)
        attempt = await begun(pool, task)
        assert attempt is not None
        assert attempt.due == times[0]

    run(test)


def test_backfill_waits_while_its_task_is_paused_and_goes_on_afterwards(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(2)
        number = await backfilled(pool, task, times)
        await tick(pool)
        await paused(pool, task)
        await tick(pool)
        assert await begun(pool, task) is None, "the queued run was withdrawn"
        await resumed(pool, task)
        for _ in times:
            await tick(pool)
            attempt = await begun(pool, task)
            assert attempt is not None
            await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        assert await runs_of(pool, task, number) == tiles(times)

    run(test)


def test_ended_backfill_lets_a_run_that_has_begun_finish_and_begins_no_other(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(3)
        first, second = [await backfilled(pool, task, times) for _ in range(2)]
        await tick(pool)
        attempt = await begun(pool, task)
        assert attempt is not None
        for again in (False, True):
            async with pool.acquire() as connection, connection.transaction():
                assert await backfills.end(connection, CHAIN, task, first, "a test") is not again
        (_, ended), _ = await backfills.of_task(pool, CHAIN, task, Page(10))
        assert (ended.state, ended.left) == ("INPROGRESS", 0)
        await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        (_, ended), _ = await backfills.of_task(pool, CHAIN, task, Page(10))
        assert (ended.state, ended.done, ended.left, ended.next) == ("CANCELLED", 1, 0, None)
        await tick(pool)
        assert (await pool.fetchrow(ROW, task))["origin"] == "backfill"  # type: ignore[index]
        async with pool.acquire() as connection, connection.transaction():
            assert await backfills.end(connection, CHAIN, task, second, "a test")
        assert await begun(pool, task) is None, "the queued run was withdrawn"
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert row["due_at"] > datetime.now(UTC)
        assert await runs_of(pool, task, second) == []

    run(test)


def test_backfill_goes_on_after_the_last_time_of_its_schedule(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(3)
        number = await backfilled(pool, task, times)
        over = f'{{"cron":"0 * * * *","until":"{times[-1]:%Y-%m-%dT%H:%M:%SZ}"}}'
        ended = "update longshore.tasks set trigger = $2, due_at = null, attempt_began_at = now() where id = $1"
        await pool.execute(ended, task, over)
        await tick(pool)
        await paused(pool, task)
        await resumed(pool, task)
        for _ in times:
            await tick(pool)
            attempt = await begun(pool, task)
            assert attempt is not None
            await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        assert await runs_of(pool, task, number) == tiles(times)
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert (row["due_at"], row["parked"], row["backfill"]) == (None, False, None)

    run(test)


def test_backfill_runs_the_interval_that_was_recorded_for_a_time(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(3)
        await backfilled(pool, task, [times[1]])
        await tick(pool)
        attempt = await begun(pool, task)
        assert attempt is not None
        await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        await pool.execute(
            "update longshore.runs set interval_start = $2 where task_id = $1", task, times[0] - timedelta(9)
        )
        number = await backfilled(pool, task, times)
        for _ in times:
            await tick(pool)
            attempt = await begun(pool, task)
            assert attempt is not None
            await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
        expected = tiles(times)
        assert await runs_of(pool, task, number) == [
            expected[0], Interval(times[0] - timedelta(9), times[1]), expected[2],
        ]  # fmt: skip

    run(test)


def test_task_has_ten_unfinished_backfills_at_most(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(2)
        for number in range(1, 11):
            assert await backfilled(pool, task, times) == number
        with pytest.raises(ProblemError, match="too-many-backfills"):
            await backfilled(pool, task, times)
        async with pool.acquire() as connection, connection.transaction():
            assert await backfills.end(connection, CHAIN, task, None, "a test")
        assert await backfilled(pool, task, times) == 11

    run(test)


def test_the_newest_hundred_of_the_ended_backfills_are_kept(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task, times = await hourly(pool), hours(2)
        await backfilled(pool, task, times)
        await pool.execute("update longshore.backfills set ended_at = now(), backfill = 1 where task_id = $1", task)
        copies = """
        insert into longshore.backfills (task_id, backfill, range_start, range_end, times, starts, ended_at)
        select task_id, n, range_start, range_end, times, starts, ended_at
        from longshore.backfills, generate_series(2, 120) n where task_id = $1
        """
        await pool.execute(copies, task)
        assert await backfilled(pool, task, times) == 121
        kept = "select min(backfill), count(*) from longshore.backfills where task_id = $1"
        assert tuple(await pool.fetchrow(kept, task)) == (21, 101)  # type: ignore[arg-type]

    run(test)


# The first two often, so that walks get to runs that have begun.
STEPS = 4 * ("tick", "begin") + ("finish", "fail", "lost", "retry", "execute", "pause", "resume", "due", "stale")


@settings(max_examples=25)
@example(steps=["tick", "begin", "retry", "begin", "lost", "begin", "finish"], count=2, second=False)
@example(steps=["tick", "due", "tick", "begin", "pause", "finish", "tick", "execute", "begin"], count=2, second=True)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=30, max_size=60), count=st.integers(1, 5), second=st.booleans())
def test_every_time_of_a_backfill_has_exactly_one_run_whatever_happens(
    idle_service: Longshore, steps: list[str], count: int, second: bool
) -> None:
    async def test() -> None:
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            task, times = await hourly(pool), hours(count)
            try:
                numbers = [await backfilled(pool, task, times) for _ in range(1 + second)]
                await _walked(pool, task, steps)
                await _drained(pool, task)
                for number in numbers:
                    assert await runs_of(pool, task, number) == tiles(times)
                runs = await pool.fetch(RUNS, task)
                order = [row["backfill"] for row in runs if row["backfill"] is not None]
                assert order == sorted(order), "one backfill after the other"
                own = [row for row in runs if row["due_at"] is not None and row["backfill"] is None]
                starts = [None, *(row["interval_end"] for row in own)]
                assert [row["interval_start"] for row in own] == starts[: len(own)], "the schedule tiles time"
            finally:
                await pool.execute("delete from longshore.tasks where id = $1", task)
                await pool.execute("delete from longshore.pgqueuer")

    asyncio.run(test())


async def _walked(pool: Pool, task: TaskId, steps: list[str]) -> None:
    attempt: attempts.Attempt | None = None
    old: list[Message] = []
    for step in steps:
        running = attempt is not None
        match step:
            case "tick":
                await tick(pool)
            case "begin" if not running:
                attempt = await begun(pool, task)
            case "finish" if attempt is not None:
                await run_ends.finish(pool, attempt.message, DONE, timedelta(days=7))
            case "fail" if attempt is not None:
                await run_ends.fail(pool, attempt.message, "failed: a test")
            case "lost" if attempt is not None:
                assert await run_ends.retry_or_fail_lost(pool, attempt.message)
            case "retry" if attempt is not None:
                await attempts.retry(pool, attempt.message, "a test", 0, counts_as_failure=False)
            case "stale":
                for message in old:
                    assert await attempts.begin(pool, message) is None
            case "due":
                due = "update longshore.tasks set due_at = now() where id = $1 and due_at is not null"
                await pool.execute(due, task)
                await pool.execute(
                    "update longshore.tasks set next_due_at = now() where id = $1 and due_at is null", task
                )
            case "execute" | "pause" | "resume":
                await _asked(pool, task, step)
        if running and step in ("finish", "fail", "lost", "retry"):
            assert attempt is not None
            old.append(attempt.message)
            attempt = None
        active = "select count(*) from longshore.runs where task_id = $1 and state = 'INPROGRESS'"
        assert await pool.fetchval(active, task) <= 1


async def _asked(pool: Pool, task: TaskId, step: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from longshore.tasks where id = $1 for update", task)
        if step == "pause":
            await pauses.pause(connection, CHAIN, task, await requests.editable(connection, CHAIN, task), "a test")
        elif step == "resume":
            await pauses.resume(connection, task, await requests.editable(connection, CHAIN, task), "a test", None)
        elif await connection.fetchval("select state <> 'INPROGRESS' from longshore.tasks where id = $1", task):
            await requests.execute(connection, CHAIN, task, "user 7")


async def _drained(pool: Pool, task: TaskId) -> None:
    """Resume the task and play runs until its backfills have ended."""
    await _asked(pool, task, "resume")
    for _ in range(100):
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        if row["state"] == "INPROGRESS" and row["attempt_began_at"] is not None:
            await run_ends.finish(pool, Message(task, row["attempt"]), DONE, timedelta(days=7))
        elif row["backfill"] is None and row["due_at"] is not None:
            return
        await tick(pool)
        await begun(pool, task)
    raise AssertionError("the backfills do not end")


def test_calendar_reaches_back_before_once_and_follows_the_clock_of_its_zone() -> None:
    found = calendar_intervals(DAILY, datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC), 100)
    assert [each.end for each in found] == [
        datetime(2026, 3, day, hour, tzinfo=UTC) for day, hour in ((27, 3), (28, 3), (29, 2), (30, 2))
    ]
    assert found[0].start == datetime(2026, 3, 26, 3, tzinfo=UTC)
    assert [each.start for each in found[1:]] == [each.end for each in found[:-1]]


def test_range_of_a_backfill_is_open_at_its_start_and_closed_at_its_end() -> None:
    time = datetime(2026, 5, 26, 3, tzinfo=UTC)
    hour = timedelta(hours=1)
    assert [each.end for each in calendar_intervals(HOURLY, time, time + 2 * hour, 10)] == [
        time + hour,
        time + 2 * hour,
    ]
    assert calendar_intervals(HOURLY, time, time + hour - timedelta(seconds=1), 10) == []
