"""The task object: the contract's samples, key for key."""

import json
import re

import httpx2
import pytest

from tests.service import CHAIN, Longshore, ended, export_body

MINUTE_BEFORE, BEGAN, TEN_LATER, FINISHED = "11:59:00", "12:00:00", "12:00:10", "12:08:30"

KEYS = ["id", "chain", "desc", "state", "trigger", "target", "logs", "debug", "version", "result"]
STATE_KEYS = ["code", "last_run_date", "last_modified", "created_date"]
WHOLE_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

TASK = """
insert into longshore.tasks (id, chain_id, description, action, trigger, target, debug, state, result,
                             attempt_began_at, run, log_length, created_at, modified_at, last_run_at)
overriding system value
values ($1, 1764, 'Wallet ledger export for analytics warehouse', 'export', '{"once":"2026-05-26T12:00:00Z"}',
        '{"action":"export","export_index":"wallet-ledger","export_format":"csv"}', '', $2, $3,
        now(), 1, $4, $5::text::timestamptz, $6::text::timestamptz, $7::text::timestamptz)
"""

ENTRY = """
insert into longshore.task_logs (task_id, seq, at, msg, total, success, skips, errors)
values ($1, $2, $3::text::timestamptz, $4, $5, $5, $6, $6)
"""


def on_the_day(time: str) -> str:
    """A time of the sample's day, with a fraction that must not be seen."""
    return f"2026-05-26 {time}.987654+00"


def test_a_waiting_task_has_nulls_for_unknown_times_and_empty_strings_for_unknown_texts(
    idle_client: httpx2.Client,
) -> None:
    created = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z"))
    task = created.json()
    assert list(task) == KEYS
    assert list(task["state"]) == STATE_KEYS
    assert task["state"]["code"] == "READY"
    assert task["state"]["last_run_date"] is None
    assert task["state"]["last_modified"] == task["state"]["created_date"]
    assert WHOLE_SECOND.fullmatch(task["state"]["created_date"])
    assert (task["logs"], task["debug"], task["version"], task["result"]) == ([], "", 2, "")
    assert isinstance(task["id"], int)
    assert task["chain"] == CHAIN
    assert idle_client.get(created.headers["location"]).json() == task


def test_a_running_task_is_the_sample_of_the_contract(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    created, began, later = (on_the_day(time) for time in (MINUTE_BEFORE, BEGAN, TEN_LATER))
    idle_service.sql(TASK, 8000012345, "INPROGRESS", "", 1, created, later, began)
    idle_service.sql(ENTRY, 8000012345, 0, began, "READY -> INPROGRESS", None, None)
    assert json.loads(idle_client.get("/tasks/8000012345").text, object_pairs_hook=list) == json.loads(
        """{
      "id": 8000012345,
      "chain": 1764,
      "desc": "Wallet ledger export for analytics warehouse",
      "state": {
        "code": "INPROGRESS",
        "last_run_date": "2026-05-26T12:00:00Z",
        "last_modified": "2026-05-26T12:00:10Z",
        "created_date": "2026-05-26T11:59:00Z"
      },
      "trigger": {"once": "2026-05-26T12:00:00Z"},
      "target": {"action": "export", "export_index": "wallet-ledger", "export_format": "csv"},
      "logs": [{"msg": "READY -> INPROGRESS", "time": "2026-05-26T12:00:00Z"}],
      "debug": "",
      "version": 2,
      "result": ""
    }""",
        object_pairs_hook=list,
    )


def test_a_finished_task_is_the_sample_of_the_contract(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    created, began, finished = (on_the_day(time) for time in (MINUTE_BEFORE, BEGAN, FINISHED))
    idle_service.sql(TASK, 8000012346, "DONE", "Wallet_Export-8000012345.csv", 3, created, finished, began)
    idle_service.sql(ENTRY, 8000012346, 0, began, "READY -> INPROGRESS", None, None)
    idle_service.sql(ENTRY, 8000012346, 1, finished, "success", 1_000_000, 0)
    idle_service.sql(ENTRY, 8000012346, 2, finished, "INPROGRESS -> DONE", None, None)
    found = json.loads(idle_client.get("/tasks/8000012346").text)
    assert json.dumps(found["state"]) == (
        '{"code": "DONE", "last_run_date": "2026-05-26T12:00:00Z", "last_modified": "2026-05-26T12:08:30Z",'
        ' "created_date": "2026-05-26T11:59:00Z"}'
    )
    assert json.dumps(found["logs"]) == (
        '[{"msg": "READY -> INPROGRESS", "time": "2026-05-26T12:00:00Z"},'
        ' {"errors": 0, "msg": "success", "skips": 0, "success": 1000000, "time": "2026-05-26T12:08:30Z",'
        ' "total": 1000000},'
        ' {"msg": "INPROGRESS -> DONE", "time": "2026-05-26T12:08:30Z"}]'
    )
    assert found["result"] == "Wallet_Export-8000012345.csv"


@pytest.mark.parametrize("export_format", ["csv", "json"])
def test_task_has_the_keys_of_the_contract_after_a_run(small_client: httpx2.Client, export_format: str) -> None:
    task = ended(small_client, small_client.post("/tasks", json=export_body(export_format, 1765)).json()["id"])
    assert list(task) == KEYS
    assert [list(entry) for entry in task["logs"]] == [
        ["msg", "time"],
        ["errors", "msg", "skips", "success", "time", "total"],
        ["msg", "time"],
    ]
    assert [entry["msg"] for entry in task["logs"]] == ["READY -> INPROGRESS", "success", "INPROGRESS -> DONE"]
    summary = task["logs"][1]
    assert [summary[key] for key in ("errors", "skips", "success", "total")] == [0, 0, 2000, 2000]
    times = [*task["state"].values()][1:] + [entry["time"] for entry in task["logs"]]
    assert all(WHOLE_SECOND.fullmatch(time) for time in times)
    assert task["state"]["last_modified"] == task["logs"][-1]["time"]
    assert task["state"]["last_run_date"] == task["logs"][0]["time"]
    assert task["result"] == f"Wallet_Export-{task['id']}.{export_format}"


@pytest.mark.parametrize(
    ("index", "prefix"),
    [
        ("wallet-ledger", "Wallet"), ("transactions", "Transaction"), ("users", "User"), ("vouchers", "Voucher"),
        ("products", "Product"), ("product-variants", "ProductVariant"),
    ],
)  # fmt: skip
def test_result_has_the_name_of_its_index(small_client: httpx2.Client, index: str, prefix: str) -> None:
    body = export_body(chain=1765)
    body["target"]["export_index"] = index
    task = ended(small_client, small_client.post("/tasks", json=body).json()["id"])
    assert (task["state"]["code"], task["result"]) == ("DONE", f"{prefix}_Export-{task['id']}.csv")


def test_debug_and_description_are_returned_unchanged(idle_client: httpx2.Client) -> None:
    odd = 'é "quoted"\\ \n\r\t\x01 \U0001f6a2 \u2028 </script>'
    task = idle_client.post("/tasks", json={**export_body(), "desc": odd, "debug": odd[::-1]}).json()
    assert (task["desc"], task["debug"]) == (odd, odd[::-1])
    assert idle_client.get(f"/tasks/{task['id']}").json() == task


def test_the_log_is_paged_oldest_first(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    idle_service.sql(
        "insert into longshore.task_logs (task_id, seq, at, msg) select $1, n, now(), 'entry ' || n"
        " from generate_series(0, 24) n",
        task,
    )
    idle_service.sql("update longshore.tasks set log_length = 25 where id = $1", task)

    def page(**parameters: int) -> list[int]:
        logs = idle_client.get(f"/tasks/{task}", params=parameters).json()["logs"]
        return [int(entry["msg"].removeprefix("entry ")) for entry in logs]

    assert page() == list(range(10))
    assert page(offset=10) == list(range(10, 20))
    assert page(offset=20) == list(range(20, 25))
    assert page(offset=25) == page(offset=2**31 - 1) == page(log_limit=0) == []
    assert page(log_limit=1000) == list(range(25))
    assert page(log_limit=3, offset=4) == [4, 5, 6]
    listed = next(found for found in idle_client.get("/tasks").json() if found["id"] == task)
    assert [entry["msg"] for entry in listed["logs"]] == [f"entry {number}" for number in range(15, 25)]
