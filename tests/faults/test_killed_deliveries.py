"""Workers that are killed while they deliver to destinations that refuse requests: everything arrives, once."""

import hashlib
import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx2

from tests.destinations.folder import LINES, WRITES
from tests.destinations.places import Place, add_place, created, delivered_body, deliveries_of
from tests.faults.held import messages
from tests.service import Longshore, ended
from tests.waiting import until

# `make faults` asks for more.
TASKS, KILLS = int(os.environ.get("FAULT_TASKS", "8")), int(os.environ.get("FAULT_KILLS", "6"))
WORKERS = 2
TIMEOUT_SECONDS = 120 + 6.0 * TASKS
CHAIN = 1765
OUTDATED = "delivery outdated"
REFUSED = 0.2  # of all requests


def test_every_delivery_arrives_once_and_whole_after_random_kills(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    files = [add_place(service, tmp_path, chain=CHAIN) for _ in range(2)]
    tables = add_place(service, tmp_path, "folder-table", CHAIN)
    for place in (*files, tables):
        place.faults(unavailable=REFUSED, slow_seconds=0.05)
    entries = [
        {"destination": files[0].name},
        {"destination": files[1].name, "path": "{task}/{run}/{name}"},
        {"destination": tables.name, "table": "ledger", "mode": "append"},
    ]
    workers = [service.start("worker") for _ in range(WORKERS)]
    tasks = [created(small_client, delivered_body(*entries, chain=CHAIN)) for _ in range(TASKS)]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.3, 2.0))
        place_of_worker = chance.randrange(WORKERS)
        workers[place_of_worker].kill()
        workers[place_of_worker].wait()
        workers[place_of_worker] = service.start("worker")
    found = [ended(small_client, task, TIMEOUT_SECONDS, every=0.2) for task in tasks]
    for worker in workers:
        worker.terminate()
        worker.wait(30)
    done = [task for task in found if task["state"]["code"] == "DONE"]
    given_up = [task for task in found if "worker lost, given up after 3 failures" in messages(task)]
    assert len(done) + len(given_up) == TASKS, [messages(task) for task in found]
    assert len(done) >= TASKS * 2 // 3
    assert any(each["attempts"] > 1 for task in done for each in deliveries_of(small_client, task["id"])), (
        "nothing was refused"
    )
    for task in done:
        assert_delivered(small_client, task, files, tables)
    for place in files:
        written = defaultdict(set)
        for write in place.noted(WRITES):
            written[write["path"]].add(write["sha256"])
        assert all(len(hashes) == 1 for hashes in written.values()), "no path is written twice with other bytes"
        assert not [path for path in place.files() if path.endswith(".part")], "nothing unfinished is left"
    assert sorted(line["task"] for line in tables.noted(LINES)) == sorted(task["id"] for task in done)


def assert_delivered(client: httpx2.Client, task: dict[str, Any], files: list[Place], tables: Place) -> None:
    """Check that the result of a task lies at each destination, as its evidence says."""
    run = client.get(f"/tasks/{task['id']}/runs/1").json()
    manifest = client.get(f"/tasks/{task['id']}/runs/1/manifest").content
    listed = {each["destination"]: each for each in deliveries_of(client, task["id"])}
    assert [each["state"] for each in listed.values()] == ["delivered"] * 3
    for place in files:
        path = listed[place.name]["path"].replace("{name}", task["result"])
        lying = place.files()
        assert hashlib.sha256(lying[path]).hexdigest() == run["sha256"] == listed[place.name]["evidence"]["sha256"]
        assert len(lying[path]) == run["bytes"] == listed[place.name]["evidence"]["bytes"]
        assert lying[f"{path}.manifest.json"] == manifest
    [line] = [line for line in tables.noted(LINES) if line["task"] == task["id"]]
    assert line["rows"] == run["rows"] == listed[tables.name]["evidence"]["rows"]


def test_stalled_worker_that_resumes_its_delivery_changes_nothing(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    place = add_place(service, tmp_path, chain=CHAIN)
    place.faults(slow_seconds=0.5)
    stalled = service.start("worker", heartbeat_timeout="3")
    task = created(small_client, delivered_body({"destination": place.name}, chain=CHAIN))
    until(lambda: any(path.endswith(".part") for path in place.files()), "the delivery to begin")
    stalled.send_signal(signal.SIGSTOP)
    place.faults()
    other = service.start("worker", heartbeat_timeout="3")
    found = ended(small_client, task)
    assert found["state"]["code"] == "DONE", messages(found)
    assert any("the worker was lost" in message for message in messages(found))
    files, listed = place.files(), deliveries_of(small_client, task)
    assert listed[0]["attempts"] == 2
    stalled.send_signal(signal.SIGCONT)
    until(
        lambda: any(line["event"] == "delivery outdated" for line in service.logged()), "the stalled worker to notice"
    )
    assert place.files() == files, "nothing unfinished is left either"
    assert deliveries_of(small_client, task) == listed
    for worker in (stalled, other):
        worker.terminate()
        assert worker.wait(30) == 0
