"""An `execute` that waits to start: what joins its run, what is refused, and the answer where it never begins."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx2
import pytest

from tests.answers import problem
from tests.run_steps import play
from tests.service import Longshore
from tests.tasks.test_intervals import ASYNC, DAY, runs, shown
from tests.waiting import until

MINUTE_LATER = """
update longshore.tasks
set waits_since = waits_since - interval '1 minute', interval_end = interval_end - interval '1 minute'
where id = $1
"""


def body_of(client: httpx2.Client, task: int, days: int | None) -> dict[str, str]:
    """Return the body that asks for the interval so many days before the newest; without one for `None`."""
    [first] = runs(client, task)
    return {} if days is None else {"interval_end": shown(datetime.fromisoformat(first["due"]) - days * DAY)}


def row_of(service: Longshore, task: int) -> Any:
    [row] = service.sql("select t::text from longshore.tasks t where id = $1", task)
    return row["t"]


@pytest.mark.parametrize(("queued", "asked"), [(3, 2), (3, None), (None, 3)])
def test_execute_for_another_interval_than_the_queued_run_is_refused_and_changes_nothing(
    idle_service: Longshore, idle_client: httpx2.Client, daily: int, queued: int | None, asked: int | None
) -> None:
    path, body, other = (
        f"/tasks/{daily}/execute",
        body_of(idle_client, daily, queued),
        body_of(idle_client, daily, asked),
    )
    assert idle_client.post(path, json=body, headers=ASYNC).status_code == 202
    before = row_of(idle_service, daily)
    for headers in (ASYNC, {}):
        refused = problem(idle_client.post(path, json=other, headers=headers), "run-queued")
        assert body.get("interval_end", "A run for the interval") in refused["detail"]
    assert row_of(idle_service, daily) == before
    play(idle_service, daily, "begin", "finish")
    end = runs(idle_client, daily)[0]["interval"]["end"]
    if queued is not None:
        assert end == body["interval_end"]
    assert idle_client.post(path, json=other, headers=ASYNC).status_code == 202, "nothing is queued any more"


@pytest.mark.parametrize("days", [3, None])
def test_execute_for_the_interval_of_the_queued_run_joins_it_and_changes_nothing(
    idle_service: Longshore, idle_client: httpx2.Client, daily: int, days: int | None
) -> None:
    path, body = f"/tasks/{daily}/execute", body_of(idle_client, daily, days)
    assert idle_client.post(path, json=body, headers=ASYNC).status_code == 202
    if days is None:
        idle_service.sql(MINUTE_LATER, daily)
    before = row_of(idle_service, daily)
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(idle_client.post, path, json=body, timeout=10)
        assert idle_client.post(path, json=body, headers=ASYNC).status_code == 202
        assert row_of(idle_service, daily) == before
        until(lambda: "\nlongshore_waiters 0" not in httpx2.get(f"{idle_service.address}/metrics").text, "the waiter")
        assert row_of(idle_service, daily) == before
        play(idle_service, daily, "begin", "fail")
        assert joined.result().json()["code"] == "ERROR", "of the run that was queued"
    assert len(runs(idle_client, daily)) == 2


def test_change_that_is_due_at_once_is_refused_while_an_execute_waits_and_changes_nothing(
    idle_service: Longshore, idle_client: httpx2.Client, daily: int
) -> None:
    path, at_once = f"/tasks/{daily}", {"trigger": {"once": "2020-01-01T00:00:00Z"}}
    assert idle_client.post(f"{path}/execute", json=body_of(idle_client, daily, 3), headers=ASYNC).status_code == 202
    before = row_of(idle_service, daily)
    refused = problem(idle_client.patch(path, json=at_once), "run-queued")
    assert "waits to start" in refused["detail"]
    assert row_of(idle_service, daily) == before
    assert idle_client.patch(path, json={"desc": "another"}).status_code == 200, "the trigger stays"
    play(idle_service, daily, "begin", "finish")
    assert idle_client.patch(path, json=at_once).status_code == 200
    assert len(runs(idle_client, daily)) == 2, "the run of the new trigger is still to begin"


@pytest.mark.parametrize("last", ["finish", "fail"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/cancel", None), ("PATCH", "", {"trigger": {"once": "2126-05-26T12:00:00Z"}})],
    ids=["cancel", "patch"],
)
def test_execute_of_an_ended_task_that_never_begins_is_not_answered_with_the_run_before(
    idle_service: Longshore, idle_client: httpx2.Client, daily: int, method: str, path: str, body: Any, last: str
) -> None:
    assert idle_client.post(f"/tasks/{daily}/execute", headers=ASYNC).status_code == 202
    play(idle_service, daily, "begin", last)
    with ThreadPoolExecutor(1) as pool:
        execute = pool.submit(idle_client.post, f"/tasks/{daily}/execute", timeout=10)
        queued = "select from longshore.tasks where id = $1 and attempt_began_at is null and due_at is null"
        until(lambda: idle_service.sql(queued, daily), "the execute")
        assert idle_client.request(method, f"/tasks/{daily}{path}", json=body).status_code == 200
        problem(execute.result(), "run-withdrawn")
