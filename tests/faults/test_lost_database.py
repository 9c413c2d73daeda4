"""A database that goes away for seconds costs a pause and nothing else (promises 1 and 7)."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx2
import pytest

from longshore.database.embedded import embedded_server
from tests.faults.conftest import Create
from tests.faults.held import ROWS, UNDISTURBED, Hold, assert_whole, messages
from tests.service import Longshore, ended, export_body
from tests.waiting import until

AWAY = 5.0  # seconds
TIMEOUT = 8  # seconds without a heartbeat, after which a worker counts as lost

LISTENING = "select count(*) from pg_stat_activity where application_name = 'longshore ch_pgqueuer'"

PICKED_UP_AFTER = "select extract(epoch from last_run_at - created_at)::float8 as s from longshore.tasks where id = $1"


@contextmanager
def without_database(service: Longshore, how: signal.Signals) -> Iterator[None]:
    """Stop the service's PostgreSQL, and start it again afterwards."""
    pid_file: Path = service.data / "postgres" / "postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), how)
    until(lambda: not pid_file.exists(), "the database to be gone")
    try:
        yield
    finally:
        # The fixture holds the server too, so leaving this does not stop it again.
        with embedded_server(service.data) as url:
            assert url == service.url


@contextmanager
def standing_still(service: Longshore, _how: signal.Signals) -> Iterator[None]:
    """Stop the processes of the service's PostgreSQL, as a virtual machine that is moved, and continue them."""
    server = (service.data / "postgres" / "postmaster.pid").read_text().split()[0]
    children = subprocess.run(["pgrep", "--parent", server], check=True, capture_output=True, text=True).stdout
    pids = [int(pid) for pid in (server, *children.split())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def assert_unavailable(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["type"] == "/problems/unavailable"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.elapsed.total_seconds() < 10


# SIGQUIT is PostgreSQL's "immediate" shutdown, as a crash; SIGINT its "fast" one, as an upgrade.
@pytest.mark.parametrize(("how", "away"), [(signal.SIGQUIT, AWAY), (signal.SIGINT, 1.0)], ids=["crash", "restart"])
def test_an_export_survives_a_database_that_goes_away(
    service: Longshore, client: httpx2.Client, create: Create, how: signal.Signals, away: float
) -> None:
    worker = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        with without_database(service, how):
            came_back = time.monotonic() + away
            while time.monotonic() < came_back:
                assert_unavailable(client.get(f"/tasks/{task}"))
                assert_unavailable(client.post("/tasks", json=export_body()))
                assert_unavailable(client.post(f"/tasks/{task}/execute"))
                assert_unavailable(httpx2.get(f"{service.address}/readyz"))
                assert httpx2.get(f"{service.address}/healthz").status_code == 200
    assert client.get(f"/tasks/{task}").status_code == 200
    assert httpx2.get(f"{service.address}/readyz").status_code == 200
    found = ended(client, task)
    first, failed, *rest = messages(found)
    assert first == "READY -> INPROGRESS"
    assert failed.startswith("attempt 1 failed: the connection to the source was lost (")
    assert failed.endswith("; the next one begins in 1 s")
    assert rest == ["attempt 2 begins", "success", "INPROGRESS -> DONE"]
    assert_whole(service, client, found)

    until(lambda: service.sql(LISTENING)[0][0] == 3, "the worker to listen again, for tasks, shards and deliveries")

    def picked_up_at_once() -> bool:
        task = create()
        assert ended(client, task)["state"]["code"] == "DONE"
        return float(service.sql(PICKED_UP_AFTER, task)[0]["s"]) < 0.5

    # Without notifications it would take up to two seconds, each time.
    assert sum(picked_up_at_once() for _ in range(10)) >= 7
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_worker_can_be_stopped_while_the_database_is_away(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    worker = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        with without_database(service, signal.SIGQUIT):
            worker.terminate()
            worker.wait(12)
    other = service.start("worker")
    assert_whole(service, client, ended(client, task))
    other.terminate()
    other.wait(20)


@pytest.mark.parametrize("outage", [without_database, standing_still])
def test_no_live_worker_counts_as_lost_after_an_outage_longer_than_the_heartbeat_timeout(
    service: Longshore,
    new_service: Callable[..., Longshore],
    outage: Callable[[Longshore, signal.Signals], AbstractContextManager[None]],
) -> None:
    state = new_service(
        source_url=service.url, catalog=str(service.data / "catalog.toml"), heartbeat_timeout=str(TIMEOUT)
    )
    state.start_api()
    exporting = state.start("worker")
    with state.client() as client, Hold.row(service, ROWS // 2) as hold:
        task = client.post("/tasks", json=export_body()).json()["id"]
        hold.reached()
        idle = [state.start("worker") for _ in range(2)]
        until(lambda: sum(line["event"] == "worker ready" for line in state.logged()) == 3, "the workers to be ready")
        time.sleep(2.5)  # each has looked for jobs and found none
        with outage(state, signal.SIGQUIT):
            time.sleep(TIMEOUT + 1)
            exporting.send_signal(signal.SIGSTOP)  # so that the others reach the database before it does
        time.sleep(2.5)
        exporting.send_signal(signal.SIGCONT)
        time.sleep(TIMEOUT)
        hold.release()
        found = ended(client, task)
        assert messages(found) == UNDISTURBED
        assert_whole(state, client, found)
    for worker in (exporting, *idle):
        worker.terminate()
        assert worker.wait(20) == 0
