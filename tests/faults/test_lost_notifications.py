"""No NOTIFY arrives: all goes on by looking again, a little later."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, UNDISTURBED, Hold, assert_whole, messages
from tests.service import Longshore, ended
from tests.waiting import until

TABLES = ("tasks", "pgqueuer")
TRIGGERS = "select tgname from pg_trigger where tgrelid = 'longshore.pgqueuer'::regclass and not tgisinternal"


@pytest.fixture
def silent(service: Longshore) -> Iterator[Longshore]:
    """The service while its database sends no notification."""
    assert service.sql(TRIGGERS), "triggers notify of new messages"
    for table in TABLES:
        service.sql(f"alter table longshore.{table} disable trigger user")
    yield service
    for table in TABLES:
        service.sql(f"alter table longshore.{table} enable trigger user")


def test_a_task_whose_notification_is_lost_runs_all_the_same(
    silent: Longshore, client: httpx2.Client, create: Create
) -> None:
    worker = silent.start("worker")
    for _ in range(2):  # the first may be found as the worker starts
        found = ended(client, create(), timeout=30)
        assert messages(found) == UNDISTURBED
    assert_whole(silent, client, found)
    worker.terminate()
    assert worker.wait(20) == 0


def test_run_is_cancelled_although_its_worker_misses_the_notification(
    silent: Longshore, client: httpx2.Client, create: Create
) -> None:
    worker = silent.start("worker")
    with Hold.row(silent, ROWS) as hold:
        task = create()
        hold.reached()
        assert client.post(f"/tasks/{task}/cancel").json()["state"]["code"] == "ERROR"
        until(lambda: not any(f"/{task}/" in str(path) for path in silent.files()), "the partial file to go")
    worker.terminate()
    assert worker.wait(20) == 0
