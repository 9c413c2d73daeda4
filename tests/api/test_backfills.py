"""Backfills over HTTP: what is accepted and refused, and the progress that clients see."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.database.connect import open_pool
from tests.answers import problem, violations
from tests.run_steps import play
from tests.service import Longshore, export_body
from tests.tasks.test_backfills import tick
from tests.waiting import until

CHAIN = 8812


@pytest.fixture
def client(idle_service: Longshore) -> Iterator[httpx2.Client]:
    with idle_service.client(Level.ADMIN, chain=CHAIN) as client:
        yield client
    idle_service.sql("delete from longshore.tasks where chain_id = $1", CHAIN)
    idle_service.sql("delete from longshore.pgqueuer")


@pytest.fixture
def ticked(idle_service: Longshore) -> Callable[[], None]:
    """Take one step of the scheduler of the service without a worker."""

    def step() -> None:
        async def within() -> None:
            async with open_pool(idle_service.url, size=1, name="test") as pool:
                await tick(pool)

        asyncio.run(within())

    return step


def scheduled(client: httpx2.Client, target: dict[str, Any] | None = None, **trigger: Any) -> int:
    body = export_body(chain=CHAIN, **{"once": "2126-01-01T03:00:00Z", "repeat": "daily", **trigger})
    body["target"] |= target or {}
    answer = client.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


MAY = {"start": "2026-05-01T03:00:00Z", "end": "2026-05-04T12:00:00+02:00"}


def test_backfill_is_accepted_and_shows_its_progress(
    idle_service: Longshore, client: httpx2.Client, ticked: Callable[[], None]
) -> None:
    task = scheduled(client)
    answer = client.post(f"/tasks/{task}/backfill", json=MAY)
    assert (answer.status_code, answer.json()) == (202, {"id": 1, "runs": 3})
    assert answer.headers["location"] == f"/tasks/{task}/backfills"
    found = client.get(f"/tasks/{task}").json()
    assert found["logs"][-1]["msg"].startswith("backfill 1 of 3 runs requested by token ")
    ticked()
    play(idle_service, task, "begin", "finish")
    ticked()
    play(idle_service, task, "begin", "fail")
    [shown] = client.get(f"/tasks/{task}/backfills").json()
    assert {key: shown[key] for key in ("id", "state", "runs", "done", "failed", "left", "ended")} == {
        "id": 1, "state": "INPROGRESS", "runs": 3, "done": 1, "failed": 1, "left": 1, "ended": None,
    }  # fmt: skip
    assert (shown["start"], shown["end"]) == ("2026-05-01T03:00:00Z", "2026-05-04T10:00:00Z")
    assert shown["next"] == "2026-05-04T03:00:00Z"
    assert shown["created_by"].startswith("token ")
    ticked()
    assert client.delete(f"/tasks/{task}/backfills/1").status_code == 204
    assert client.get(f"/tasks/{task}/backfills").json()[0]["state"] == "CANCELLED"
    assert client.get(f"/tasks/{task}").json()["logs"][-1]["msg"].startswith("backfill 1 is ended by token ")
    before = client.get(f"/tasks/{task}").headers["etag"]
    assert client.delete(f"/tasks/{task}/backfills/1").status_code == 204
    assert client.get(f"/tasks/{task}").headers["etag"] == before
    runs = client.get(f"/tasks/{task}/runs").json()
    assert [(run["due"], run["backfill"]) for run in runs] == [
        ("2026-05-03T03:00:00Z", 1), ("2026-05-02T03:00:00Z", 1),
    ]  # fmt: skip
    assert runs[1]["interval"] == {"start": "2026-05-01T03:00:00Z", "end": "2026-05-02T03:00:00Z"}
    entries = client.get("/audit", params={"object": f"task {task}"}).json()
    assert [entry["action"] for entry in entries] == ["task.backfill.end", "task.backfill", "task.create"]
    assert entries[1]["details"] == {**MAY, "backfill": 1, "runs": 3}


def test_times_that_have_not_come_are_left_out_of_a_backfill(client: httpx2.Client) -> None:
    task = scheduled(client, once=None, repeat=None, cron="0 0 1 * *")
    now = datetime.now(UTC)
    wanted = {"start": (now - timedelta(days=70)).isoformat(), "end": "2126-01-01T00:00:00Z"}
    assert client.post(f"/tasks/{task}/backfill", json=wanted).json()["runs"] in (2, 3)


def test_repeated_request_for_a_backfill_with_its_key_makes_one(client: httpx2.Client) -> None:
    task = scheduled(client)
    answers = [client.post(f"/tasks/{task}/backfill", json=MAY, headers={"Idempotency-Key": "again"}) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"id": 1, "runs": 3}] * 2
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
    assert len(client.get(f"/tasks/{task}/backfills").json()) == 1
    other = client.post(f"/tasks/{task}/backfill", json={**MAY, "end": "2026-06-01T00:00:00Z"},
                        headers={"Idempotency-Key": "again"})  # fmt: skip
    problem(other, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"/start", "/end"}),
        ({**MAY, "runs": 3}, {"/runs"}),
        ({"start": "2026-05-01", "end": "soon"}, {"/start", "/end"}),
        ({"start": "2026-05-01T00:00:00", "end": "2026-06-01T00:00:00Z"}, {"/start"}),
        ({"start": "1800-05-01T00:00:00Z", "end": "9999-06-01T00:00:00Z"}, {"/start", "/end"}),
        ({"start": "2026-05-02T00:00:00Z", "end": "2026-05-02T00:00:00Z"}, {"/end"}),
        ({"start": "2026-05-02T04:00:00Z", "end": "2026-05-02T05:00:00Z"}, {"/end"}),
        ({"start": "2126-05-02T04:00:00Z", "end": "2127-05-02T05:00:00Z"}, {"/end"}),
        ({"start": "2020-05-02T04:00:00Z", "end": "2026-05-02T05:00:00Z"}, {"/end"}),
    ],
)
def test_backfill_of_an_invalid_range_is_refused(client: httpx2.Client, body: dict[str, str], wrong: set[str]) -> None:
    task = scheduled(client)
    assert set(violations(client.post(f"/tasks/{task}/backfill", json=body))) == wrong
    assert client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-1"'


def test_refused_backfill_names_the_end_that_fits(client: httpx2.Client) -> None:
    task = scheduled(client)
    wanted = {"start": "2020-01-01T03:00:00Z", "end": "2026-01-01T00:00:00Z"}
    message = violations(client.post(f"/tasks/{task}/backfill", json=wanted))["/end"]
    end = message.rpartition(" ")[2]
    assert end == "2022-09-27T03:00:00Z"
    assert client.post(f"/tasks/{task}/backfill", json={**wanted, "end": end}).json()["runs"] == 1000


def test_backfill_is_refused_without_a_schedule_and_for_incremental_tasks(client: httpx2.Client) -> None:
    once = scheduled(client, repeat=None)
    problem(client.post(f"/tasks/{once}/backfill", json=MAY), "no-schedule")
    cancelled = scheduled(client)
    client.post(f"/tasks/{cancelled}/cancel")
    problem(client.post(f"/tasks/{cancelled}/backfill", json=MAY), "no-schedule")
    incremental = scheduled(client, {"incremental": True})
    problem(client.post(f"/tasks/{incremental}/backfill", json=MAY), "no-intervals")
    problem(client.delete(f"/tasks/{incremental}/backfills/1"), "backfill-not-found")
    assert client.get(f"/tasks/{incremental}/backfills").json() == []


def test_times_that_were_missed_at_the_end_of_a_schedule_can_be_backfilled(
    idle_service: Longshore, client: httpx2.Client, ticked: Callable[[], None]
) -> None:
    task = scheduled(client)
    over = '{"once":"2026-05-01T03:00:00Z","repeat":"daily","until":"2026-05-04T03:00:00Z"}'
    idle_service.sql("update longshore.tasks set trigger = $2, due_at = '2026-05-02T03:00Z' where id = $1", task, over)
    ticked()
    assert client.get(f"/tasks/{task}").json()["logs"][0]["msg"].endswith("was missed, and no time is left")
    wanted = {"start": "2026-05-01T03:00:00Z", "end": "2026-06-01T03:00:00Z"}
    assert client.post(f"/tasks/{task}/backfill", json=wanted).json() == {"id": 1, "runs": 3}
    for _ in range(3):
        ticked()
        play(idle_service, task, "begin", "finish")
    ticked()
    assert client.get(f"/tasks/{task}/backfills").json()[0]["state"] == "DONE"
    assert len(client.get(f"/tasks/{task}/runs").json()) == 3, "the missed times are not due again"
    assert "retry-after" not in client.get(f"/tasks/{task}").headers


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/cancel", None),
        ("PATCH", "", {"trigger": {"once": "2126-01-01T04:00:00Z", "repeat": "daily"}}),
        ("PATCH", "", {"target": {**export_body()["target"], "incremental": True}}),
    ],
)
def test_end_of_the_schedule_or_of_its_intervals_ends_the_backfills(
    client: httpx2.Client, ticked: Callable[[], None], method: str, path: str, body: Any
) -> None:
    task = scheduled(client)
    assert client.post(f"/tasks/{task}/backfill", json=MAY).status_code == 202
    ticked()
    assert client.request(method, f"/tasks/{task}{path}", json=body).status_code == 200
    assert [each["state"] for each in client.get(f"/tasks/{task}/backfills").json()] == ["CANCELLED"]
    log = client.get(f"/tasks/{task}", params={"log_limit": 100}).json()["logs"]
    assert log[-1]["msg"].startswith("backfill 1 is ended by token ")
    ticked()
    progress = client.get(f"/tasks/{task}/progress").json()
    assert (progress["run"], progress["queue_place"]) == (0, None)


def test_other_change_of_a_task_leaves_its_backfill(client: httpx2.Client) -> None:
    task = scheduled(client)
    assert client.post(f"/tasks/{task}/backfill", json=MAY).status_code == 202
    assert client.patch(f"/tasks/{task}", json={"desc": "another"}).status_code == 200
    assert client.get(f"/tasks/{task}/backfills").json()[0]["left"] == 3


def test_pages_of_backfills_are_linked(client: httpx2.Client) -> None:
    task = scheduled(client)
    for _ in range(3):
        client.post(f"/tasks/{task}/backfill", json=MAY)
    page = client.get(f"/tasks/{task}/backfills", params={"limit": 2})
    assert [each["id"] for each in page.json()] == [3, 2]
    assert 'rel="next"' in page.headers["link"]
    assert [each["id"] for each in client.get(f"/tasks/{task}/backfills", params={"offset": 2}).json()] == [1]


def test_backfill_of_an_export_has_the_rows_of_its_intervals(service: Longshore, small_client: httpx2.Client) -> None:
    newest = service.sql("select max(timestamp) as at from loyalty.wallet_ledger where chain_id = 1765")[0]["at"]
    last = newest.replace(hour=0, minute=0, second=0, microsecond=0)
    rule = {"field_name": "timestamp", "field_type": "date", "operator": "is_in_interval"}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1765, "rules": [rule]}
    body = export_body(chain=1765, once="2126-01-01T00:00:00Z", repeat="daily", segment=segment)
    task = small_client.post("/tasks", json=body).json()["id"]
    wanted = {"start": (last - timedelta(days=3)).isoformat(), "end": last.isoformat()}
    assert small_client.post(f"/tasks/{task}/backfill", json=wanted).json()["runs"] == 3

    def ended() -> bool:
        [shown] = small_client.get(f"/tasks/{task}/backfills").json()
        return bool(shown["state"] == "DONE")

    until(ended, "the backfill to end")
    runs = small_client.get(f"/tasks/{task}/runs").json()
    assert [run["state"] for run in runs] == ["DONE"] * 3
    count = (
        "select count(*) as n from loyalty.wallet_ledger where chain_id = 1765 and timestamp >= $1 and timestamp < $2"
    )
    for number, run in enumerate(runs):
        edges = (last - timedelta(days=number + 1), last - timedelta(days=number))
        assert run["rows"] == service.sql(count, *edges)[0]["n"]
    assert small_client.post(f"/tasks/{task}/cancel").status_code == 200
