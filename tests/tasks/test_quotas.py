"""Quotas of a chain: tasks, bytes of their texts, bytes of results; counted exactly, by whatever way they change."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

from longshore.access.tokens import Level
from tests.answers import problem
from tests.run_steps import play
from tests.service import CHAIN, Longshore, ended, export_body, further_api, in_own_loop

ALLOWED = 8
BYTES = 1_000_000
LATER = "2126-05-26T12:00:00Z"


@pytest.fixture(scope="module")
def bounded(idle_service: Longshore) -> Any:
    """The service without a worker once more, with low quotas, in a chain of its own."""
    with further_api(idle_service, "bounded", chain_stored_tasks=str(ALLOWED), chain_task_megabytes="1") as longshore:
        yield longshore


def body(chain: int, **more: Any) -> dict[str, Any]:
    return {**export_body(chain=chain, once=LATER), **more}


def usage(service: Longshore, chain: int) -> tuple[int, int, int]:
    """Return the counted usage, after a check that it equals a count of all rows."""
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


def test_stored_results_count_for_the_quota_until_they_are_removed(bounded: Longshore) -> None:
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


def test_deleting_many_tasks_of_many_chains_in_one_statement_keeps_the_counts_in_linear_time(
    bounded: Longshore,
) -> None:
    insert = """
    with made as (
        insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at)
        select $1 + number % 2, 'x', 'none', '{}', '{}', '', 'infinity' from generate_series(1, $2::int) number
        returning id
    )
    insert into longshore.runs (task_id, run, first_attempt, attempt, began_at, attempt_began_at, progress_at, bytes,
                                expires_at)
    select id, run, 1, 1, now(), now(), now(), 7, 'infinity' from made, generate_series(1, 2) run
    """

    def seconds(count: int) -> float:
        bounded.sql(insert, 55, count)
        bounded.sql("update longshore.chain_usage set result_bytes = tasks * 14 where chain_id in (55, 56)")
        bounded.sql("delete from longshore.tasks where id in (select max(id) from longshore.tasks where chain_id = 55)")
        assert usage(bounded, 55)[2] == (count // 2 - 1) * 14
        assert usage(bounded, 56)[2] == count // 2 * 14
        began = time.monotonic()
        bounded.sql("delete from longshore.tasks where chain_id in (55, 56)")
        took = time.monotonic() - began
        assert usage(bounded, 55) == usage(bounded, 56) == (0, 0, 0)
        return took

    few, many = seconds(1000), seconds(10_000)
    assert many < 40 * few, "ten times the tasks"


def test_deleting_many_tasks_in_one_statement_does_not_deadlock_with_a_run_that_ends(bounded: Longshore) -> None:
    """The run holds its task and comes to its chain's usage; the deletion has other tasks and comes to that task."""
    with bounded.client(chain=57) as client:
        tasks = [client.post("/tasks", json=export_body(chain=57)).json()["id"] for _ in range(3)]
    play(bounded, tasks[1], "begin")

    async def both() -> None:
        run, deletion = await asyncpg.connect(bounded.url), await asyncpg.connect(bounded.url)
        try:
            transaction = run.transaction()
            await transaction.start()
            await run.execute("select from longshore.tasks where id = $1 for update", tasks[1])
            deleting = asyncio.create_task(deletion.execute("delete from longshore.tasks where chain_id = 57"))
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'delete%57'"
            while not await run.fetchval(waiting):
                await run.execute("select pg_stat_clear_snapshot()")  # else a transaction sees what it saw first
                await asyncio.sleep(0.02)
            await run.execute("update longshore.runs set expires_at = 'infinity' where task_id = $1", tasks[1])
            await transaction.commit()
            await deleting
        finally:
            await run.close()
            await deletion.close()

    in_own_loop(both())
    assert usage(bounded, 57) == (0, 0, 0)


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
