"""When a schedule ends, and what keeps it: until, catch_up, cancel, execute, and triggers that cannot be computed."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.database.connect import Pool
from longshore.tasks import attempts, cancellation, requests, run_ends, scheduler
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message, ShardMessage
from longshore.tasks.quotas import RunAction
from longshore.worker.runner import Runner
from longshore.worker.running_attempts import RunningAttempts
from tests.faults.attempts import taken
from tests.service import Longshore, export_body
from tests.tasks.test_repeating import CHAIN, DONE, OTHER, created, new, ran

TASK = "select state, due_at, parked, attempt, log_length, revision, schedule_ended from longshore.tasks where id = $1"
LOG = "select msg from longshore.task_logs where task_id = $1 order by seq"
LATE = "update longshore.tasks set due_at = now() - $2::interval where id = $1"
TRIGGER = "update longshore.tasks set trigger = $2 where id = $1"
STORED = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at, attempt_began_at, state)
select $1, 'by hand', 'export', $2, '{}', '', now() - $3::interval, now(), 'DONE'
from generate_series(1, $4)
returning id
"""
# Schedules that were stored before they were refused, by another version, or where another tzdata is installed.
UNCOMPUTABLE = [
    '{"once":"0001-01-01T00:00:00Z","repeat":"daily","timezone":"America/New_York"}',
    '{"once":"9999-12-31T23:59:59Z","repeat":"daily","timezone":"Asia/Kathmandu"}',
    '{"once":"2026-01-01T00:00:00Z","repeat":"daily","timezone":"Mars/Olympus_Mons"}',
    '{"once":"2026-01-01T00:00:00","repeat":"daily"}',
    '{"once":"2026-01-01T00:00:00Z","repeat":"fortnightly"}',
    '{"cron":"0 0 30 2 *"}',
    '{"cron":"\\u0000 \\ud800"}',
    "[]",
]


async def log_of(pool: Pool, task: TaskId) -> list[str]:
    found = [row["msg"] for row in await pool.fetch(LOG, task)]
    assert len(found) == await pool.fetchval("select log_length from longshore.tasks where id = $1", task)
    return found


async def row_of(pool: Pool, task: TaskId) -> Any:
    row = await pool.fetchrow(TASK, task)
    assert row is not None
    return row


async def now(pool: Pool) -> Any:
    return await pool.fetchval("select now()")


def test_catch_up_none_runs_no_missed_run_of_many_tasks(run: Any) -> None:
    async def test(pool: Pool) -> None:
        trigger = '{"once":"2026-01-01T06:00:00Z","repeat":"daily","catch_up":"none"}'
        rows = await pool.fetch(STORED, CHAIN, trigger, timedelta(hours=30), 600)
        await scheduler.send_all_due(pool)
        left = "select count(*) from longshore.tasks where id = any($1) and due_at > now() and not parked"
        assert await pool.fetchval(left, [row["id"] for row in rows]) == 600

    run(test)


def test_catch_up_none_runs_no_run_missed_during_an_outage_in_the_run_before(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily", catch_up="none"))
        begun = await attempts.begin(pool, Message(task, 1))
        assert begun is not None
        await pool.execute(
            "update longshore.tasks set schedule_cursor = now() - interval '60 hours' where id = $1", task
        )
        await run_ends.finish(pool, begun.message, DONE, timedelta(days=7))
        await scheduler.send_all_due(pool)
        row = await row_of(pool, task)
        assert not row["parked"]
        assert row["due_at"] > await now(pool)

    run(test)


@pytest.mark.parametrize("catch_up", ["one", "none", "all"])
def test_run_that_was_missed_does_not_begin_after_until(run: Any, catch_up: str) -> None:
    async def test(pool: Pool) -> None:
        until = await pool.fetchval("select to_char(now() - interval '1 day', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        stored = {"once": "2026-01-01T06:00:00Z", "repeat": "daily", "until": until, "catch_up": catch_up}
        trigger = msgspec.json.encode(stored).decode()
        [ran_before] = await pool.fetch(STORED, CHAIN, trigger, timedelta(days=2), 1)
        never_ran = await created(pool, new(once="2126-01-01T00:00:00Z", repeat="daily"))
        await pool.execute("update longshore.tasks set trigger = $2 where id = $1", never_ran, trigger)
        await pool.execute(LATE, never_ran, timedelta(days=2))
        await scheduler.send_all_due(pool)
        for task, state, end in ((ran_before["id"], "DONE", []), (never_ran, "ERROR", ["READY -> ERROR"])):
            row = await row_of(pool, task)
            assert (row["state"], row["due_at"], row["parked"]) == (state, None, False)
            [missed, *rest] = await log_of(pool, task)
            assert missed.endswith("was missed, and no time is left")
            assert rest == end

    run(test)


def test_cancelled_schedule_stays_ended_when_its_task_is_executed(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        await ran(pool, task)
        async with pool.acquire() as connection, connection.transaction():
            await cancellation.cancel(connection, CHAIN, task, "a test")
        async with pool.acquire() as connection, connection.transaction():
            await requests.execute(connection, CHAIN, task)
        assert (await ran(pool, task)).run == 2
        row = await row_of(pool, task)
        assert (row["state"], row["due_at"]) == ("DONE", None)

    run(test)


@pytest.mark.parametrize("change", [{"trigger": {"cron": "0 3 * * *"}}, {"trigger": {"cron": "0 4 * * *"}}])
def test_changed_trigger_begins_a_cancelled_schedule_anew(
    idle_service: Longshore, idle_client: httpx2.Client, change: dict[str, Any]
) -> None:
    body = {**export_body(), "trigger": {"cron": "0 3 * * *"}}
    task = idle_client.post("/tasks", json=body).json()["id"]
    assert idle_client.post(f"/tasks/{task}/cancel").status_code == 200
    assert idle_client.patch(f"/tasks/{task}", json={"desc": "still cancelled"}).status_code == 200
    assert idle_service.sql(TASK, task)[0]["due_at"] is None
    assert idle_client.patch(f"/tasks/{task}", json=change).status_code == 200
    [row] = idle_service.sql(TASK, task)
    assert (row["due_at"] is None, row["schedule_ended"]) == (False, False)
    assert idle_client.delete(f"/tasks/{task}").status_code == 204


@pytest.mark.parametrize(("catch_up", "runs_again"), [("one", True), ("none", False)])
def test_queued_run_in_whose_place_an_execute_ran_is_a_missed_one(run: Any, catch_up: str, runs_again: bool) -> None:
    async def test(pool: Pool) -> None:
        time = await pool.fetchval("select date_trunc('second', now() - interval '2 minutes')")
        task = await created(pool, new(once=time.isoformat(), repeat="daily", catch_up=catch_up))
        assert (await row_of(pool, task))["due_at"] is None, "its run is queued"
        async with pool.acquire() as connection, connection.transaction():
            await requests.execute(connection, CHAIN, task)
        await ran(pool, task)
        assert (await row_of(pool, task))["due_at"] == time
        await scheduler.send_all_due(pool)
        due = (await row_of(pool, task))["due_at"]
        assert due == (None if runs_again else time + timedelta(days=1))

    run(test)


def test_execute_keeps_the_planned_once_of_a_task(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(once="2126-01-01T00:00:00Z"))
        planned = (await row_of(pool, task))["due_at"]
        assert planned is not None
        async with pool.acquire() as connection, connection.transaction():
            await requests.execute(connection, CHAIN, task)
        await ran(pool, task)
        assert (await row_of(pool, task))["due_at"] == planned
        await pool.execute(LATE, task, timedelta(0))
        await pool.execute(
            'update longshore.tasks set trigger = \'{"once":"2026-01-01T00:00:00Z"}\' where id = $1', task
        )
        await scheduler.send_all_due(pool)
        assert (await ran(pool, task)).run == 2
        assert (await row_of(pool, task))["due_at"] is None

    run(test)


@pytest.mark.parametrize("trigger", UNCOMPUTABLE)
def test_run_ends_also_where_its_schedule_cannot_be_computed(run: Any, trigger: str) -> None:
    async def test(pool: Pool) -> None:
        done, failed = [await created(pool, new(repeat="daily")) for _ in range(2)]
        await pool.execute("update longshore.tasks set trigger = $2 where id = any($1)", [done, failed], trigger)
        await ran(pool, done)
        begun = await attempts.begin(pool, Message(failed, 1))
        assert begun is not None
        await run_ends.fail(pool, begun.message, "failed: a test")
        for task, state in ((done, "DONE"), (failed, "ERROR")):
            row = await row_of(pool, task)
            assert (row["state"], row["due_at"], row["schedule_ended"]) == (state, None, True)
            log = await log_of(pool, task)
            assert log[-2] == f"INPROGRESS -> {state}"
            assert log[-1].startswith("the schedule has ended: its times cannot be computed (")

    run(test)


def test_due_task_whose_schedule_cannot_be_computed_ends_in_error_and_delays_no_other(run: Any) -> None:
    async def test(pool: Pool) -> None:
        # With `one` its time alone would do; `none` asks for the next one.
        stored = [trigger.replace("{", '{"catch_up":"none",') for trigger in UNCOMPUTABLE]
        bad = [(await pool.fetch(STORED, CHAIN, trigger, timedelta(hours=1), 1))[0]["id"] for trigger in stored]
        good = await created(pool, new(OTHER, once="2126-01-01T00:00:00Z"))
        await pool.execute(LATE, good, timedelta(minutes=1))
        await scheduler.send_all_due(pool)
        for task in bad:
            row = await row_of(pool, task)
            assert (row["state"], row["due_at"], row["parked"]) == ("ERROR", None, False)
            [why, change] = await log_of(pool, task)
            assert why.startswith("the run failed: its times cannot be computed (")
            assert change == "DONE -> ERROR"
        await ran(pool, good)

    run(test)


@contextmanager
def poisoned(idle_service: Longshore) -> Iterator[None]:
    """No task of chain 501 can be changed: PostgreSQL itself refuses it."""
    idle_service.sql(
        "create function longshore.refuse() returns trigger language plpgsql"
        " as $$ begin raise exception 'no, and never'; end $$"
    )
    idle_service.sql(
        "create trigger refuse before update on longshore.tasks for each row"
        " when (old.chain_id = 501) execute function longshore.refuse()"
    )
    try:
        yield
    finally:
        idle_service.sql("drop function longshore.refuse() cascade")


def test_task_that_cannot_be_changed_delays_no_other_and_does_not_end_the_scheduler(
    idle_service: Longshore, run: Any
) -> None:
    async def test(pool: Pool) -> None:
        daily = '{"once":"2026-01-01T06:00:00Z","repeat":"daily"}'
        due = [(await pool.fetch(STORED, chain, daily, timedelta(hours=1), 1))[0]["id"] for chain in (CHAIN, OTHER)]
        lost = [await created(pool, new(chain)) for chain in (CHAIN, OTHER)]
        for task in lost:
            assert await attempts.begin(pool, Message(task, 1))
        await pool.execute("delete from longshore.pgqueuer")
        with poisoned(idle_service):
            ticking = asyncio.create_task(scheduler.run_scheduler(pool))
            deadline = time.monotonic() + 60
            while (await row_of(pool, due[1]))["due_at"] or (await row_of(pool, lost[1]))["attempt"] == 1:
                assert time.monotonic() < deadline
                await asyncio.wait({ticking}, timeout=0.05)
            assert not ticking.done()
            ticking.cancel()
            await asyncio.wait({ticking})
            assert (await row_of(pool, due[0]))["due_at"] is not None
            assert (await row_of(pool, lost[0]))["attempt"] == 1

    run(test)


async def _exit(_begun: Attempt) -> RunResult:
    raise SystemExit(3)


async def _interrupt(_begun: Attempt) -> RunResult:
    raise KeyboardInterrupt


class PanicException(BaseException):
    """As libraries in Rust raise it."""


async def _panic(_begun: Attempt) -> RunResult:
    raise PanicException("index out of bounds")


async def _cancel(_begun: Attempt) -> RunResult:
    raise asyncio.CancelledError


async def _leave_what_cannot_be_stored(_begun: Attempt) -> RunResult:
    return msgspec.structs.replace(DONE, total=2**70)


async def _speak_of_what_cannot_be_stored(_begun: Attempt) -> RunResult:
    raise ValueError("\x00\ud800" + "x " * 5_000)


async def _never(_begun: Attempt) -> RunResult:
    raise AssertionError("its target was read")


@pytest.mark.parametrize(
    ("action", "target", "reason"),
    [
        (_exit, "{}", "failed: SystemExit: 3"),
        (_interrupt, "{}", "failed: KeyboardInterrupt"),
        (_panic, "{}", "failed: PanicException: index out of bounds"),
        (_cancel, "{}", "failed: the action cancelled itself"),
        (_leave_what_cannot_be_stored, "{}", "failed: the result of the run cannot be stored: "),
        (_speak_of_what_cannot_be_stored, "{}", "failed: ValueError: \ufffd?x x"),
        (_never, "[]", "failed: this version cannot read the target: "),
        (_never, '{"timeout_seconds":"soon"}', "failed: this version cannot read the target: "),
    ],
)
def test_attempt_that_breaks_in_any_way_ends_in_error_at_once(
    run: Any, action: RunAction, target: str, reason: str
) -> None:
    async def test(pool: Pool) -> None:
        async def shard(_message: ShardMessage) -> None:
            raise AssertionError("nothing was cut")

        task = await created(pool, new())
        await pool.execute("update longshore.tasks set target = $2 where id = $1", task, target)
        worker = Runner(RunningAttempts(pool, 0), pool, {"export": action}, lambda _: timedelta(days=1), shard)
        await worker.handle(await taken(pool, Message(task, 1)))
        [_, failed, last] = await log_of(pool, task)
        assert (failed[: len(reason)], last) == (reason, "INPROGRESS -> ERROR")
        assert len(failed) < 5000

    run(test)
