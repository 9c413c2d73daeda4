"""A worker that stands still beyond its heartbeat and comes back has nothing to say any more (promise 2)."""

import signal
from collections.abc import Callable

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, TAKEN_OVER, Hold, assert_whole, messages
from tests.service import Longshore, ended
from tests.waiting import until

OUTDATED = "attempt outdated"


def has_logged(service: Longshore, event: str, task: int) -> bool:
    """Whether a worker has logged an event about a task."""
    return any((line["event"], line.get("task")) == (event, task) for line in service.logged())


@pytest.mark.parametrize("hold", [Hold.source, lambda service: Hold.row(service, ROWS // 2)], ids=["begun", "halfway"])
def test_stalled_worker_that_resumes_changes_nothing(
    service: Longshore, client: httpx2.Client, create: Create, hold: Callable[[Longshore], Hold]
) -> None:
    stalled = service.start("worker", heartbeat_timeout="3")
    with hold(service) as held:
        task = create()
        held.reached()
        stalled.send_signal(signal.SIGSTOP)
    other = service.start("worker", heartbeat_timeout="3")
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    assert_whole(service, client, found)
    runs = client.get(f"/tasks/{task}/runs").json()

    stalled.send_signal(signal.SIGCONT)
    until(lambda: has_logged(service, OUTDATED, task), "the stalled worker to notice")
    assert client.get(f"/tasks/{task}", params={"log_limit": 1000}).json() == found
    assert client.get(f"/tasks/{task}/runs").json() == runs
    assert_whole(service, client, found)
    for worker in (stalled, other):
        worker.terminate()
        assert worker.wait(30) == 0
    assert client.get(f"/tasks/{task}", params={"log_limit": 1000}).json() == found


def test_worker_with_a_stale_attempt_does_not_publish(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    late = service.start("worker", heartbeat_timeout="3")
    with Hold.row(service, ROWS) as last_row:
        task = create()
        last_row.reached()
        with Hold.task(service, task) as state:
            late.send_signal(signal.SIGSTOP)
            other = service.start("worker", heartbeat_timeout="3")
            state.reached(1)  # the other one takes the attempt away
            late.send_signal(signal.SIGCONT)
            last_row.release()
            state.reached(2)  # the late one has its file and says so
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    until(lambda: has_logged(service, OUTDATED, task), "the late worker to notice")
    assert_whole(service, client, found)
    for worker in (late, other):
        worker.terminate()
        assert worker.wait(30) == 0
