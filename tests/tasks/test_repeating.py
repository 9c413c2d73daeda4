"""Tasks that repeat, and the slots of a chain, on the real database; the clock is ours, the time is PostgreSQL's."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.database.connect import Pool
from longshore.results.local import LocalStore
from longshore.tasks import attempts, cancellation, requests, retention, run_ends, scheduler
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message
from longshore.tasks.requests import NewTask
from longshore.tasks.retention import ExpiredResult
from longshore.tasks.schedule import Schedule
from longshore.worker.cleanup import Cleanup
from tests.service import Longshore
from tests.waiting import until

CHAIN, OTHER = ChainId(501), ChainId(502)
DONE = RunResult("a.csv", None, 1, 1, 10, bytes(32), None, "{}")
SHARD = "insert into longshore.shards (task_id, attempt, number, work) values ($1, 1, 0, '{}')"
SHARDS = "select count(*) from longshore.shards where task_id = $1"
NEWEST = """
select attempt, state, due_at, parked, due_at <= now() + interval '1 day' as soon from longshore.tasks where id = $1
"""
QUEUED = "select count(*) from longshore.pgqueuer where dedupe_key like $1 || ':%'"


def new(chain: ChainId = CHAIN, priority: int = 0, **schedule: Any) -> NewTask:
    made = msgspec.convert({"once": "2026-01-01T06:00:00Z", **schedule}, Schedule)
    return NewTask(chain, "a test", "export", msgspec.json.encode(made).decode(), "{}", "", made, priority)


async def created(pool: Pool, task: NewTask) -> TaskId:
    async with pool.acquire() as connection, connection.transaction():
        return await requests.create(connection, task)


async def ran(pool: Pool, task: TaskId) -> Attempt:
    """Play a run of a task whose message has been sent."""
    begun = await attempts.begin(pool, Message(task, await pool.fetchval(NEWEST, task)))
    assert begun is not None
    await run_ends.finish(pool, begun.message, DONE, timedelta(days=7))
    return begun


def test_a_task_that_repeats_is_due_again_once_a_run_has_ended(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        await ran(pool, task)
        row = await pool.fetchrow(NEWEST, task)
        assert row is not None
        assert (row["state"], row["soon"], row["parked"]) == ("DONE", True, False)
        await pool.execute("update longshore.tasks set due_at = now() - interval '3 days' where id = $1", task)
        await scheduler.send_due(pool, [])
        assert (await ran(pool, task)).run == 2
        row = await pool.fetchrow(NEWEST, task)
        assert row is not None
        assert row["due_at"] > await pool.fetchval("select now()"), "the three days are caught up by one run"
        entries = await pool.fetch("select msg from longshore.task_logs where task_id = $1 order by seq", task)
        assert "DONE -> INPROGRESS" in [entry["msg"] for entry in entries]

    run(test)


def test_failed_run_does_not_end_its_schedule(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(cron="0 3 * * *", once=None))
        await pool.execute("update longshore.tasks set due_at = now() where id = $1", task)
        await scheduler.send_due(pool, [])
        begun = await attempts.begin(pool, Message(task, 1))
        assert begun is not None
        await run_ends.fail(pool, begun.message, "failed: a test")
        row = await pool.fetchrow(NEWEST, task)
        assert row is not None
        assert (row["state"], row["soon"]) == ("ERROR", True)

    run(test)


def test_catch_up_none_skips_missed_runs(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily", catch_up="none"))
        await ran(pool, task)
        await pool.execute("update longshore.tasks set due_at = now() - interval '1 hour' where id = $1", task)
        await scheduler.send_all_due(pool)
        row = await pool.fetchrow(NEWEST, task)
        assert row is not None
        assert not row["parked"]
        assert row["due_at"] > await pool.fetchval("select now()")

    run(test)


def test_catch_up_all_runs_every_missed_run(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily", catch_up="all"))
        await ran(pool, task)
        await pool.execute(
            "update longshore.tasks set due_at = now() - interval '3 days' - interval '1 hour' where id = $1", task
        )
        runs = 0
        while await scheduler.send_due(pool, []):
            await ran(pool, task)
            runs += 1
        assert runs in (4, 5)  # the fourth lies an hour back; the next one is due on a clock hour of its own

    run(test)


def test_cancelled_schedule_ends(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        await ran(pool, task)
        async with pool.acquire() as connection, connection.transaction():
            await cancellation.cancel(connection, CHAIN, task, "a test")
        row = await pool.fetchrow(NEWEST, task)
        assert row is not None
        assert (row["state"], row["due_at"]) == ("DONE", None)

    run(test)


def test_chain_with_a_thousand_tasks_does_not_delay_another(run: Any) -> None:
    async def test(pool: Pool) -> None:
        many = [await created(pool, new()) for _ in range(50)]
        urgent = await created(pool, new(priority=5))
        other = await created(pool, new(OTHER))
        sent = [task for task in (*many, urgent, other) if await pool.fetchval(QUEUED, str(task))]
        assert sent == [many[0], many[1], other]
        await ran(pool, many[0])
        assert await pool.fetchval(QUEUED, str(urgent)) == 1
        assert await pool.fetchval(QUEUED, str(many[2])) == 0
        async with pool.acquire() as connection, connection.transaction():
            await cancellation.cancel(connection, CHAIN, many[1], "a test")
        assert await pool.fetchval(QUEUED, str(many[2])) == 1

    run(test)


def test_concurrent_requests_send_no_more_messages_of_a_chain_than_its_slots(run: Any) -> None:
    async def test(pool: Pool) -> None:
        tasks = await asyncio.gather(*(created(pool, new()) for _ in range(20)))
        assert sum([await pool.fetchval(QUEUED, str(task)) for task in tasks]) == 2
        done = 0
        while running := [t for t in tasks if await _is_sent(pool, t)]:
            await asyncio.gather(*(ran(pool, task) for task in running))
            done += len(running)
        assert done == 20

    run(test)


async def _is_sent(pool: Pool, task: TaskId) -> bool:
    sql = "select state = 'READY' and not parked from longshore.tasks where id = $1"
    return bool(await pool.fetchval(sql, task))


def test_cleanup_removes_expired_results_and_files_without_a_task(run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        store = LocalStore(tmp_path)
        task = await created(pool, new())
        begun = await attempts.begin(pool, Message(task, 1))
        assert begun is not None
        kept, orphan = f"{CHAIN}/{task}/1/a.csv", f"{CHAIN}/{task}/7/a.csv"
        for location in (kept, orphan):
            with store.create(location) as file:
                file.publish({".manifest.json": b"{}"})
        old = msgspec.structs.replace(DONE, location=kept)
        cleanup = Cleanup(pool, store, timedelta(days=365))
        await pool.execute(SHARD, task)
        await cleanup.run(begun)
        assert await pool.fetchval(SHARDS, task) == 1, "the attempt is under way"
        await run_ends.finish(pool, begun.message, old, timedelta(days=7))
        assert (await cleanup.run(begun)).total == 0, "what was just written may still be in the making"
        assert store.open_path(kept)
        assert await pool.fetchval(SHARDS, task) == 0
        os.utime(tmp_path / str(CHAIN) / str(task) / "7", (0, 0))
        os.utime(tmp_path / str(CHAIN) / str(task) / "1", (0, 0))
        assert (await cleanup.run(begun)).note == "removed 0 expired results, 0 old tasks, 1 files that nothing named"
        assert store.open_path(kept)
        assert not store.open_path(orphan)
        await pool.execute("update longshore.runs set expires_at = now() where task_id = $1", task)
        assert (await cleanup.run(begun)).note == "removed 1 expired results, 0 old tasks, 0 files that nothing named"
        assert not store.open_path(kept)
        await pool.execute("update longshore.tasks set modified_at = now() - interval '2 years' where id = $1", task)
        assert (await cleanup.run(begun)).note == "removed 0 expired results, 1 old tasks, 0 files that nothing named"
        assert await pool.fetchrow(NEWEST, task) is None

    run(test)


def test_an_attempt_reads_the_locations_of_the_results_that_are_kept_and_no_others(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        for location in ("a", "b"):
            begun = await attempts.begin(pool, Message(task, await pool.fetchval(NEWEST, task)))
            assert begun is not None
            result = msgspec.structs.replace(DONE, location=location)
            await run_ends.finish(pool, begun.message, result, timedelta(days=7))
            async with pool.acquire() as connection, connection.transaction():
                await requests.execute(connection, CHAIN, task)
        assert sorted(await attempts.locations(pool, task)) == ["a", "b"]
        await retention.forget_result(pool, ExpiredResult(task, 1, "a"))
        assert await attempts.locations(pool, task) == ["b"]

    run(test)


def test_token_of_chain_0_sees_the_cleanup_task(service: Longshore) -> None:
    with service.client(chain=0) as client:
        (task,) = until(lambda: client.get("/tasks").json(), "the worker to make it")
    assert (task["chain"], task["target"]) == (0, {"action": "cleanup"})


def test_the_times_of_a_trigger_can_be_previewed(idle_client: httpx2.Client) -> None:
    trigger = {"once": "2126-01-31T02:30:00Z", "repeat": "monthly", "until": "2126-04-01T00:00:00Z"}
    answer = idle_client.post("/tasks/preview", json={"trigger": trigger})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"times": ["2126-01-31T02:30:00Z", "2126-02-28T02:30:00Z", "2126-03-31T02:30:00Z"]}


def test_preview_of_a_trigger_refuses_a_segment_as_it_does_not_count(idle_client: httpx2.Client) -> None:
    segment = {"entity": "people", "index": "users", "join": "all", "chain_id": 1764, "rules": []}
    for unused in ({"segment": segment}, {"segment_id": "0198c7a5-0000-7000-8000-000000000000"}):
        answer = idle_client.post("/tasks/preview", json={"trigger": {"once": "2126-01-31T02:30:00Z", **unused}})
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"] == [{"detail": "unknown key", "pointer": f"/trigger/{next(iter(unused))}"}]


@pytest.mark.parametrize(
    ("trigger", "pointer"),
    [
        ({}, "/trigger/once"),
        ({"once": "0001-01-01T00:00:00Z"}, "/trigger/once"),
        ({"once": "0001-01-01T00:00:00+14:00"}, "/trigger/once"),
        ({"once": "0001-01-01T00:00:00Z", "repeat": "daily", "timezone": "America/New_York"}, "/trigger/once"),
        ({"once": "0001-01-01T00:00:00Z", "repeat": "daily"}, "/trigger/once"),
        ({"once": "0001-01-01T00:00:00Z", "cron": "0 3 * * *"}, "/trigger/once"),
        ({"once": "9999-12-31T23:59:59Z", "cron": "0 3 * * *"}, "/trigger/once"),
        ({"once": "9999-12-31T23:59:59Z", "repeat": "daily", "timezone": "Asia/Kathmandu"}, "/trigger/once"),
        ({"once": "2126-01-01T00:00:00Z", "repeat": "daily", "until": "9999-12-31T23:59:59-12:00"}, "/trigger/until"),
        ({"once": "2020-01-01T00:00:00Z", "repeat": "daily", "until": "2021-01-01T00:00:00Z"}, "/trigger/until"),
        ({"cron": "0 0 */30 2 1#5"}, "/trigger/until"),
        ({"cron": f"* * * * {'1' * 5000}"}, "/trigger/cron"),
        ({"cron": "* * * *"}, "/trigger/cron"),
        ({"cron": "0 3 * * *", "repeat": "daily"}, "/trigger/cron"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Amsterdm"}, "/trigger/timezone"),
        ({"once": "2126-01-01T00:00:00Z", "timezone": "Mars/Olympus"}, "/trigger/timezone"),
        ({"once": "2126-01-01T00:00:00Z", "catch_up": "all"}, "/trigger/catch_up"),
        ({"once": "2126-01-01T00:00:00Z", "repeat": "hourly"}, "/trigger/repeat"),
        ({"once": "2126-01-01T00:00:00Z", "repeat": "daily", "until": "2125-01-01T00:00:00Z"}, "/trigger/until"),
        ({"cron": "0 3 * * *", "until": "2020-01-01T00:00:00Z"}, "/trigger/until"),
    ],
)
def test_invalid_schedule_is_refused_with_the_pointer_of_the_violation(
    idle_client: httpx2.Client, trigger: dict[str, Any], pointer: str
) -> None:
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv"}
    body = {"chain": 1764, "desc": "a test", "target": target, "trigger": trigger}
    for answer in (
        idle_client.post("/tasks", json=body),
        idle_client.post("/tasks/preview", json={"trigger": trigger}),
    ):
        assert answer.status_code == 400, answer.text
        assert pointer in [violation["pointer"] for violation in answer.json()["errors"]]
