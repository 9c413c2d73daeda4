"""Runs and their progress."""

import asyncio
from datetime import datetime
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.database.connect import open_pool
from longshore.exports import ranges as plans
from longshore.exports.catalog import load
from longshore.tasks import attempts, requests, run_ends
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message
from tests.exports.engine import export
from tests.results.test_bucket import DONE_RUN
from tests.service import CHAIN, Longshore, downloaded, ended, export_body


def test_run_records_its_result_and_its_columns(small_client: httpx2.Client) -> None:
    rule = {"field_name": "timestamp", "field_type": "date", "operator": "relative_more_than"}
    rule |= {"time_factor": "day", "time_amount": 30}  # type: ignore[dict-item]
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1765, "rules": [rule]}
    body = export_body("jsonl", 1765, segment=segment)
    body["target"]["fields"] = ["timestamp", {"name": "amount", "as": "sum"}]
    task = ended(small_client, small_client.post("/tasks", json=body).json()["id"])
    [run] = small_client.get(f"/tasks/{task['id']}/runs").json()
    content = downloaded(small_client, task["id"])
    assert (run["run"], run["state"], run["result"]) == (1, "DONE", task["result"])
    assert (run["rows"], run["bytes"]) == (content.count(b"\n"), len(content))
    assert run["fields"] == [{"name": "timestamp", "type": "date"}, {"name": "sum", "type": "number"}]
    assert 0 < run["seconds"] < 60
    resolved = run["segment"]["rules"][0]
    assert {key: resolved[key] for key in rule} == rule
    assert resolved["to"] < run["began"]
    assert datetime.fromisoformat(run["began"]) <= datetime.fromisoformat(run["snapshot"])
    assert run["sha256"] == small_client.get(f"/tasks/{task['id']}/runs/1/manifest").json()["sha256"]


def test_run_that_failed_or_goes_on_has_no_result(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    task = TaskId(idle_client.post("/tasks", json=export_body(once="2199-01-01T00:00:00Z")).json()["id"])

    async def steps() -> list[dict[str, Any]]:
        found = []
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            async with pool.acquire() as connection, connection.transaction():
                await requests.execute(connection, ChainId(CHAIN), task)
            message = Message(task, await pool.fetchval("select attempt from longshore.tasks where id = $1", task))
            await attempts.begin(pool, message)
            for exact in (False, True):
                await attempts.report(pool, message, 10, 100, 40, exact=exact)
                found.append(idle_client.get(f"/tasks/{task}/progress").json())
            found += idle_client.get(f"/tasks/{task}/runs").json()
            await run_ends.fail(pool, message, "failed: a test")
        return found

    estimate, exact, run = asyncio.run(steps())
    assert (estimate["rows_expected"], estimate["rows_expected_is"]) == (40, "estimate")
    assert (exact["rows_expected"], exact["rows_expected_is"]) == (40, "exact")
    assert (exact["rows"], exact["percent"]) == (10, 25.0)
    assert (run["seconds"], run["fields"], run["segment"], run["result"]) == (None, None, None, None)
    [run] = idle_client.get(f"/tasks/{task}/runs").json()
    assert (run["state"], run["fields"], run["segment"]) == ("ERROR", None, None)
    assert run["seconds"] >= 0


def test_rows_are_counted_where_that_is_cheap_and_estimated_elsewhere(
    service: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = load()["wallet-ledger"]
    _, copied, cut = asyncio.run(export(service.url, index, "csv"))
    assert (cut.expected_rows, cut.exact) == (copied.rows, True)
    monkeypatch.setattr(plans, "CHEAP_COST", 0)
    _, copied, cut = asyncio.run(export(service.url, index, "csv"))
    assert cut.exact is False
    assert cut.expected_rows is not None
    assert 0.5 < cut.expected_rows / copied.rows < 2  # the planner's own figures


def test_deliver_answers_a_page_of_the_deliveries_with_a_link_to_the_next(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    location = f"{CHAIN}/{task}/1/Wallet_Export-{task}.csv"
    path = idle_service.data / "results" / location
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    idle_service.sql(DONE_RUN, task, location)
    target = {**export_body()["target"], "deliver": [{"destination": f"place-{number}"} for number in range(20)]}
    idle_service.sql("update longshore.tasks set target = $2 where id = $1", task, msgspec.json.encode(target).decode())
    assert len(idle_client.post(f"/tasks/{task}/runs/1/deliver").json()) == 20
    idle_service.sql("update longshore.run_deliveries set state = 'delivered', due_at = null where task_id = $1", task)
    answer = idle_client.post(f"/tasks/{task}/runs/1/deliver")
    assert (answer.status_code, len(answer.json())) == (202, 25), answer.text
    assert answer.links["next"]["url"] == f"{answer.headers['location']}?limit=25&offset=25"
    assert len(idle_client.get(answer.links["next"]["url"]).json()) == 15
    idle_service.sql("delete from longshore.tasks where id = $1", task)
