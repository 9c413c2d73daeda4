"""Quotas of a chain: tasks, bytes of their texts, bytes of results; counted exactly, by whatever way they change."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from longshore.access.tokens import Level
from tests.answers import problem
from tests.played import play
from tests.service import CHAIN, Longshore, ended, export_body

ALLOWED = 8
BYTES = 1_000_000
LATER = "2126-05-26T12:00:00Z"


@pytest.fixture(scope="module")
def bounded(idle: Longshore) -> Any:
    """The service without a worker once more, with low quotas, in a chain of its own."""
    longshore = Longshore(idle.data, idle.url, chain_stored_tasks=str(ALLOWED), chain_task_megabytes="1")
    longshore.log_file = idle.data / "bounded.log"
    try:
        longshore.start_api()
        yield longshore
    finally:
        longshore.stop()


def body(chain: int, **more: Any) -> dict[str, Any]:
    return {**export_body(chain=chain, once=LATER), **more}


def usage(service: Longshore, chain: int) -> tuple[int, int, int]:
    """What is counted, which is what a count of all rows gives."""
    kept_columns = "select tasks, task_bytes, result_bytes from longshore.chain_usage where chain_id = $1"
    (kept,) = service.sql(kept_columns, chain)
    (counted,) = service.sql(
        "select count(*), coalesce(sum(octet_length(description) + octet_length(trigger::text)"
        " + octet_length(target::text) + octet_length(debug)), 0), (select coalesce(sum(r.bytes), 0)"
        " from longshore.runs r join longshore.tasks t on t.id = r.task_id"
        " where t.chain_id = $1 and r.expires_at is not null) from longshore.tasks where chain_id = $1",
        chain,
    )
    assert tuple(kept) == tuple(int(each) for each in counted)
    return tuple(kept)


def test_a_chain_at_its_quota_of_tasks_is_answered_409_and_others_are_not(bounded: Longshore) -> None:
    with bounded.client(chain=51) as client, bounded.client(chain=52) as stranger:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post("/tasks", json=body(51)), range(3 * ALLOWED)))
        made = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        refused = [answer for answer in answers if answer.status_code != 201]
        assert len(made) == ALLOWED
        for answer in refused:
            problem(answer, "quota-used-up")
        assert refused[0].json()["detail"] == "The chain's quota of 8 tasks does not hold 9; delete tasks first."
        assert usage(bounded, 51)[0] == ALLOWED
        assert stranger.post("/tasks", json=body(52)).status_code == 201
        assert client.patch(f"/tasks/{made[0]}", json={"desc": "other"}).status_code == 200
        assert client.delete(f"/tasks/{made[0]}").status_code == 204
        assert client.post("/tasks", json=body(51)).status_code == 201


def test_a_chain_at_its_quota_of_bytes_is_answered_409_until_it_has_less(bounded: Longshore) -> None:
    with bounded.client(chain=53) as client:
        task = client.post("/tasks", json=body(53, debug="x" * 60_000)).json()["id"]
        bounded.sql("update longshore.tasks set debug = repeat('x', 999000) where id = $1", task)
        assert usage(bounded, 53)[1] < BYTES
        problem(client.post("/tasks", json=body(53, debug="x" * 60_000)), "quota-used-up")
        small = client.post("/tasks", json=body(53)).json()["id"]
        problem(client.patch(f"/tasks/{small}", json={"debug": "x" * 60_000}), "quota-used-up")
        assert client.get(f"/tasks/{small}").json()["debug"] == "", "nothing was changed"
        assert client.patch(f"/tasks/{task}", json={"debug": "x"}).status_code == 200
        assert client.patch(f"/tasks/{small}", json={"debug": "x" * 60_000}).status_code == 200
        usage(bounded, 53)


def test_results_are_counted_while_they_are_kept(bounded: Longshore) -> None:
    with bounded.client(chain=54) as client:
        first, second = (client.post("/tasks", json=export_body(chain=54)).json()["id"] for _ in range(2))
        for task in (first, second):
            play(bounded, task, "begin", "finish")
            bounded.sql("update longshore.runs set expires_at = now() + interval '1 day' where task_id = $1", task)
        assert usage(bounded, 54) == (2, usage(bounded, 54)[1], 60)
        bounded.sql("update longshore.runs set expires_at = null where task_id = $1", first)
        assert usage(bounded, 54)[2] == 30
        assert client.delete(f"/tasks/{second}").status_code == 204
        assert usage(bounded, 54)[2] == 0


def test_a_run_of_a_chain_whose_results_use_up_the_quota_ends_in_error_with_the_reason(new_service: Any) -> None:
    service: Longshore = new_service(rows=100, chain_result_gigabytes="1")
    service.start_api()
    service.start("worker")
    with service.client(Level.WRITE) as client:
        assert ended(client, client.post("/tasks", json=export_body()).json()["id"])["state"]["code"] == "DONE"
        assert usage(service, CHAIN)[2] > 1000
        service.sql("update longshore.chain_usage set result_bytes = 1000000000 where chain_id = $1", CHAIN)
        task = ended(client, client.post("/tasks", json=export_body()).json()["id"])
    assert task["state"]["code"] == "ERROR"
    expected = "quota of 1,000,000,000 bytes of results does not hold 1,000,000,000; delete tasks first."
    assert any(expected in entry["msg"] for entry in task["logs"]), task
