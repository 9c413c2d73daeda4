"""A worker that is told to stop hands back what it cannot end in time (promise 7)."""

import signal

import httpx2

from tests.faults.conftest import Create
from tests.faults.held import ROWS, Hold, assert_whole, files_of, messages
from tests.service import Longshore, ended


def test_worker_that_shuts_down_returns_its_task(service: Longshore, client: httpx2.Client, create: Create) -> None:
    stopped = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(15) == 0
        assert files_of(service, task) == []
        assert client.get(f"/tasks/{task}").json()["state"]["code"] == "INPROGRESS"
    other = service.start("worker")
    found = ended(client, task)
    assert messages(found) == [
        "READY -> INPROGRESS",
        "attempt 1 was interrupted: its worker is shutting down",
        "attempt 2 begins",
        "success",
        "INPROGRESS -> DONE",
    ]
    assert_whole(service, client, found)
    other.terminate()
    assert other.wait(20) == 0


def test_worker_that_shuts_down_finishes_short_tasks(service: Longshore, client: httpx2.Client, create: Create) -> None:
    stopped = service.start("worker", shutdown_grace="30")
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 0
    found = client.get(f"/tasks/{task}").json()
    assert messages(found) == ["READY -> INPROGRESS", "success", "INPROGRESS -> DONE"]
    assert_whole(service, client, found)
