"""A database that goes away for seconds costs a pause and nothing else (promises 1 and 7)."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from longshore.database.embedded import embedded_server
from tests.faults.conftest import Create
from tests.faults.held import ROWS, Hold, assert_whole, messages, until
from tests.service import Longshore, ended, export_body

AWAY = 5.0  # seconds

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
