"""`POST /tasks/{id}/execute`: runs a task now and answers its state after the run."""

import httpx2
import pytest

from tests.answers import problem
from tests.locks import locked
from tests.service import Longshore, ended, export_body

LEDGER = "loyalty.wallet_ledger"
SMALL = 1765
STATE_KEYS = ["code", "last_run_date", "last_modified", "created_date"]


@pytest.fixture
def task(small_client: httpx2.Client) -> int:
    """A task that waits for a time far away."""
    body = export_body(chain=SMALL, once="2126-05-26T12:00:00Z")
    found: int = small_client.post("/tasks", json=body).json()["id"]
    return found


def messages(client: httpx2.Client, task: int) -> list[str]:
    return [entry["msg"] for entry in client.get(f"/tasks/{task}", params={"log_limit": 1000}).json()["logs"]]


def test_execute_waits_for_the_run_and_answers_the_state(small_client: httpx2.Client, task: int) -> None:
    answer = small_client.post(f"/tasks/{task}/execute")
    assert answer.status_code == 200
    assert list(answer.json()) == STATE_KEYS
    assert answer.json()["code"] == "DONE"
    assert answer.json() == small_client.get(f"/tasks/{task}").json()["state"]


def test_execute_answers_at_once_with_respond_async(small_client: httpx2.Client, service: Longshore, task: int) -> None:
    with locked(service.url, LEDGER):
        answer = small_client.post(f"/tasks/{task}/execute", headers={"Prefer": "wait=5, respond-async"})
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "respond-async"
        assert answer.headers["location"] == f"/tasks/{task}"
        assert list(answer.json()) == STATE_KEYS
        assert answer.json()["code"] in ("READY", "INPROGRESS")
    assert ended(small_client, task)["state"]["code"] == "DONE"


def test_preferences_of_several_field_lines_are_one_list(
    small_client: httpx2.Client, service: Longshore, task: int
) -> None:
    """RFC 7240, section 2."""
    lines = [("Prefer", "wait=5"), ("Prefer", "respond-async")]
    with locked(service.url, LEDGER):
        answer = small_client.post(f"/tasks/{task}/execute", headers=lines)
        assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
        assert small_client.get(f"/tasks/{task}", headers=lines[::-1]).headers["preference-applied"] == "wait=5"
    assert ended(small_client, task)["state"]["code"] == "DONE"


@pytest.mark.parametrize("prefer", ["", "wait=10", "respond-asynchronously", "handling=lenient"])
def test_execute_ignores_other_preferences(small_client: httpx2.Client, task: int, prefer: str) -> None:
    answer = small_client.post(f"/tasks/{task}/execute", headers={"Prefer": prefer})
    assert (answer.status_code, answer.json()["code"]) == (200, "DONE")
    assert "preference-applied" not in answer.headers


def test_a_running_task_is_not_run_a_second_time(small_client: httpx2.Client, service: Longshore, task: int) -> None:
    with locked(service.url, LEDGER):
        small_client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
        while small_client.get(f"/tasks/{task}").json()["state"]["code"] != "INPROGRESS":
            pass
        problem(small_client.post(f"/tasks/{task}/execute"), "task-running")
        problem(small_client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"}), "task-running")
        address = problem(small_client.get(f"/tasks/{task}/download_url"), "task-not-done")
        assert "INPROGRESS" in address["detail"]
    assert ended(small_client, task)["state"]["code"] == "DONE"
    requested, *changes = messages(small_client, task)
    assert requested.startswith("run requested by token ")
    assert changes == ["READY -> INPROGRESS", "success", "INPROGRESS -> DONE"]


def test_a_done_task_can_be_run_again(small_client: httpx2.Client, task: int) -> None:
    for _ in range(2):
        assert small_client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    (requested,) = {text for text in messages(small_client, task) if text.startswith("run requested by token ")}
    assert messages(small_client, task) == [
        requested, "READY -> INPROGRESS", "success", "INPROGRESS -> DONE",
        requested, "DONE -> INPROGRESS", "success", "INPROGRESS -> DONE",
    ]  # fmt: skip
    runs = small_client.get(f"/tasks/{task}/runs").json()
    assert [(run["run"], run["state"], run["rows"]) for run in runs] == [(2, "DONE", 2000), (1, "DONE", 2000)]
    assert runs[0]["sha256"] == runs[1]["sha256"]


def test_failed_run_is_answered_and_can_be_executed_again(
    odd_values_client: httpx2.Client, odd_values_service: Longshore
) -> None:
    body = export_body(once="2126-05-26T12:00:00Z")
    body["target"]["export_index"] = "missing"
    task = odd_values_client.post("/tasks", json=body).json()["id"]
    answer = odd_values_client.post(f"/tasks/{task}/execute")
    assert (answer.status_code, answer.json()["code"]) == (200, "ERROR")
    failed = odd_values_client.get(f"/tasks/{task}").json()
    requested, begins, why, ends = messages(odd_values_client, task)
    assert requested.startswith("run requested by token ")
    assert (begins, ends) == ("READY -> INPROGRESS", "INPROGRESS -> ERROR")
    assert 'relation "odd.missing" does not exist' in why
    assert failed["result"] == ""
    problem(odd_values_client.get(f"/tasks/{task}/download_url"), "task-not-done")
    odd_values_service.sql("create table odd.missing (id bigint, chain_id bigint)")
    try:
        assert odd_values_client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    finally:
        odd_values_service.sql("drop table odd.missing")
    assert messages(odd_values_client, task)[4:] == [requested, "ERROR -> INPROGRESS", "success", "INPROGRESS -> DONE"]


def test_execute_in_full_is_refused_for_a_task_of_another_action(small_client: httpx2.Client) -> None:
    body = export_body(chain=SMALL, once="2126-05-26T12:00:00Z")
    body["target"] = {"action": "http", "url": "http://127.0.0.1:9/"}
    http = small_client.post("/tasks", json=body).json()["id"]
    problem(small_client.post(f"/tasks/{http}/execute", json={"full": True}), "not-incremental")
    assert small_client.get(f"/tasks/{http}").json()["state"]["code"] == "READY"
