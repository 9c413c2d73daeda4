"""Tables over HTTP: a destination is made, a task delivers to it, and the rows are in the customer's database."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest

from longshore.access.tokens import Level
from tests.debian_postgres import DebianPostgres
from tests.destinations.places import created, deliveries_of, reached
from tests.destinations.warehouse import Warehouse
from tests.service import Longshore, ended, export_body, free_port
from tests.waiting import until


def make(service: Longshore, warehouse: Warehouse, chain: int = 1764, **changes: Any) -> str:
    """Make a destination of the chain and return its name."""
    name = f"tables-{uuid4().hex[:12]}"
    settings = {**msgspec.to_builtins(warehouse.settings), **changes}
    body = {"name": name, "kind": "postgresql", "settings": settings, "secret": msgspec.to_builtins(warehouse.secret)}
    with service.client(Level.ADMIN, chain=chain) as admin:
        tested = admin.post("/destinations/test", json=body)
        assert tested.json()["ok"] is not bool(changes), tested.text
        answer = admin.post("/destinations", json=body)
        assert answer.status_code == 201, answer.text
        assert "secret" not in answer.json()
    return name


def body_of(destination: str, mode: str, chain: int, **target: Any) -> dict[str, Any]:
    body = export_body(chain=chain)
    body["target"] |= {"deliver": [{"destination": destination, "table": "ledger", "mode": mode}], **target}
    return body


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_of_a_run_are_in_the_table_once_the_task_is_done(
    service: Longshore, small_client: httpx2.Client, warehouse: Warehouse, form: str
) -> None:
    name = make(service, warehouse, 1765)
    task = ended(small_client, created(small_client, body_of(name, "append", 1765, export_format=form)))
    assert task["state"]["code"] == "DONE", task["logs"]
    types = warehouse.types("ledger")
    assert types["amount"].startswith("numeric")
    assert types["timestamp"] == "timestamp with time zone"
    source = "loyalty.wallet_ledger where chain_id = 1765"
    columns = ", ".join(f'"{column}"' for column in types)
    expected = service.sql(f"select {columns} from {source} order by id")
    assert [tuple(row) for row in expected] == warehouse.sql(f"select {columns} from ledger order by id")
    (listed,) = deliveries_of(small_client, task["id"])
    assert (listed["state"], listed["error"], listed["evidence"]["rows"]) == ("delivered", None, 2000)
    manifest = small_client.get(f"/tasks/{task['id']}/runs/1/manifest").json()
    assert listed["evidence"]["totals"] == manifest["totals"]
    assert listed["address"] == f"{warehouse.settings.address}.ledger"
    line = warehouse.sql("select task, run, rows, encode(sha256, 'hex') from _longshore_deliveries")
    assert line == [(task["id"], 1, 2000, manifest["sha256"])]


def test_delivery_that_is_refused_says_what_to_change_and_succeeds_afterwards(
    service: Longshore, small_client: httpx2.Client, warehouse: Warehouse
) -> None:
    name = make(service, warehouse, 1765)
    warehouse.sql("create table ledger (id text[])")
    task = ended(small_client, created(small_client, body_of(name, "replace", 1765)))
    assert task["state"]["code"] == "ERROR"
    (listed,) = deliveries_of(small_client, task["id"])
    assert 'column "id" of' in listed["error"]
    assert "is text[] and the load's is int8" in listed["error"]
    warehouse.sql("drop table ledger")
    assert small_client.post(f"/tasks/{task['id']}/runs/1/deliver").status_code == 202
    reached(small_client, task["id"], "DONE")
    assert warehouse.sql("select count(*) from ledger") == [(2000,)]


@pytest.mark.parametrize("options", [{"csv": {"profile": "bigquery"}}, {"compression": "gzip"}])
def test_result_of_earlier_csv_options_is_not_loaded_into_a_table(
    service: Longshore, small_client: httpx2.Client, warehouse: Warehouse, options: dict[str, Any]
) -> None:
    name = make(service, warehouse, 1765)
    body = export_body(chain=1765)
    plain = body_of(name, "append", 1765)["target"]
    body["target"] |= options
    task = ended(small_client, created(small_client, body))
    assert small_client.patch(f"/tasks/{task['id']}", json={"target": plain}).status_code == 200
    assert small_client.post(f"/tasks/{task['id']}/runs/1/deliver").status_code == 202
    until(lambda: deliveries_of(small_client, task["id"])[0]["state"] == "failed", "the delivery to fail")
    (listed,) = deliveries_of(small_client, task["id"])
    assert "csv without `compression` and other `csv` options" in listed["error"]
    assert warehouse.sql("select to_regclass('ledger')") == [(None,)]


def test_changes_are_merged_run_after_run(new_service: Callable[..., Longshore], warehouse: Warehouse) -> None:
    service = new_service(2000, outbound_allow="127.0.0.1")
    service.start("worker")
    service.start_api()
    name = make(service, warehouse)
    changes = {"incremental": "on_ack", "deletes": True, "export_format": "parquet"}
    with service.client() as client:
        task = created(client, body_of(name, "merge", 1764, **changes))
        for run, change in enumerate(
            ("select 1",
             "delete from loyalty.wallet_ledger where chain_id = 1764 and id % 7 = 0",
             "update loyalty.wallet_ledger set amount = amount + 1 where chain_id = 1764 and id % 5 = 0"),
            1,
        ):  # fmt: skip
            if run > 1:
                service.sql(change)
                assert client.post(f"/tasks/{task}/execute").status_code in (200, 202)
            found = ended(client, task)
            assert found["state"]["code"] == "DONE", found["logs"]
            columns = ", ".join(f'"{column}"' for column in warehouse.types("ledger"))
            expected = service.sql(f"select {columns} from loyalty.wallet_ledger where chain_id = 1764 order by id")
            assert [tuple(row) for row in expected] == warehouse.sql(f"select {columns} from ledger order by id")
            manifest = client.get(f"/tasks/{task}/runs/{run}/manifest").json()
            assert manifest["full"] is (run == 1)
            assert manifest["mirror"]["rows"] == len(expected)
        lines = warehouse.sql("select run, mark_from is null, mark_to is null from _longshore_deliveries order by run")
        assert lines == [(1, True, False), (2, False, False), (3, False, False)]

        warehouse.sql("delete from ledger where id % 11 = 0")
        service.sql("update loyalty.wallet_ledger set amount = amount + 1 where chain_id = 1764 and id % 3 = 0")
        assert client.post(f"/tasks/{task}/execute").status_code in (200, 202)
        assert ended(client, task)["state"]["code"] == "ERROR"
        assert "and the copy must have" in deliveries_of(client, task, 4)[0]["error"]
        assert client.post(f"/tasks/{task}/execute", json={"full": True}).status_code in (200, 202)
        assert ended(client, task)["state"]["code"] == "DONE"
        assert client.get(f"/tasks/{task}/runs/5").json()["full"] is True
        expected = service.sql("select id, amount from loyalty.wallet_ledger where chain_id = 1764 order by id")
        assert [tuple(row) for row in expected] == warehouse.sql("select id, amount from ledger order by id")


def test_table_that_is_added_to_an_incremental_task_is_filled_by_a_full_run(
    service: Longshore, small_client: httpx2.Client, warehouse: Warehouse
) -> None:
    name = make(service, warehouse, 1765)
    task = created(small_client, body_of(name, "merge", 1765, incremental="on_ack"))
    reached(small_client, task, "DONE")
    entry = {"destination": name, "mode": "merge"}
    target = small_client.get(f"/tasks/{task}").json()["target"]
    target["deliver"] = [entry | {"table": "ledger"}, entry | {"table": "other"}]
    assert small_client.patch(f"/tasks/{task}", json={"target": target}).status_code == 200
    assert small_client.post(f"/tasks/{task}/execute").status_code in (200, 202)
    found = ended(small_client, task)
    assert found["state"]["code"] == "ERROR", "it would be nearly empty"
    states = [(each["table"], each["state"]) for each in deliveries_of(small_client, task, 2)]
    assert states == [("ledger", "delivered"), ("other", "failed")]
    assert f'POST /tasks/{task}/execute with {{"full": true}}' in deliveries_of(small_client, task, 2)[1]["error"]
    assert small_client.post(f"/tasks/{task}/execute", json={"full": True}).status_code in (200, 202)
    reached(small_client, task, "DONE")
    run = small_client.get(f"/tasks/{task}/runs/3").json()
    assert (run["rows"], run["increment"]["from"], run["increment"]["acknowledged"]) == (2000, None, True)
    assert warehouse.sql("select count(*) from other") == warehouse.sql("select count(*) from ledger") == [(2000,)]
    assert small_client.post(f"/tasks/{task}/execute").status_code in (200, 202)
    reached(small_client, task, "DONE")
    assert small_client.get(f"/tasks/{task}/runs/4").json()["increment"]["from"] == run["increment"]["to"]


def test_full_run_is_asked_of_incremental_tasks_alone(small_client: httpx2.Client) -> None:
    task = created(small_client, export_body(chain=1765))
    reached(small_client, task, "DONE")
    refused = small_client.post(f"/tasks/{task}/execute", json={"full": True})
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/not-incremental")


TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial-table.md"
COMMANDS = 6


def test_nightly_table_of_the_tutorial_is_there_after_its_six_commands(
    warehouse_server: DebianPostgres, tmp_path: Path
) -> None:
    page = TUTORIAL.read_text(encoding="utf-8")
    script = "".join(re.findall(r"^ {4}(.*\n)", page, re.M))
    assert len(re.findall(r"^\S", script, re.M)) == COMMANDS
    grants = re.findall(r"^grant .*? to loader;$", page, re.M)
    assert len(grants) == 2
    for grant in grants:
        warehouse_server.sql(grant.replace("to loader", "to encrypted"), database="warehouse")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    in_background = f" > serve.log 2>&1 &\nuntil curl -sf {address}/readyz; do sleep 0.1; done\n"
    for shown, here in (
        ("make install\n", "trap 'kill $(jobs -p); wait' EXIT\n"),
        ("longshore serve\n", f"longshore serve{in_background}"),
        (".venv/bin/", f"{Path(sys.executable).parent}/"),
        ("127.0.0.1:8080", f"127.0.0.1:{port}"),
        ('"port": 5432', f'"port": {warehouse_server.port}'),
        ('"username": "loader"', '"username": "encrypted"'),
        ("the password of loader", "e"),
    ):
        assert shown in script
        script = script.replace(shown, here)
    state = f'curl -s -H "Authorization: Bearer $TOKEN" {address}/tasks/2'
    script += f"\nuntil {state} > task.json; grep -qE 'DONE|ERROR' task.json; do sleep 0.1; done; cat task.json"
    # Without the kinds of other tests, which only work where `tests` can be imported.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"LONGSHORE_DATA": str(tmp_path / "data"), "LONGSHORE_PORT": str(port)}
    command = ["bash", "-euo", "pipefail", "-c", script]
    with (tmp_path / "out").open("wb") as out:
        code = subprocess.run(command, cwd=tmp_path, env=environment, stdout=out, stderr=out, timeout=150).returncode
    message = (tmp_path / "out").read_text()
    try:
        assert code == 0, message
        assert '"code":"DONE"' in message.replace(" ", ""), message
        found = warehouse_server.sql("select count(*), count(distinct id) from public.ledger", database="warehouse")
        assert tuple(found[0]) == (20_000, 20_000)
        assert '"repeat":"daily"' in message.replace(" ", "")
    finally:
        warehouse_server.sql(
            "drop table if exists public.ledger, public._longshore_deliveries;"
            "revoke create on schema public from encrypted; revoke all on database warehouse from encrypted",
            database="warehouse",
        )
