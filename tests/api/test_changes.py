"""Changing, cancelling and deleting tasks, over HTTP and under a worker."""

from typing import Any

import httpx2
import pytest

from tests.locks import locked
from tests.service import Longshore, downloaded, ended, export_body, exported

LATER = "2126-05-26T12:00:00Z"


def created(client: httpx2.Client, **trigger: Any) -> dict[str, Any]:
    answer = client.post("/tasks", json=export_body(chain=1765, **trigger))
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


def messages(task: dict[str, Any]) -> list[str]:
    return [entry["msg"] for entry in task["logs"]]


def test_a_waiting_task_that_is_cancelled_will_not_run_and_can_be_executed(small_client: httpx2.Client) -> None:
    task = created(small_client, once=LATER)["id"]
    cancelled = small_client.post(f"/tasks/{task}/cancel")
    assert cancelled.status_code == 200, cancelled.text
    assert cancelled.json()["state"]["code"] == "ERROR"
    message, change = messages(cancelled.json())
    assert message.startswith("cancelled by token ")
    assert change == "READY -> ERROR"
    again = small_client.post(f"/tasks/{task}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/nothing-to-cancel")
    assert small_client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    requested, begins = messages(small_client.get(f"/tasks/{task}").json())[2:4]
    assert requested.startswith("run requested by token ")
    assert begins == "ERROR -> INPROGRESS"


def test_a_change_is_logged_and_replaces_what_it_names(small_client: httpx2.Client) -> None:
    task = created(small_client, once=LATER)
    before = small_client.get(f"/tasks/{task['id']}")
    changed = small_client.patch(
        f"/tasks/{task['id']}", json={"desc": "another", "debug": "x"}, headers={"If-Match": before.headers["etag"]}
    )
    assert changed.status_code == 200, changed.text
    found = changed.json()
    assert (found["desc"], found["debug"], found["trigger"]) == ("another", "x", {"once": LATER})
    assert changed.json()["target"] == task["target"]
    assert messages(changed.json())[-1].endswith(": desc, debug")
    assert changed.headers["etag"] == small_client.get(f"/tasks/{task['id']}").headers["etag"] != before.headers["etag"]


@pytest.mark.parametrize("key", ["target", "trigger"])
def test_a_stored_part_that_cannot_be_decoded_is_replaced_by_a_change_that_has_it(
    idle_service: Longshore, key: str
) -> None:
    with idle_service.client(chain=1765) as client:
        task = created(client, once=LATER)
        stored = f"update longshore.tasks set {key} = $2 where id = $1"
        idle_service.sql(stored, task["id"], r'{"action": "export", "once": "\ud800"}')
        refused = client.patch(f"/tasks/{task['id']}", json={"desc": "x"})
        assert refused.status_code == 400
        assert {error["pointer"].split("/")[1] for error in refused.json()["errors"]} == {key}
        changed = client.patch(f"/tasks/{task['id']}", json={key: task[key]})
        assert (changed.status_code, changed.json()[key]) == (200, task[key])


def test_change_with_an_outdated_tag_is_refused(small_client: httpx2.Client) -> None:
    task = created(small_client, once=LATER)["id"]
    old = small_client.get(f"/tasks/{task}").headers["etag"]
    assert small_client.patch(f"/tasks/{task}", json={"desc": "first"}).status_code == 200
    refused = small_client.patch(f"/tasks/{task}", json={"desc": "second"}, headers={"If-Match": old})
    assert (refused.status_code, refused.json()["type"]) == (412, "/problems/changed-meanwhile")
    assert small_client.get(f"/tasks/{task}").json()["desc"] == "first"


def test_a_trigger_that_is_moved_to_now_runs_now(small_client: httpx2.Client) -> None:
    task = created(small_client, once=LATER)["id"]
    moved = small_client.patch(f"/tasks/{task}", json={"trigger": {"once": "2026-05-26T12:00:00Z"}})
    assert moved.status_code == 200, moved.text
    assert ended(small_client, task)["state"]["code"] == "DONE"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"target": {"action": "export", "export_index": "user", "export_format": "csv"}}, "/target/export_index"),
        ({"trigger": {"once": "2026-05-26"}}, "/trigger/once"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_invalid_change_is_refused_and_changes_nothing(
    small_client: httpx2.Client, body: dict[str, Any], pointer: str
) -> None:
    task = created(small_client, once=LATER)
    refused = small_client.patch(f"/tasks/{task['id']}", json=body)
    assert refused.status_code == 400, refused.text
    assert pointer in [violation["pointer"] for violation in refused.json()["errors"]]
    assert small_client.get(f"/tasks/{task['id']}").json() == task


def test_a_deleted_task_is_gone_with_its_results(service: Longshore, small_client: httpx2.Client) -> None:
    task, _ = exported(small_client, export_body(chain=1765))
    address = small_client.get(f"/tasks/{task['id']}/download_url").json()["url"]
    assert small_client.delete(f"/tasks/{task['id']}").status_code == 204
    assert small_client.get(f"/tasks/{task['id']}").status_code == 404
    assert small_client.delete(f"/tasks/{task['id']}").status_code == 404
    assert httpx2.get(address).status_code == 410
    assert not (service.data / "results" / "1765" / str(task["id"])).exists()


def test_the_result_of_each_run_can_be_downloaded(small_client: httpx2.Client) -> None:
    task, first = exported(small_client, export_body(chain=1765))
    assert small_client.post(f"/tasks/{task['id']}/execute").json()["code"] == "DONE"
    address = small_client.get(f"/tasks/{task['id']}/runs/1/download_url").json()["url"]
    assert httpx2.get(address).content == first
    assert downloaded(small_client, task["id"]) == first
    missing = small_client.get(f"/tasks/{task['id']}/runs/3/download_url")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/run-not-found")


def test_run_that_takes_longer_than_its_timeout_ends_in_error(service: Longshore, small_client: httpx2.Client) -> None:
    body = export_body(chain=1765)
    body["target"] |= {"timeout_seconds": 1, "export_format": "xlsx"}
    with locked(service.url, "loyalty.wallet_ledger"):
        task = small_client.post("/tasks", json=body).json()["id"]
        found = ended(small_client, task)
    assert messages(found)[1:] == ["failed: the run took longer than 1 s", "INPROGRESS -> ERROR"]
