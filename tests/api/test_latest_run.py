"""`runs/latest`: the DONE run whose data interval ends last, in place of a run's number."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.answers import problem, violations
from tests.destinations.places import add_place, delivered_body
from tests.run_steps import play
from tests.service import Longshore, export_body
from tests.waiting import until

CHAIN = 8813
MOVE = "update longshore.runs set interval_end = $3 where task_id = $1 and run = $2"
MOVE_TASK = "update longshore.tasks set interval_end = $2 where id = $1"
NOW = datetime(2026, 5, 26, 12, tzinfo=UTC)


@pytest.fixture
def client(idle_service: Longshore) -> Iterator[httpx2.Client]:
    with idle_service.client(Level.ADMIN, chain=CHAIN) as client:
        yield client
    idle_service.sql("delete from longshore.tasks where chain_id = $1", CHAIN)
    idle_service.sql("delete from longshore.pgqueuer")


@pytest.fixture
def task(client: httpx2.Client) -> int:
    return int(client.post("/tasks", json=export_body(chain=CHAIN)).json()["id"])


def ran(idle_service: Longshore, client: httpx2.Client, task: int, days: int, end: str = "finish") -> None:
    """Play another run of a task, whose interval ends so many days after NOW."""
    client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
    play(idle_service, task, "begin")
    run = idle_service.sql("select run from longshore.tasks where id = $1", task)[0]["run"]
    idle_service.sql(MOVE, task, run, NOW + timedelta(days=days))
    idle_service.sql(MOVE_TASK, task, NOW + timedelta(days=days))
    play(idle_service, task, end)


def latest(client: httpx2.Client, task: int) -> int:
    answer = client.get(f"/tasks/{task}/runs/latest")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["run"])


def test_latest_run_is_the_done_one_whose_interval_ends_last_and_of_equal_ones_the_later(
    idle_service: Longshore, client: httpx2.Client, task: int
) -> None:
    ran(idle_service, client, task, 0)
    assert latest(client, task) == 1
    ran(idle_service, client, task, 2)
    assert latest(client, task) == 2
    ran(idle_service, client, task, 1)
    assert latest(client, task) == 2, "a run of an older interval does not replace it"
    ran(idle_service, client, task, 3, "fail")
    assert latest(client, task) == 2, "a run in ERROR is none"
    ran(idle_service, client, task, 2)
    assert latest(client, task) == 5
    client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
    play(idle_service, task, "begin")
    assert latest(client, task) == 5, "whatever the task does meanwhile"
    problem(client.get(f"/tasks/{task}/download_url"), "task-not-done")
    assert client.get(f"/tasks/{task}").json()["result"] == ""


def test_result_of_a_done_task_is_that_of_its_latest_run(
    idle_service: Longshore, client: httpx2.Client, task: int
) -> None:
    ran(idle_service, client, task, 2)
    idle_service.sql("update longshore.runs set result = 'newest.csv' where task_id = $1", task)
    ran(idle_service, client, task, 1)
    assert client.get(f"/tasks/{task}").json()["result"] == "newest.csv"
    ran(idle_service, client, task, 3)
    assert client.get(f"/tasks/{task}").json()["result"] == "a.csv"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/manifest"),
        ("GET", "/download_url"),
        ("POST", "/ack"),
        ("POST", "/deliver"),
        ("GET", "/deliveries"),
    ],
)
def test_latest_run_of_a_task_without_a_done_run_is_not_found(
    client: httpx2.Client, task: int, method: str, path: str
) -> None:
    problem(client.request(method, f"/tasks/{task}/runs/latest{path}"), "run-not-found")
    problem(client.request(method, f"/tasks/4611686018427387904/runs/latest{path}"), "task-not-found")


@pytest.mark.parametrize("run", ["newest", "Latest", "latest%20", "0", "01", "-1", "1e1", "2147483648"])
def test_address_of_a_run_takes_its_number_or_latest_alone(client: httpx2.Client, task: int, run: str) -> None:
    for path in ("", "/manifest", "/download_url"):
        assert list(violations(client.get(f"/tasks/{task}/runs/{run}{path}"))) == ["run"]


def test_run_that_does_not_exist_is_not_found(idle_service: Longshore, client: httpx2.Client, task: int) -> None:
    ran(idle_service, client, task, 0)
    assert client.get(f"/tasks/{task}/runs/1").json() == client.get(f"/tasks/{task}/runs").json()[0]
    problem(client.get(f"/tasks/{task}/runs/2"), "run-not-found")


def test_latest_run_is_acknowledged_and_its_deliveries_are_listed(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    place = add_place(service, tmp_path, chain=1765)
    target = {"incremental": "on_ack"}
    body = delivered_body({"destination": place.name}, target=target, chain=1765, once="2126-01-01T00:00:00Z")
    task = small_client.post("/tasks", json=body).json()["id"]
    for run in (1, 2):
        assert small_client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"}).status_code == 202
        path = f"/tasks/{task}/runs/{run}"
        until(lambda path=path: small_client.get(path).json().get("state") == "DONE", "the run", 60)  # type: ignore[misc]
    service.sql(
        "update longshore.runs set interval_end = interval_end + interval '1 day' where task_id = $1 and run = 1", task
    )
    found = {run: small_client.get(f"/tasks/{task}/runs/{run}/deliveries").json() for run in (1, 2, "latest")}
    assert found["latest"] == found[1] != found[2]
    answer = small_client.post(f"/tasks/{task}/runs/latest/ack")
    assert (answer.status_code, answer.json()["run"]) == (200, 1), answer.text
    assert answer.json()["increment"]["acknowledged"] is True


def test_result_of_the_latest_run_is_downloaded_while_the_task_is_done(
    service: Longshore, small_client: httpx2.Client
) -> None:
    body = export_body(chain=1765, once="2126-01-01T00:00:00Z")
    task = small_client.post("/tasks", json=body).json()["id"]
    for _ in range(2):
        assert small_client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    later = "update longshore.runs set interval_end = interval_end + interval '1 day' where task_id = $1 and run = 1"
    service.sql(later, task)
    [expected] = service.sql("select location from longshore.runs where task_id = $1 and run = 1", task)
    for path in ("download_url", "runs/latest/download_url", "runs/1/download_url"):
        url = small_client.get(f"/tasks/{task}/{path}").json()["url"]
        assert expected["location"] in url, path
    assert small_client.get(f"/tasks/{task}/runs/latest/manifest").json()["run"] == 1
    signatures = [small_client.get(f"/tasks/{task}/runs/{run}/manifest.jws").content for run in (1, 2, "latest")]
    assert signatures[2] == signatures[0] != signatures[1]
    [listed] = small_client.get(f"/tasks/{task}/runs/latest/files").json()
    assert expected["location"] in listed["url"]
    [file] = [each for each in service.files() if str(each).endswith(expected["location"])]
    file.unlink()
    for path in ("download_url", "runs/latest/download_url"):
        problem(small_client.get(f"/tasks/{task}/{path}"), "result-gone")
