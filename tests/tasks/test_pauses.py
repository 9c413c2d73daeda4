"""Pause and resume of a schedule."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.database.connect import Pool
from longshore.tasks import attempts, pauses, requests, run_ends, scheduler
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message
from tests.answers import problem, violations
from tests.run_steps import play
from tests.service import Longshore, export_body
from tests.tasks.test_repeating import CHAIN, DONE, created, new, ran
from tests.waiting import until

ROW = "select state, due_at, parked, paused, attempt, run, revision from longshore.tasks where id = $1"
LATE = "update longshore.tasks set due_at = now() - $2::interval where id = $1"
FAR = "2126-05-26T12:00:00Z"
HTTP_CHAIN = 8811


async def paused(pool: Pool, task: TaskId) -> None:
    async with pool.acquire() as connection, connection.transaction():
        locked = await requests.editable(connection, CHAIN, task)
        assert await pauses.pause(connection, CHAIN, task, locked, "a test")


async def resumed(pool: Pool, task: TaskId, catch_up: pauses.CatchUp | None = None) -> None:
    async with pool.acquire() as connection, connection.transaction():
        locked = await requests.editable(connection, CHAIN, task)
        assert await pauses.resume(connection, task, locked, "a test", catch_up)


async def missed(pool: Pool, days: int, catch_up: str) -> TaskId:
    """Return a paused daily task that has run once and has missed the times of so many days."""
    task = await created(pool, new(repeat="daily", catch_up=catch_up))
    await ran(pool, task)
    await paused(pool, task)
    due: datetime = (await pool.fetchrow(ROW, task))["due_at"]  # type: ignore[index]
    await pool.execute("update longshore.tasks set due_at = $2 where id = $1", task, due - timedelta(days=days))
    return task


async def caught_up(pool: Pool, task: TaskId) -> int:
    """Play the runs of a task until none is due; return their number."""
    runs = 0
    while await scheduler.send_due(pool, []):
        if (await pool.fetchrow(ROW, task))["due_at"] is None:  # type: ignore[index]
            await ran(pool, task)
            runs += 1
    return runs


def test_paused_schedule_begins_no_run_and_keeps_its_due_time(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await missed(pool, 3, "one")
        assert await scheduler.send_due(pool, []) == 0
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert row["paused"]
        assert row["due_at"] is not None
        assert not row["parked"]

    run(test)


def test_due_task_that_is_locked_does_not_keep_the_scheduler_busy(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await missed(pool, 3, "one")
        await pool.execute("update longshore.tasks set paused = false where id = $1", task)
        async with pool.acquire() as other, other.transaction():
            await other.execute("select from longshore.tasks where id = $1 for update", task)
            await scheduler.send_all_due(pool)
            assert await scheduler._until_next(pool) == scheduler.TICK_SECONDS

    run(test)


def test_paused_task_does_not_keep_the_scheduler_busy(run: Any) -> None:
    async def test(pool: Pool) -> None:
        await missed(pool, 3, "one")
        assert await scheduler._until_next(pool) == scheduler.TICK_SECONDS

    run(test)


@pytest.mark.parametrize(
    ("of_trigger", "of_resume", "runs"),
    [("one", None, 1), ("all", None, 3), ("none", None, 0),
     ("one", "all", 3), ("one", "none", 0), ("all", "one", 1), ("none", "all", 3)],
)  # fmt: skip
def test_resume_treats_missed_runs_by_its_catch_up_or_else_by_that_of_the_trigger(
    run: Any, of_trigger: str, of_resume: pauses.CatchUp | None, runs: int
) -> None:
    async def test(pool: Pool) -> None:
        task = await missed(pool, 3, of_trigger)
        await resumed(pool, task, of_resume)
        assert await caught_up(pool, task) == runs
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert row["due_at"] > await pool.fetchval("select now()")

    run(test)


def test_catch_up_of_a_resume_holds_for_times_before_it_alone(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await missed(pool, 3, "one")
        await resumed(pool, task, "none")
        await scheduler.send_due(pool, [])
        await pool.execute("update longshore.tasks set resumed_at = now() - interval '2 days' where id = $1", task)
        await pool.execute(LATE, task, timedelta(days=1))
        assert await caught_up(pool, task) == 1

    run(test)


def test_run_that_has_begun_ends_as_usual_while_its_schedule_is_paused(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        begun = await attempts.begin(pool, Message(task, 1))
        assert begun is not None
        await paused(pool, task)
        await attempts.retry(pool, begun.message, "once more", 0, counts_as_failure=True)
        again = await attempts.begin(pool, Message(task, 2))
        assert again is not None
        await run_ends.finish(pool, again.message, DONE, timedelta(days=7))
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert (row["state"], row["paused"], row["run"]) == ("DONE", True, 1)
        assert row["due_at"] > await pool.fetchval("select now()")

    run(test)


def test_queued_run_of_the_schedule_is_withdrawn_by_a_pause_and_due_again_after_it(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        await paused(pool, task)
        assert await attempts.begin(pool, Message(task, 1)) is None, "the message that was sent is outdated"
        await scheduler.recover_attempts(pool)
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert (row["state"], row["parked"]) == ("READY", False)
        await resumed(pool, task)
        assert await caught_up(pool, task) == 1

    run(test)


@pytest.mark.parametrize(("catch_up", "runs"), [("all", 3), ("one", 1), (None, 1), ("none", 0)])
def test_queued_run_for_several_missed_times_is_treated_anew_when_its_schedule_is_resumed(
    run: Any, catch_up: pauses.CatchUp | None, runs: int
) -> None:
    async def test(pool: Pool) -> None:
        task = await missed(pool, 3, "one")
        [due, covered] = await pool.fetchrow("select due_at, covered_until from longshore.tasks where id = $1", task)  # type: ignore[misc]
        before = "update longshore.tasks set schedule_cursor = $2, covered_until = $2 where id = $1"
        await pool.execute(before, task, covered - timedelta(days=3))
        await resumed(pool, task)
        assert await scheduler.send_due(pool, []) == 1
        await paused(pool, task)
        assert (await pool.fetchrow(ROW, task))["due_at"] == due  # type: ignore[index]
        await resumed(pool, task, catch_up)
        assert await caught_up(pool, task) == runs
        intervals = await pool.fetch(
            "select interval_start, interval_end from longshore.runs where task_id = $1 and run > 1 order by run", task
        )
        ends = [due + timedelta(days=number) for number in range(3)] if catch_up == "all" else [covered][:runs]
        starts = [covered - timedelta(days=3), *ends[:-1]][:runs]
        assert [tuple(interval) for interval in intervals] == list(zip(starts, ends, strict=True))

    run(test)


def test_pause_gives_the_slot_of_a_queued_run_to_the_next_task(run: Any) -> None:
    async def test(pool: Pool) -> None:
        first, second, third = [await created(pool, new(repeat="daily")) for _ in range(3)]
        await paused(pool, second)
        assert await ran(pool, third)
        assert await ran(pool, first)

    run(test)


def test_requested_run_of_a_paused_task_runs_once_and_leaves_it_paused(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await missed(pool, 3, "one")
        async with pool.acquire() as connection, connection.transaction():
            await requests.execute(connection, CHAIN, task, "user 7")
        assert (await ran(pool, task)).run == 2
        row = await pool.fetchrow(ROW, task)
        assert row is not None
        assert row["paused"]
        assert await scheduler.send_due(pool, []) == 0

    run(test)


def test_requested_run_that_is_queued_runs_although_the_schedule_is_paused_meanwhile(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(once=FAR, repeat="daily"))
        async with pool.acquire() as connection, connection.transaction():
            await requests.execute(connection, CHAIN, task, "user 7")
        await paused(pool, task)
        assert (await ran(pool, task)).run == 1

    run(test)


@pytest.fixture
def client(idle_service: Longshore) -> Iterator[httpx2.Client]:
    with idle_service.client(Level.ADMIN, chain=HTTP_CHAIN) as client:
        yield client
    idle_service.sql("delete from longshore.tasks where chain_id = $1", HTTP_CHAIN)


def scheduled(client: httpx2.Client, **trigger: Any) -> int:
    body = export_body(chain=HTTP_CHAIN, **{"once": FAR, "repeat": "daily", **trigger})
    return int(client.post("/tasks", json=body).json()["id"])


def test_pause_and_resume_are_in_the_log_the_revision_the_progress_and_the_audit(client: httpx2.Client) -> None:
    task = scheduled(client)
    before = client.get(f"/tasks/{task}/progress").json()
    assert before["paused"] is False
    assert before["next"]["step"] == "start"
    for number, (verb, shown) in enumerate((("pause", None), ("resume", before["next"])), 2):
        answer = client.post(f"/tasks/{task}/{verb}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["logs"][-1]["msg"].startswith(f"{verb.rstrip('e')}ed by token ")
        assert client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-{number}"'
        progress = client.get(f"/tasks/{task}/progress").json()
        assert (progress["paused"], progress["next"]) == (verb == "pause", shown)
        again = client.post(f"/tasks/{task}/{verb}")
        assert again.status_code == 200, "nothing changes"
        assert client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-{number}"'
    entries = client.get("/audit", params={"object": f"task {task}"}).json()
    assert [entry["action"] for entry in entries] == ["task.resume", "task.pause", "task.create"]


def test_pause_wakes_a_long_poll(idle_service: Longshore, client: httpx2.Client) -> None:
    task = scheduled(client)
    with ThreadPoolExecutor(1) as thread:
        tag = client.get(f"/tasks/{task}").headers["etag"]
        poll = thread.submit(client.get, f"/tasks/{task}", params={"wait": 60}, headers={"If-None-Match": tag})
        until(lambda: "\nlongshore_waiters 0" not in httpx2.get(f"{idle_service.address}/metrics").text, "a long poll")
        client.post(f"/tasks/{task}/pause")
        assert poll.result(20).json()["logs"][-1]["msg"].startswith("paused by")


def test_paused_task_is_neither_late_nor_planned(idle_service: Longshore, client: httpx2.Client) -> None:
    task = scheduled(client)
    client.post(f"/tasks/{task}/pause")
    idle_service.sql(LATE, task, timedelta(hours=1))
    assert httpx2.get(f"{idle_service.address}/readyz").json() == {"status": "ready"}
    answer = client.get(f"/tasks/{task}")
    assert answer.headers["retry-after"] == "2"
    assert client.get(f"/tasks/{task}/progress").json()["next"] is None


@pytest.mark.parametrize("trigger", [{"repeat": None}, {"repeat": None, "once": "2026-05-26T12:00:00Z"}])
def test_task_without_a_schedule_is_neither_paused_nor_resumed(client: httpx2.Client, trigger: dict[str, Any]) -> None:
    task = scheduled(client, **trigger)
    for verb in ("pause", "resume"):
        problem(client.post(f"/tasks/{task}/{verb}"), "no-schedule")


def test_cancelled_schedule_is_not_resumed_and_a_changed_trigger_begins_it_anew(client: httpx2.Client) -> None:
    task = scheduled(client)
    client.post(f"/tasks/{task}/pause")
    assert client.post(f"/tasks/{task}/cancel").status_code == 200
    for verb in ("pause", "resume"):
        problem(client.post(f"/tasks/{task}/{verb}"), "no-schedule")
    assert client.get(f"/tasks/{task}/progress").json()["paused"] is False
    assert client.patch(f"/tasks/{task}", json={"trigger": {"once": FAR, "repeat": "weekly"}}).status_code == 200
    progress = client.get(f"/tasks/{task}/progress").json()
    assert (progress["paused"], progress["next"]["at"]) == (False, FAR)


def test_changed_trigger_of_a_paused_task_begins_no_run_until_it_is_resumed(
    idle_service: Longshore, client: httpx2.Client
) -> None:
    task = scheduled(client)
    client.post(f"/tasks/{task}/pause")
    trigger = {"once": "2026-05-26T12:00:00Z", "repeat": "daily"}
    assert client.patch(f"/tasks/{task}", json={"trigger": trigger}).status_code == 200
    [row] = idle_service.sql(ROW, task)
    assert (row["paused"], row["parked"], row["due_at"] is None) == (True, False, False)


def test_paused_task_whose_trigger_becomes_a_single_time_is_planned_for_it(
    idle_service: Longshore, client: httpx2.Client
) -> None:
    task = scheduled(client)
    client.post(f"/tasks/{task}/pause")
    assert client.patch(f"/tasks/{task}", json={"trigger": {"once": "2026-05-26T12:00:00Z"}}).status_code == 200
    assert idle_service.sql(ROW, task)[0]["paused"] is False
    play(idle_service, task, "begin", "finish")


def test_resume_refuses_another_catch_up(client: httpx2.Client) -> None:
    task = scheduled(client)
    client.post(f"/tasks/{task}/pause")
    answer = client.post(f"/tasks/{task}/resume", json={"catch_up": "some", "until": FAR})
    assert violations(answer) == {
        "/catch_up": 'expected "one" or "none" or "all"', "/until": "unknown key",
    }  # fmt: skip
    assert client.get(f"/tasks/{task}/progress").json()["paused"] is True
    answer = client.post(f"/tasks/{task}/resume", json={"catch_up": "all"})
    assert answer.json()["logs"][-1]["msg"].endswith(", catch_up all")
