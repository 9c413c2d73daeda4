"""A worker that is killed loses nothing, wherever its export stands (promises 1 to 3 and 7)."""

import subprocess
from collections.abc import Iterator

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, TAKEN_OVER, UNDISTURBED, Hold, assert_whole, cut_off, files_of, messages
from tests.service import Longshore, ended, export_body
from tests.waiting import until

MESSAGE = "select from longshore.pgqueuer where dedupe_key like $1 || ':%'"
SILENT = "select 1 from longshore.pgqueuer where heartbeat < now() - interval '1 second'"


class ReplacedWorker:
    """One worker at a time, which is replaced after it was killed."""

    def __init__(self, service: Longshore) -> None:
        self._service = service
        self._worker: subprocess.Popen[bytes] = service.start("worker")

    def kill(self) -> None:
        """Kill the worker without a warning."""
        self._worker.kill()
        self._worker.wait()

    def replace(self) -> None:
        """Start the next worker once the leases of the one before have lapsed."""
        until(lambda: self._service.sql(SILENT), "the heartbeat to be overdue")
        self._worker = self._service.start("worker")


@pytest.fixture(scope="module")
def killed_worker(service: Longshore) -> Iterator[ReplacedWorker]:
    killed_worker = ReplacedWorker(service)
    yield killed_worker
    killed_worker.kill()


ROW_NUMBERS = [1, ROWS // 8, ROWS // 3, ROWS // 2, 3 * ROWS // 4, ROWS]


@pytest.mark.parametrize("row", ROW_NUMBERS)
def test_a_worker_killed_before_any_row_is_replaced(
    service: Longshore, client: httpx2.Client, create: Create, killed_worker: ReplacedWorker, row: int
) -> None:
    with Hold.row(service, row) as hold:
        task = create()
        hold.reached()
        assert [name.partition(".")[2] for name in files_of(service, task)] == ["csv.part"]
        killed_worker.kill()
    killed_worker.replace()
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    assert_whole(service, client, found)


def test_backfill_whose_worker_is_killed_goes_on_and_runs_each_time_once(
    service: Longshore, client: httpx2.Client, killed_worker: ReplacedWorker
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-01T03:00:00Z", repeat="daily")).json()["id"]
    with Hold.row(service, 1) as hold:
        span = {"start": "2026-05-01T03:00:00Z", "end": "2026-05-03T03:00:00Z"}
        assert client.post(f"/tasks/{task}/backfill", json=span).json()["runs"] == 2
        hold.reached()
        killed_worker.kill()
    killed_worker.replace()
    until(lambda: client.get(f"/tasks/{task}/backfills").json()[0]["state"] == "DONE", "the backfill to end")
    runs = client.get(f"/tasks/{task}/runs").json()
    assert [(run["due"], run["state"], run["attempts"]) for run in runs] == [
        ("2026-05-03T03:00:00Z", "DONE", 1), ("2026-05-02T03:00:00Z", "DONE", 2),
    ]  # fmt: skip
    assert client.post(f"/tasks/{task}/cancel").status_code == 200


def test_worker_killed_before_it_connects_to_the_source_is_replaced(
    service: Longshore, client: httpx2.Client, create: Create, killed_worker: ReplacedWorker
) -> None:
    with Hold.source(service) as hold:
        task = create()
        hold.reached()
        assert client.get(f"/tasks/{task}").json()["state"]["code"] == "INPROGRESS"
        killed_worker.kill()
    killed_worker.replace()
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    assert_whole(service, client, found)


def test_a_worker_killed_before_the_task_is_in_progress_leaves_no_trace(
    service: Longshore, client: httpx2.Client, create: Create, killed_worker: ReplacedWorker
) -> None:
    with Hold(service.url, "lock table longshore.runs in share row exclusive mode") as hold:
        task = create()
        waiters = hold.reached()
        assert client.get(f"/tasks/{task}").json()["state"]["code"] == "READY"
        killed_worker.kill()
        cut_off(service, waiters)
    killed_worker.replace()
    found = ended(client, task)
    assert messages(found) == UNDISTURBED
    assert_whole(service, client, found)


def test_file_that_was_not_recorded_is_written_again(
    service: Longshore, client: httpx2.Client, create: Create, killed_worker: ReplacedWorker
) -> None:
    with Hold.row(service, ROWS) as last_row:
        task = create()
        last_row.reached()
        with Hold.task(service, task) as state:
            last_row.release()
            waiters = state.reached()
            assert len(files_of(service, task)) == 3  # whole, with its manifest and signature
            assert client.get(f"/tasks/{task}").json()["state"]["code"] == "INPROGRESS"
            assert client.get(f"/tasks/{task}/download_url").status_code == 409
            killed_worker.kill()
            cut_off(service, waiters)
    killed_worker.replace()
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    assert_whole(service, client, found)


def test_worker_killed_while_it_finishes_a_run_is_replaced(
    service: Longshore, client: httpx2.Client, create: Create, killed_worker: ReplacedWorker
) -> None:
    with Hold.row(service, ROWS) as last_row:
        task = create()
        last_row.reached()
        with Hold.task(service, task) as state:
            last_row.release()
            state.reached()
            killed_worker.kill()
    killed_worker.replace()
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    until(lambda: not service.sql(MESSAGE, str(task)), "the message to be ticked off")
    assert_whole(service, client, found)
