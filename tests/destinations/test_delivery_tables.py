"""Deliveries to tables, and of increments: rows arrive once, and the watermark waits for them."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.destinations.folder import LINES
from tests.destinations.places import Place, add_place, created, delivered_body, deliveries_of, reached, settled
from tests.faults.held import messages
from tests.service import Longshore, ended, export_body

CHAIN = 1765
NEVER = "2126-05-26T12:00:00Z"


@pytest.fixture
def tables(service: Longshore, tmp_path: Path) -> Place:
    return add_place(service, tmp_path, "folder-table", CHAIN)


def run(client: httpx2.Client, task: int, state: str = "DONE") -> dict[str, Any]:
    """Run a task once more, to its end."""
    before = client.get(f"/tasks/{task}/runs").json()
    answer = client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    while client.get(f"/tasks/{task}/runs").json()[:1] == before[:1]:
        pass
    reached(client, task, state)
    found: dict[str, Any] = client.get(f"/tasks/{task}/runs").json()[0]
    return found


def test_table_takes_the_rows_with_the_types_of_the_source_and_a_line_of_the_run(
    small_client: httpx2.Client, tables: Place
) -> None:
    entry = {"destination": tables.name, "table": "ledger", "mode": "append"}
    task = ended(small_client, created(small_client, delivered_body(entry, chain=CHAIN)))
    assert task["state"]["code"] == "DONE", task["logs"]
    [line] = tables.noted(LINES)
    one = small_client.get(f"/tasks/{task['id']}/runs/1").json()
    assert (line["task"], line["run"], line["rows"], line["mode"]) == (task["id"], 1, one["rows"], "append")
    assert (line["watermark_from_hash"], line["watermark_to_hash"], line["full"]) == (None, None, False)
    assert list(line["columns"]) == [field["name"] for field in one["fields"]]
    assert line["columns"]["amount"].startswith("numeric")
    assert line["key"] == ["id"]
    (delivery,) = deliveries_of(small_client, task["id"])
    assert delivery["evidence"] == {"rows": one["rows"]}
    assert (delivery["table"], delivery["path"]) == ("ledger", None)
    assert delivery["address"].endswith("/ledger")


def test_table_that_took_other_rows_ends_the_run_in_error_that_says_how_many(
    small_client: httpx2.Client, tables: Place
) -> None:
    tables.faults(corrupt=True)
    entry = {"destination": tables.name, "table": "ledger", "mode": "replace"}
    task = ended(small_client, created(small_client, delivered_body(entry, chain=CHAIN)))
    assert task["state"]["code"] == "ERROR"
    rows = small_client.get(f"/tasks/{task['id']}/runs/1").json()["rows"]
    assert f"took {rows - 1:,} rows, and the result has {rows:,}" in deliveries_of(small_client, task["id"])[0]["error"]


def test_table_that_has_the_increment_with_other_rows_takes_nothing_and_is_delivered(
    small_client: httpx2.Client, tables: Place
) -> None:
    entry = {"destination": tables.name, "table": "ledger", "mode": "append"}
    task = created(small_client, delivered_body(entry, chain=CHAIN))
    reached(small_client, task, "DONE")
    [line] = tables.noted(LINES)
    # As from a run of the same watermarks, some of whose rows have changed since, so that this one has fewer.
    (tables.folder / LINES).write_text(json.dumps({**line, "rows": line["rows"] + 2}) + "\n")
    assert small_client.post(f"/tasks/{task}/runs/1/deliver").status_code == 202
    assert {each["state"] for each in settled(small_client, task, 1)} == {"delivered"}
    assert deliveries_of(small_client, task, 1)[-1]["evidence"] == {"rows": line["rows"] + 2, "already_loaded": True}


def test_earlier_run_is_not_delivered_to_a_table_after_a_later_one(small_client: httpx2.Client, tables: Place) -> None:
    entry = {"destination": tables.name, "table": "ledger", "mode": "replace"}
    task = created(small_client, delivered_body(entry, chain=CHAIN))
    reached(small_client, task, "DONE")
    run(small_client, task)
    refused = small_client.post(f"/tasks/{task}/runs/1/deliver")
    assert refused.status_code == 409
    assert "Run 2, which is later, has been delivered to ledger" in refused.json()["detail"]
    assert small_client.post(f"/tasks/{task}/runs/2/deliver").status_code == 202
    assert [each["state"] for each in settled(small_client, task, 2)] == ["delivered", "delivered"]
    assert deliveries_of(small_client, task, 2)[-1]["evidence"]["already_loaded"] is True
    assert [line["run"] for line in tables.noted(LINES)] == [1, 2]


def test_earlier_run_is_not_delivered_to_a_table_that_a_later_one_is_on_its_way_to(
    small_client: httpx2.Client, tables: Place
) -> None:
    entry = {"destination": tables.name, "table": "ledger", "mode": "replace"}
    task = created(small_client, delivered_body(entry, chain=CHAIN))
    reached(small_client, task, "DONE")
    tables.faults(unavailable=1.0)
    assert small_client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"}).status_code == 202
    while not (listed := small_client.get(f"/tasks/{task}/runs/2/deliveries")).is_success or not listed.json():
        pass
    refused = small_client.post(f"/tasks/{task}/runs/1/deliver")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/later-run-delivered")
    assert "Run 2, which is later, is being delivered to ledger" in refused.json()["detail"]
    tables.faults()
    reached(small_client, task, "DONE")
    assert [line["run"] for line in tables.noted(LINES)] == [1, 2]


def test_increment_is_acknowledged_once_delivered_and_given_again_until_then(
    service: Longshore, small_client: httpx2.Client, tables: Place, tmp_path: Path
) -> None:
    files = add_place(service, tmp_path, chain=CHAIN)
    entries = [{"destination": tables.name, "table": "ledger", "mode": "append"}, {"destination": files.name}]
    files.faults(refused="no right")
    body = delivered_body(*entries, target={"incremental": "on_ack"}, once=NEVER, chain=CHAIN)
    task = created(small_client, body)
    first = run(small_client, task, "ERROR")
    assert first["increment"]["acknowledged"] is False
    assert small_client.post(f"/tasks/{task}/runs/1/ack").status_code == 409, (
        "only a run that is DONE can be acknowledged"
    )
    files.faults()
    second = run(small_client, task)
    assert (second["sha256"], second["increment"]["to"]) == (first["sha256"], first["increment"]["to"])
    assert second["increment"]["acknowledged"] is True
    assert small_client.get(f"/tasks/{task}/runs/1").json()["increment"]["acknowledged"] is True
    lines = tables.noted(LINES)
    assert {(line["watermark_from_hash"], line["watermark_to_hash"]) for line in lines} == {
        (None, first["increment"]["to"])
    }
    third = run(small_client, task)
    assert third["increment"]["from"] == second["increment"]["to"]


def test_full_run_takes_all_rows_in_place_of_an_increment_that_waits(small_client: httpx2.Client) -> None:
    body = export_body(chain=CHAIN, once=NEVER)
    body["target"]["incremental"] = "on_ack"
    task = created(small_client, body)
    first = run(small_client, task)
    assert small_client.post(f"/tasks/{task}/runs/1/ack").status_code == 200
    second = run(small_client, task)
    assert second["increment"]["from"] == first["increment"]["to"]
    asked = small_client.post(f"/tasks/{task}/execute", json={"full": True})
    assert (asked.status_code, asked.json()["code"]) == (200, "DONE")
    third = small_client.get(f"/tasks/{task}/runs/3").json()
    assert (third["rows"], third["increment"]["from"]) == (first["rows"], None)
    assert small_client.get(f"/tasks/{task}/runs/2").json()["increment"]["acknowledged"] is None
    assert small_client.post(f"/tasks/{task}/runs/2/ack").status_code == 409
    message = messages(small_client.get(f"/tasks/{task}", params={"log_limit": 1000}).json())
    assert any(each.startswith("a full run requested by token ") for each in message)
    assert small_client.post(f"/tasks/{task}/runs/3/ack").status_code == 200
    assert run(small_client, task)["increment"]["from"] == third["increment"]["to"]


def test_watermark_moves_when_an_increment_has_arrived_and_only_from_where_it_began(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    files = add_place(service, tmp_path, chain=CHAIN)
    files.faults(refused="no right")
    body = delivered_body({"destination": files.name}, target={"incremental": True}, once=NEVER, chain=CHAIN)
    task = created(small_client, body)
    assert run(small_client, task, "ERROR")["increment"]["from"] is None
    assert run(small_client, task, "ERROR")["increment"]["from"] is None, "the rows of the first run have not arrived"
    files.faults()
    assert small_client.post(f"/tasks/{task}/runs/2/deliver").status_code == 202
    reached(small_client, task, "DONE")
    second = small_client.get(f"/tasks/{task}/runs/2").json()
    third = run(small_client, task)
    assert third["increment"]["from"] == second["increment"]["to"]
    assert small_client.post(f"/tasks/{task}/runs/1/deliver").status_code == 202
    settled(small_client, task)
    assert small_client.get(f"/tasks/{task}/runs/1").json()["state"] == "DONE"
    assert run(small_client, task)["increment"]["from"] == third["increment"]["to"], "the watermark had moved on"
