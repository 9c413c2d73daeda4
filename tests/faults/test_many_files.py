"""Results of many files, when workers are lost, stall or are stopped while they write: all files, or none."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.exports.manifest import SIGNATURE
from longshore.exports.verify import verify
from tests.faults.held import ROWS, TAKEN_OVER, UNDISTURBED, Hold, files_of, messages
from tests.faults.test_shards import LoggedWorker, holds, reached, release, split, workers
from tests.service import Longshore, ended, export_body
from tests.waiting import until

__all__ = ["holds", "workers"]

PART_ROWS = 400


def create(client: httpx2.Client, **target: Any) -> int:
    body = export_body()
    body["target"] |= target or {"split": {"rows": PART_ROWS}}
    answer = client.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def assert_whole(service: Longshore, task: dict[str, Any]) -> dict[str, Any]:
    """A task is DONE, and its files are those of its manifest, all whole, with each row once; return the manifest."""
    assert task["state"]["code"] == "DONE", task
    (row,) = service.sql("select location from longshore.runs where task_id = $1", task["id"])
    path = service.data / "results" / row["location"]
    verify([path])
    manifest: dict[str, Any] = json.loads(path.read_text())
    assert manifest["rows"] == ROWS
    names = [Path(file["path"]).name for file in manifest["files"]]
    assert sorted(files_of(service, task["id"])) == sorted([*names, task["result"], task["result"] + SIGNATURE])
    return manifest


def test_a_worker_killed_between_two_files_leaves_none_of_them(service: Longshore, client: httpx2.Client) -> None:
    first = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create(client)
        hold.reached()
        until(lambda: files_of(service, task), "the first files")
        assert client.get(f"/tasks/{task}/runs/1/files").status_code == 409
        first.kill()
        first.wait()
        second = service.start("worker")
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    assert_whole(service, found)
    second.terminate()
    second.wait()


def test_a_cancelled_run_leaves_no_file(service: Longshore, client: httpx2.Client) -> None:
    worker = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create(client)
        hold.reached()
        until(lambda: files_of(service, task), "the first files")
        assert client.post(f"/tasks/{task}/cancel").status_code == 200
        until(lambda: not files_of(service, task), "the files to be gone")
    worker.terminate()
    worker.wait()


def test_a_lost_worker_costs_its_shares_and_not_the_run(
    service: Longshore, client: httpx2.Client, workers: list[LoggedWorker], holds: list[Hold]
) -> None:
    task = create(client)
    reached(service, holds)
    _coordinator, other = split(workers)
    other.kill()
    release(holds)
    found = ended(client, task)
    assert messages(found) == UNDISTURBED
    manifest = assert_whole(service, found)
    assert {file["path"].split("/")[1][:9] for file in manifest["files"]} == {f"part-00{n}-" for n in (1, 2, 3)}


def test_a_lost_coordinator_restarts_the_run(
    service: Longshore, client: httpx2.Client, workers: list[LoggedWorker], holds: list[Hold]
) -> None:
    task = create(client, partition_by=[{"field": "timestamp", "by": "day"}], split={"rows": PART_ROWS})
    until(lambda: any(worker.coordinates for worker in workers), "a coordinator")
    next(worker for worker in workers if worker.coordinates).kill()
    release(holds)
    done = ended(client, task)
    assert messages(done) == TAKEN_OVER
    assert_whole(service, done)


@pytest.mark.parametrize("stop", [signal.SIGSTOP, signal.SIGTERM])
def test_a_worker_that_stalls_or_shuts_down_damages_no_file(
    service: Longshore, client: httpx2.Client, workers: list[LoggedWorker], holds: list[Hold], stop: signal.Signals
) -> None:
    task = create(client)
    reached(service, holds)
    _coordinator, other = split(workers)
    other.process.send_signal(stop)
    release(holds)
    found = ended(client, task)
    if stop == signal.SIGSTOP:
        other.process.send_signal(signal.SIGCONT)
        until(lambda: "outdated" in other.log.read_text(), "the stalled one to notice")
    assert messages(found) == UNDISTURBED
    assert_whole(service, found)
