"""Exports of a schedule that are caught up together: each for its own time, and all rows in one of them."""

import csv
import io
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from tests.answers import problem
from tests.service import Longshore, ended, export_body
from tests.waiting import until

FIRST = datetime.fromisoformat("2024-06-30T22:00:00Z")
LATE = "update longshore.tasks set due_at = $2 where id = $1"
IN_TIME = "select due_at > now() from longshore.tasks where id = $1"
IDS = "select id from loyalty.wallet_ledger where chain_id = 1765 and timestamp < $1"
RELATIVE = {"operator": "relative_less_than", "time_factor": "month", "time_amount": 3}


@pytest.mark.parametrize("operator", [{"operator": "is_in_interval"}, RELATIVE], ids=["interval", "relative"])
def test_runs_that_are_caught_up_years_later_take_each_row_once(
    service: Longshore, small_client: httpx2.Client, operator: dict[str, Any]
) -> None:
    rule = {"field_name": "timestamp", "field_type": "date", **operator}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1765, "rules": [rule]}
    before_now = small_client.post("/segments/preview", json={"segment": segment}).json()["rows"]
    trigger = {"cron": "0 0 1 */3 *", "timezone": "Europe/Amsterdam", "catch_up": "all", "segment": segment}
    task = small_client.post("/tasks", json={**export_body(chain=1765), "trigger": trigger}).json()
    service.sql(LATE, task["id"], FIRST)  # as if the service had been down since then
    until(lambda: service.sql(IN_TIME, task["id"])[0][0], "all missed runs", timeout=120)
    found = small_client.get(f"/tasks/{task['id']}/runs", params={"limit": 100}).json()[::-1]
    assert {run["state"] for run in found} == {"DONE"}
    assert len(found) > 8
    assert datetime.fromisoformat(found[0]["due"]) == FIRST
    assert [run["interval"]["start"] for run in found] == [None, *(run["due"] for run in found[:-1])]
    taken: Counter[str] = Counter()
    for run in found:
        manifest = small_client.get(f"/tasks/{task['id']}/runs/{run['run']}/manifest").json()
        assert (manifest["due"], manifest["interval"]) == (run["due"], run["interval"])
        assert manifest["segment"]["rules"][0]["to"] == run["interval"]["end"]
        taken.update(_ids(small_client, task["id"], run["run"]))
    expected = service.sql(IDS, datetime.fromisoformat(found[-1]["interval"]["end"]))
    assert taken == Counter({str(row["id"]): 1 for row in expected})
    if operator is not RELATIVE:
        assert before_now == len(service.sql(IDS, datetime.now(UTC))), "without a start, until now"
    again = small_client.post(f"/tasks/{task['id']}/execute", json={"interval_end": found[4]["due"]})
    assert again.json()["code"] == "DONE"
    newest = small_client.get(f"/tasks/{task['id']}/runs").json()[0]
    assert (newest["due"], newest["interval"], newest["sha256"]) == (None, found[4]["interval"], found[4]["sha256"])
    assert newest["rows"] == found[4]["rows"] > 0
    assert small_client.delete(f"/tasks/{task['id']}").status_code == 204


def test_stored_segment_that_increments_cannot_follow_ends_the_next_run_and_refuses_changes_of_the_task(
    small_client: httpx2.Client,
) -> None:
    def segment(operator: dict[str, Any]) -> dict[str, Any]:
        rule = {"field_name": "timestamp", "field_type": "date", **operator}
        rules = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1765, "rules": [rule]}
        return {"chain": 1765, "name": "recent", "segment": rules}

    stored = small_client.post("/segments", json=segment(RELATIVE)).json()["id"]
    body = export_body(chain=1765, segment_id=stored)
    body["target"]["incremental"] = True
    task = small_client.post("/tasks", json=body).json()["id"]
    assert ended(small_client, task)["state"]["code"] == "DONE"
    assert small_client.put(f"/segments/{stored}", json=segment({"operator": "is_in_interval"})).status_code == 200
    refused = problem(small_client.patch(f"/tasks/{task}", json={"desc": "another"}), "bad-request")
    [violation] = refused["errors"]
    assert violation["pointer"] == "/trigger/segment_id"
    assert "cannot be combined with `incremental`" in violation["detail"]
    assert small_client.post(f"/tasks/{task}/execute").json()["code"] == "ERROR"
    message = ended(small_client, task)["logs"][-2]["msg"]
    assert message.startswith("failed: the segment's /rules/0 uses `is_in_interval`"), message
    whole = {**body["target"], "incremental": False}
    assert small_client.patch(f"/tasks/{task}", json={"target": whole}).status_code == 200
    assert small_client.patch(f"/tasks/{task}", json={"target": body["target"]}).status_code == 400
    assert small_client.put(f"/segments/{stored}", json=segment(RELATIVE)).status_code == 200
    assert small_client.patch(f"/tasks/{task}", json={"target": body["target"]}).status_code == 200
    assert small_client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"


def _ids(client: httpx2.Client, task: int, run: int) -> list[str]:
    url = client.get(f"/tasks/{task}/runs/{run}/download_url").json()["url"]
    return [row["id"] for row in csv.DictReader(io.StringIO(client.get(url).text))]
