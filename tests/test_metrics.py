"""The exported metrics are true, during runs and after them."""

import re
import signal
from collections.abc import Callable

import httpx2

from tests.faults.held import ROWS, Hold, write_source
from tests.service import Longshore, ended, export_body, free_port
from tests.waiting import until


def metric_value(address: str, series: str) -> float:
    """A figure as it is told now, 0 where there is none yet."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", httpx2.get(f"{address}/metrics").text, re.M)
    return float(found[1]) if found else 0.0


def test_rows_and_bytes_grow_while_a_run_writes_and_count_each_row_once(
    new_service: Callable[..., Longshore],
) -> None:
    service = new_service(heartbeat_timeout="1")
    catalog, ports = str(write_source(service)), [free_port(), free_port()]
    first, second = (f"http://127.0.0.1:{port}" for port in ports)
    rows, size = (f'longshore_{what}_total{{action="export"}}' for what in ("rows", "bytes"))
    service.start_api(catalog=catalog)
    worker = service.start("worker", catalog=catalog, worker_metrics_port=str(ports[0]))
    errors = 'longshore_runs_total{action="export",state="ERROR"} 0.0'
    with service.client() as client:
        with Hold.row(service, ROWS) as last_row:
            task = client.post("/tasks", json=export_body()).json()["id"]
            last_row.reached()
            until(lambda: metric_value(first, rows) > ROWS / 2, "the rows to be counted")
            assert metric_value(first, size) > ROWS / 2 * 1000
            assert metric_value(first, rows) < ROWS
            assert client.get(f"/tasks/{task}").json()["state"]["code"] == "INPROGRESS"
        run = (ended(client, task), client.get(f"/tasks/{task}/runs").json()[0])[1]
        until(lambda: metric_value(first, rows) == ROWS, "the last rows")
        assert errors in httpx2.get(f"{first}/metrics").text, "a series begins before there is anything to count"
        assert metric_value(first, size) == run["bytes"]
        client.post(f"/tasks/{task}/execute")
        until(lambda: metric_value(first, rows) == 2 * ROWS, "the rows of a second run")
        assert metric_value(first, size) == 2 * run["bytes"]

        with Hold.row(service, ROWS) as last_row:
            task = client.post("/tasks", json=export_body()).json()["id"]
            last_row.reached()
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        service.start("worker", catalog=catalog, worker_metrics_port=str(ports[1]))
        ended(client, task)
        until(lambda: metric_value(second, 'longshore_runs_total{action="export",state="DONE"}') == 1, "the run")
        assert metric_value(second, "longshore_lost_attempts_total") == 1
        assert metric_value(second, rows) == ROWS
        # 2 where the service's own task of a quarter-hour was due.
        assert metric_value(second, "longshore_queue_wait_seconds_count") in (1, 2)


def test_the_queue_is_as_old_as_its_oldest_due_time(new_service: Callable[..., Longshore]) -> None:
    service = new_service()
    service.start_api()
    with service.client() as client:
        task = client.post("/tasks", json=export_body(once="2099-01-01T00:00:00Z")).json()["id"]
        service.sql("update longshore.tasks set created_at = now() - interval '30 days', modified_at = created_at")
        client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
        assert 0 <= metric_value(service.address, "longshore_queue_oldest_seconds") < 60
        assert metric_value(service.address, "longshore_queue_tasks") == 1


def test_a_task_that_waits_for_its_own_chain_does_not_make_the_queue_old(
    new_service: Callable[..., Longshore],
) -> None:
    service = new_service(chain_tasks="1")
    service.start_api()
    with service.client() as client:
        for _ in range(2):
            client.post("/tasks", json=export_body())
    service.sql("update longshore.tasks set waits_since = now() - interval '2 hours' where parked")
    for column in ("created", "execute_after"):
        service.sql(f"update longshore.pgqueuer set {column} = now() - interval '1 hour'")
    assert metric_value(service.address, "longshore_queue_tasks") == 2
    assert metric_value(service.address, "longshore_queue_parked_tasks") == 1
    assert 3600 <= metric_value(service.address, "longshore_queue_oldest_seconds") < 3660


def test_long_polls_do_not_count_as_slow_requests(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2099-01-01T00:00:00Z")).json()["id"]
    count, total = (
        f'longshore_http_request_seconds_{what}{{method="GET",route="/tasks/{{id}}' for what in ("count", "sum")
    )
    before = [metric_value(idle_service.address, series) for series in (count + '"}', total + '"}', count + '?wait"}')]
    idle_client.get(f"/tasks/{task}", params={"wait": 10})
    idle_client.get(f"/tasks/{task}")
    after = [metric_value(idle_service.address, series) for series in (count + '"}', total + '"}', count + '?wait"}')]
    assert after[0] == before[0] + 1
    assert after[1] - before[1] < 9
    assert after[2] == before[2] + 1
