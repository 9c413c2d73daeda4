"""The data interval that each run is stored with: of schedules, of `once` and of `execute`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.actions import Action, Context, Target
from longshore.actions.action import attempt_runner
from longshore.database.connect import Pool
from longshore.results.local import LocalStore
from longshore.settings import Settings
from longshore.tasks import attempts, requests, run_ends, scheduler
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import Interval, TaskId
from longshore.tasks.queue import Message
from longshore.vault import open_vault
from tests.run_steps import play
from tests.service import Longshore, export_body
from tests.tasks.test_repeating import CHAIN, NEWEST, created, new, ran

DAY = timedelta(days=1)
LATER = """
update longshore.tasks
set due_at = due_at - $2::interval, schedule_cursor = schedule_cursor - $2::interval,
    covered_until = covered_until - $2::interval
where id = $1
"""
ASYNC = {"Prefer": "respond-async"}


async def later(pool: Pool, task: TaskId, passed: timedelta) -> None:
    """Let the schedule of a task be as if so much more time had passed."""
    await pool.execute(LATER, task, passed)


async def caught_up(pool: Pool, task: TaskId) -> list[Attempt]:
    """Run all that is due of a task, and return the attempts."""
    found = []
    while await scheduler.send_due(pool, []):
        row = await pool.fetchrow("select parked or due_at is null as queued from longshore.tasks where id = $1", task)
        if row is not None and row["queued"]:
            found.append(await ran(pool, task))
    return found


async def executed(pool: Pool, task: TaskId, interval_end: datetime | None = None) -> Attempt:
    async with pool.acquire() as connection, connection.transaction():
        await requests.execute(connection, CHAIN, task, None, interval_end)
    return await ran(pool, task)


async def today(pool: Pool) -> datetime:
    """Return the newest six o'clock in UTC."""
    now: datetime = await pool.fetchval("select now()")
    six = now.replace(hour=6, minute=0, second=0, microsecond=0)
    return six if six <= now else six - DAY


def test_schedule_whose_once_has_passed_begins_with_its_newest_time(run: Any) -> None:
    async def test(pool: Pool) -> None:
        newest = await today(pool)
        for task in (await created(pool, new(repeat="daily")), await created(pool, new(cron="0 6 * * *"))):
            first = await ran(pool, task)
            assert (first.due, first.interval) == (newest, Interval(None, newest))
            assert await pool.fetchval("select due_at from longshore.tasks where id = $1", task) == newest + DAY

    run(test)


@pytest.mark.parametrize(
    ("catch_up", "ends"), [("all", [3, 2, 1, 0]), ("one", [0]), ("none", [])], ids=["all", "one", "none"]
)
def test_missed_runs_are_for_the_time_since_the_last_run(run: Any, catch_up: str, ends: list[int]) -> None:
    """`ends`: of the four runs that were missed, those that are made, by the days from their time until now."""

    async def test(pool: Pool) -> None:
        newest = await today(pool)
        task = await created(pool, new(repeat="daily", catch_up=catch_up))
        await ran(pool, task)
        await later(pool, task, 4 * DAY)
        found = await caught_up(pool, task)
        expected = [newest - days * DAY for days in ends]
        assert [each.due for each in found] == expected
        starts = [newest - 4 * DAY, *expected][: len(found)]
        assert [each.interval for each in found] == [Interval(*edges) for edges in zip(starts, expected, strict=True)]
        # The next one begins where the last one ended, also over times that no run was made for.
        covered = expected[-1] if expected else newest - 4 * DAY
        await later(pool, task, timedelta(0))
        [row] = await pool.fetch("select due_at, covered_until from longshore.tasks where id = $1", task)
        assert (row["due_at"], row["covered_until"]) == (newest + DAY, covered)

    run(test)


def test_failed_run_leaves_its_interval_to_execute(run: Any) -> None:
    async def test(pool: Pool) -> None:
        newest = await today(pool)
        task = await created(pool, new(repeat="daily"))
        await ran(pool, task)
        await later(pool, task, 5 * DAY)
        await scheduler.send_due(pool, [])
        message = Message(task, await pool.fetchval(NEWEST, task))
        failed = await attempts.begin(pool, message)
        assert failed is not None
        assert failed.interval == Interval(newest - 5 * DAY, newest)
        await run_ends.fail(pool, message, "failed: a test")
        again = await executed(pool, task, newest)
        assert (again.due, again.interval) == (None, failed.interval)
        await later(pool, task, 2 * DAY)
        assert [each.interval.start for each in await caught_up(pool, task)] == [newest - 2 * DAY]

    run(test)


def test_all_attempts_of_a_run_are_for_one_interval(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        message = Message(task, 1)
        first = await attempts.begin(pool, message)
        assert first is not None
        await attempts.retry(pool, message, "a test", 0, counts_as_failure=True)
        second = await ran(pool, task)
        assert (second.number, second.due, second.interval) == (2, first.due, first.interval)

    run(test)


def test_execute_is_for_the_time_since_the_newest_run_of_the_schedule(run: Any) -> None:
    async def test(pool: Pool) -> None:
        newest = await today(pool)
        task = await created(pool, new(repeat="daily"))
        before = await executed(pool, task)
        assert (before.due, before.interval.start) == (None, None), "the schedule has not run yet"
        await scheduler.send_due(pool, [])
        await ran(pool, task)
        found = await executed(pool, task)
        assert (found.due, found.interval.start) == (None, newest)
        assert timedelta(0) <= await pool.fetchval("select now()") - found.interval.end < timedelta(minutes=1)
        assert found.interval.end.microsecond == 0
        await later(pool, task, DAY)
        [following] = await caught_up(pool, task)
        assert following.interval == Interval(newest - DAY, newest), "as if there had been no `execute`"

    run(test)


def test_run_of_the_schedule_that_waits_for_a_slot_is_made_after_execute(run: Any) -> None:
    async def test(pool: Pool) -> None:
        newest = await today(pool)
        task = await created(pool, new(repeat="daily", catch_up="all"))
        await ran(pool, task)
        await later(pool, task, 2 * DAY)
        await scheduler.send_due(pool, [])
        assert (await executed(pool, task)).interval.start == newest - 2 * DAY
        assert [each.due for each in await caught_up(pool, task)] == [newest - DAY, newest]

    run(test)


def test_once_that_has_passed_is_for_the_time_until_it_was_asked_for(run: Any) -> None:
    async def test(pool: Pool) -> None:
        async with pool.acquire() as connection, connection.transaction():
            task = await requests.create(connection, new())
            now = await connection.fetchval("select date_trunc('second', now())")
        found = await ran(pool, task)
        assert (found.due, found.interval) == (now, Interval(None, now))
        planned = await created(pool, new(once="2126-01-01T00:00:00Z"))
        moment = now - timedelta(hours=3)
        await pool.execute("update longshore.tasks set due_at = $2 where id = $1", planned, moment)
        await scheduler.send_due(pool, [])
        late = await ran(pool, planned)
        assert (late.due, late.interval) == (moment, Interval(None, moment)), "late, and for its own time"

    run(test)


def test_action_of_a_package_gets_the_interval_of_its_run(run: Any, tmp_path: Path) -> None:
    given: list[Interval] = []

    async def take(context: Context[Target]) -> None:
        given.append(context.interval)

    async def test(pool: Pool) -> None:
        task = await created(pool, new(repeat="daily"))
        await pool.execute('update longshore.tasks set target = \'{"action":"take"}\' where id = $1', task)
        begun = await ran(pool, task)
        await attempt_runner(Action(Target, take), pool, LocalStore(tmp_path), open_vault(Settings(data=tmp_path)))(
            begun
        )
        assert given == [Interval(None, await today(pool))]

    run(test)


def runs(client: httpx2.Client, task: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/tasks/{task}/runs").json()
    return found


def shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def test_changed_trigger_goes_on_where_the_last_interval_ended(
    idle_service: Longshore, idle_client: httpx2.Client, daily: int
) -> None:
    [first] = runs(idle_client, daily)
    assert first["interval"] == {"start": None, "end": first["due"]}
    # The newest six o'clock of the new schedule lies before that end, or is that end.
    trigger = {"once": "2026-01-01T06:00:00Z", "repeat": "weekly"}
    assert idle_client.patch(f"/tasks/{daily}", json={"trigger": trigger}).status_code == 200
    [row] = idle_service.sql("select due_at, parked, due_at > now() as waits from longshore.tasks where id = $1", daily)
    assert (row["parked"], row["waits"]) == (False, True)
    # One that has a newer time begins with it, at once.
    end = datetime.fromisoformat(first["due"])
    idle_service.sql("update longshore.tasks set covered_until = $2 where id = $1", daily, end - 9 * DAY)
    changed = idle_client.patch(f"/tasks/{daily}", json={"trigger": {**trigger, "repeat": "daily"}})
    assert changed.status_code == 200
    play(idle_service, daily, "begin", "finish")
    newest = runs(idle_client, daily)[0]
    assert newest["interval"] == {"start": shown(end - 9 * DAY), "end": newest["due"]}


def test_execute_runs_an_interval_of_the_schedule_again(
    idle_service: Longshore, idle_client: httpx2.Client, daily: int
) -> None:
    [first] = runs(idle_client, daily)
    end = datetime.fromisoformat(first["due"])
    for asked, start in ((end, None), (end - 3 * DAY, end - 4 * DAY)):
        body = {"interval_end": asked.astimezone(UTC).isoformat()}
        answer = idle_client.post(f"/tasks/{daily}/execute", json=body, headers=ASYNC)
        assert answer.status_code == 202, answer.text
        play(idle_service, daily, "begin", "finish")
        newest = runs(idle_client, daily)[0]
        assert newest["due"] is None
        assert newest["interval"] == {"start": start and shown(start), "end": shown(asked)}
    assert idle_client.post(f"/tasks/{daily}/execute", headers=ASYNC).status_code == 202
    play(idle_service, daily, "begin", "finish")
    assert runs(idle_client, daily)[0]["interval"]["start"] == first["due"], (
        "that of the schedule, not of a repeated run"
    )


def test_interval_end_that_is_no_time_of_the_schedule_is_refused_with_the_nearest(
    idle_client: httpx2.Client, daily: int
) -> None:
    def violation(interval_end: Any, **more: Any) -> str:
        answer = idle_client.post(f"/tasks/{daily}/execute", json={"interval_end": interval_end, **more}, headers=ASYNC)
        assert answer.status_code == 400, answer.text
        [found] = answer.json()["errors"]
        assert found["pointer"] == ("/odd" if more else "/interval_end")
        return str(found["detail"])

    expected_message = violation("2026-02-03T06:00:01Z")
    assert expected_message == (
        "2026-02-03T06:00:01Z is not one of the times of the schedule; "
        "the nearest: 2026-02-03T06:00:00Z and 2026-02-04T06:00:00Z"
    )
    with_fraction = violation("2026-02-03T06:00:00.5Z")
    assert with_fraction.endswith("the nearest: 2026-02-03T06:00:00Z and 2026-02-04T06:00:00Z")
    assert violation("2020-01-01T06:00:00Z").endswith("the nearest: 2026-01-01T06:00:00Z"), "before `once`"
    assert "has not come yet" in violation("2100-01-01T06:00:00Z")
    assert "offset" in violation("2026-02-03T06:00:00")
    assert "1900 to 2200" in violation("1066-02-03T06:00:00Z")
    assert violation(7)
    assert "unknown key" in violation("2026-02-03T06:00:00Z", odd=1)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"trigger": {"once": "2126-01-01T00:00:00Z"}}, "repeat"),
        ({"target": {**export_body()["target"], "incremental": True}}, "incremental"),
    ],
    ids=["once", "incremental"],
)
def test_interval_end_is_for_tasks_whose_schedule_has_intervals(
    idle_client: httpx2.Client, daily: int, change: dict[str, Any], detail: str
) -> None:
    [first] = runs(idle_client, daily)
    assert idle_client.patch(f"/tasks/{daily}", json=change).status_code == 200
    answer = idle_client.post(f"/tasks/{daily}/execute", json={"interval_end": first["due"]}, headers=ASYNC)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/no-intervals")
    assert detail in answer.json()["detail"]


def test_interval_end_is_refused_for_a_schedule_that_was_cancelled(idle_client: httpx2.Client, daily: int) -> None:
    [first] = runs(idle_client, daily)
    assert idle_client.post(f"/tasks/{daily}/cancel").status_code == 200
    answer = idle_client.post(f"/tasks/{daily}/execute", json={"interval_end": first["due"]}, headers=ASYNC)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/no-schedule")
    assert idle_client.post(f"/tasks/{daily}/execute", headers=ASYNC).status_code == 202


def test_request_for_an_interval_is_carried_out_once_for_its_key(idle_client: httpx2.Client, daily: int) -> None:
    [first] = runs(idle_client, daily)
    headers = {**ASYNC, "Idempotency-Key": f"again {daily}"}
    body = {"interval_end": first["due"]}
    answers = [idle_client.post(f"/tasks/{daily}/execute", json=body, headers=headers) for _ in range(2)]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
    assert idle_client.post(f"/tasks/{daily}/execute", headers=headers).status_code == 422


def test_is_in_interval_is_refused_with_incremental(idle_client: httpx2.Client) -> None:
    rule = {"field_name": "timestamp", "field_type": "date", "operator": "is_in_interval"}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1764, "rules": [rule]}
    body = export_body(segment=segment)
    body["target"]["incremental"] = True
    stored = idle_client.post("/segments", json={"chain": 1764, "name": "new", "segment": segment}).json()["id"]
    named = {**body, "trigger": {"once": body["trigger"]["once"], "segment_id": stored}}
    for refused, pointer in ((body, "/trigger/segment/rules/0/operator"), (named, "/trigger/segment_id")):
        answer = idle_client.post("/tasks", json=refused)
        assert answer.status_code == 400
        [violation] = answer.json()["errors"]
        assert violation["pointer"] == pointer
        assert "cannot be combined with `incremental`" in violation["detail"]
