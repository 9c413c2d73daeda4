"""A running task that is cancelled stops at once, wherever its export stands, and leaves nothing behind."""

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, Hold, files_of, messages, until
from tests.service import Longshore, ended

BUSY = "select pid from pg_stat_activity where application_name = 'longshore export' and state <> 'idle'"


@pytest.mark.parametrize("row", [1, ROWS // 2, ROWS])
def test_a_running_export_that_is_cancelled_stops_and_its_query_too(
    service: Longshore, client: httpx2.Client, create: Create, row: int
) -> None:
    worker = service.start("worker")
    with Hold.row(service, row) as hold:
        task = create()
        hold.reached()
        cancelled = client.post(f"/tasks/{task}/cancel")
        assert cancelled.status_code == 200, cancelled.text
        assert cancelled.json()["state"]["code"] == "ERROR"
        until(lambda: not service.sql(BUSY), "the query to end", 10)
        until(lambda: not files_of(service, task), "the partial file to go", 10)
    first, said, last = messages(client.get(f"/tasks/{task}").json())
    assert (first, last) == ("READY -> INPROGRESS", "INPROGRESS -> ERROR")
    assert said.startswith("cancelled by token ")
    # The worker goes on with the next one, and the same task can be run again.
    assert client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    assert ended(client, task)["logs"][-1]["msg"] == "INPROGRESS -> DONE"
    worker.terminate()
    assert worker.wait(20) == 0
