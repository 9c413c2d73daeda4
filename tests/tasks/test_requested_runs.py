"""A request for another run of an ended task is a change that clients see, and waits go on to the end of that run."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore import Longshore as Client
from longshore.access.tokens import Level
from tests.run_steps import play
from tests.service import Longshore, export_body
from tests.waiting import until

CHAIN = 8802
FAR = "2126-05-26T12:00:00Z"
WAITING_PAGE = Path(__file__).parents[2] / "docs" / "waiting.md"
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def full(idle_service: Longshore) -> Iterator[httpx2.Client]:
    """A client of a chain whose slots are taken by two running tasks."""
    with idle_service.client(Level.ADMIN, chain=CHAIN) as client:
        for _ in range(2):
            play(idle_service, client.post("/tasks", json=export_body(chain=CHAIN)).json()["id"], "begin")
        yield client
    idle_service.sql("delete from longshore.tasks where chain_id = $1", CHAIN)
    idle_service.sql("delete from longshore.pgqueuer")


@pytest.fixture
def task(idle_service: Longshore, full: httpx2.Client) -> int:
    """A task that is DONE, of the chain without a free slot."""
    created: int = full.post("/tasks", json=export_body(chain=CHAIN)).json()["id"]
    play(idle_service, created, "begin", "finish")
    return created


def test_requested_run_changes_entity_tag_and_log_and_sends_retry_after(full: httpx2.Client, task: int) -> None:
    before = full.get(f"/tasks/{task}")
    assert "retry-after" not in before.headers
    time.sleep(1)
    assert full.post(f"/tasks/{task}/execute", headers=ASYNC).status_code == 202
    answer = full.get(f"/tasks/{task}", headers={"If-None-Match": before.headers["etag"]})
    assert answer.status_code == 200
    assert answer.headers["etag"] != before.headers["etag"]
    assert answer.headers["retry-after"] == "2"
    found, old = answer.json(), before.json()
    assert found["state"]["code"] == "DONE"
    assert found["result"] == old["result"], "the last result is there until the run begins"
    assert found["state"]["last_modified"] > old["state"]["last_modified"]
    assert re.fullmatch(r"run requested by token \S+", found["logs"][-1]["msg"])
    unchanged = full.get(f"/tasks/{task}", headers={"If-None-Match": answer.headers["etag"]})
    assert (unchanged.status_code, unchanged.headers["retry-after"]) == (304, "2")


def test_trigger_that_is_changed_to_now_sends_retry_after(full: httpx2.Client, task: int) -> None:
    before = full.get(f"/tasks/{task}")
    planned = full.patch(f"/tasks/{task}", json={"trigger": {"once": FAR}})
    assert "retry-after" not in full.get(f"/tasks/{task}").headers, "nothing runs for a century"
    changed = full.patch(f"/tasks/{task}", json={"trigger": {"once": "2026-05-26T13:00:00Z"}})
    answer = full.get(f"/tasks/{task}")
    assert answer.json()["state"]["code"] == "DONE"
    assert len({each.headers["etag"] for each in (before, planned, changed)}) == 3
    assert answer.headers["retry-after"] == "2"


def test_a_cancelled_request_leaves_the_task_ended(full: httpx2.Client, task: int) -> None:
    full.post(f"/tasks/{task}/execute", headers=ASYNC)
    assert full.post(f"/tasks/{task}/cancel").status_code == 200
    answer = full.get(f"/tasks/{task}")
    assert answer.json()["state"]["code"] == "DONE"
    assert "retry-after" not in answer.headers


def test_a_request_for_a_run_wakes_a_long_poll(full: httpx2.Client, task: int) -> None:
    tag = full.get(f"/tasks/{task}").headers["etag"]
    timer = threading.Timer(0.5, full.post, [f"/tasks/{task}/execute"], {"headers": ASYNC})
    timer.start()
    began = time.monotonic()
    answer = full.get(f"/tasks/{task}", params={"wait": 30}, headers={"If-None-Match": tag})
    timer.join()
    assert answer.status_code == 200
    assert time.monotonic() - began < 20


def test_a_request_for_a_run_refuses_changes_made_for_the_task_before_it(full: httpx2.Client, task: int) -> None:
    tag = full.get(f"/tasks/{task}").headers["etag"]
    full.post(f"/tasks/{task}/execute", headers=ASYNC)
    assert full.patch(f"/tasks/{task}", json={"desc": "x"}, headers={"If-Match": tag}).status_code == 412
    assert full.patch(f"/tasks/{task}", json={"desc": "x"}).status_code == 200, "the queued run takes the change"
    assert full.delete(f"/tasks/{task}").status_code == 204, "a queued run has not begun"


def ends_with_the_requested_run(idle_service: Longshore, task: int, waiter: Future[Any]) -> None:
    """Assert that a waiter is still there before and while the run goes on, and end the run."""
    until(lambda: "\nlongshore_waiters 0" not in httpx2.get(f"{idle_service.address}/metrics").text, "a long poll")
    time.sleep(1)
    assert not waiter.done(), "the run has not begun"
    play(idle_service, task, "begin")
    time.sleep(1)
    assert not waiter.done(), "the run has not ended"
    play(idle_service, task, "fail")


def test_a_second_client_waits_for_the_requested_run(idle_service: Longshore, full: httpx2.Client, task: int) -> None:
    token = full.headers["authorization"].removeprefix("Bearer ")
    full.post(f"/tasks/{task}/execute", headers=ASYNC)
    with Client(idle_service.address, token, chain=CHAIN) as client, ThreadPoolExecutor(1) as thread:
        waiter = thread.submit(client.tasks.get(task).wait, 60)
        ends_with_the_requested_run(idle_service, task, waiter)
        with pytest.raises(Exception, match="on purpose"):
            waiter.result()


def test_a_client_that_executes_ends_its_wait_when_the_request_is_cancelled(
    idle_service: Longshore, full: httpx2.Client, task: int
) -> None:
    token = full.headers["authorization"].removeprefix("Bearer ")
    with Client(idle_service.address, token, chain=CHAIN) as client, ThreadPoolExecutor(1) as thread:
        waiter = thread.submit(client.tasks.get(task).execute().wait, 60)
        time.sleep(1)
        assert not waiter.done()
        full.post(f"/tasks/{task}/cancel")
        assert waiter.result().state.code == "DONE"


@pytest.mark.parametrize("json", [False, True])
def test_tasks_wait_of_the_command_line_waits_for_the_requested_run(
    idle_service: Longshore, full: httpx2.Client, task: int, tmp_path: Path, json: bool
) -> None:
    full.post(f"/tasks/{task}/execute", headers=ASYNC)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    token = full.headers["authorization"].removeprefix("Bearer ")
    login = [sys.executable, "-m", "longshore", "login", "--address", idle_service.address, "--chain", str(CHAIN)]
    subprocess.run(login, env=environment, input=token, text=True, check=True, timeout=60)
    command = [sys.executable, "-m", "longshore", "tasks", "wait", str(task), *(["--json"] if json else [])]
    with ThreadPoolExecutor(1) as thread:
        waiter = thread.submit(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=100)
        ends_with_the_requested_run(idle_service, task, waiter)
        assert waiter.result().returncode != 0
        assert "on purpose" in waiter.result().stderr


def test_shell_loop_of_the_docs_waits_for_the_requested_run(
    idle_service: Longshore, full: httpx2.Client, task: int, tmp_path: Path
) -> None:
    page = WAITING_PAGE.read_text(encoding="utf-8")
    loop = re.search(r"^    TAG=.*?^    done$", page, re.M | re.S)
    assert loop
    text = loop[0].replace("http://127.0.0.1:8080", idle_service.address)
    environment = {**os.environ, "TOKEN": full.headers["authorization"].removeprefix("Bearer "), "TASK": str(task)}
    full.post(f"/tasks/{task}/execute", headers=ASYNC)
    with ThreadPoolExecutor(1) as thread:
        waiter = thread.submit(subprocess.run, ["bash", "-c", text], cwd=tmp_path, env=environment, timeout=100)
        ends_with_the_requested_run(idle_service, task, waiter)
        waiter.result()
    assert '"code":"ERROR"' in (tmp_path / "task.json").read_text()
    until(lambda: full.get(f"/tasks/{task}").json()["state"]["code"] == "ERROR", "the end")
