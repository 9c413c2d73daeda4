"""Work that outlives the credential that made it, in a database without a worker."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from longshore.access import work_of_credentials
from longshore.access.audit import Actor
from longshore.access.tokens import Level
from longshore.access.work_of_credentials import Ongoing
from longshore.database.connect import open_pool
from longshore.tasks.model import ChainId
from tests import command
from tests.service import Longshore, export_body

CHAIN = ChainId(503)
ADDED = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at, created_by)
select $1, '', 'export', '{}', '{}', '', '2126-01-01', $2 from generate_series(1, $3::int)
"""


def stop(service: Longshore, maker: str) -> Ongoing:
    async def run() -> Ongoing:
        async with open_pool(service.url, size=1, name="test") as pool, pool.acquire() as connection:
            return await work_of_credentials.stop(connection, Actor("command", "me"), [maker], CHAIN)

    return asyncio.run(run())


def test_task_with_only_runs_of_a_backfill_left_is_listed_and_stopped(idle: Longshore) -> None:
    with idle.client(Level.WRITE, chain=CHAIN) as client, idle.client(Level.ADMIN, chain=CHAIN) as admin:
        body = {**export_body(once="2026-01-01T06:00:00Z", repeat="daily"), "chain": CHAIN}
        task = client.post("/tasks", json=body).json()["id"]
        days = {"start": "2026-02-01T00:00:00Z", "end": "2026-02-03T00:00:00Z"}
        assert client.post(f"/tasks/{task}/backfill", json=days).status_code == 202
        idle.sql(
            "update longshore.tasks set state = 'DONE', due_at = null, attempt_began_at = now(), schedule_ended = true"
            " where id = $1",
            task,
        )
        token = client.headers["authorization"].removeprefix("Bearer ").split(":")[0]
        answer = admin.delete(f"/access_tokens/{token}?stop=true").json()
        assert ([each["id"] for each in answer["tasks"]], answer["stopped"]) == ([task], True)
    assert idle.sql("select backfill from longshore.tasks where id = $1", task)[0]["backfill"] is None


def test_all_tasks_are_stopped_where_they_are_more_than_a_page(
    idle: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_of_credentials, "MAX_LISTED", 2)
    maker = f"token {uuid4()}"
    idle.sql(ADDED, CHAIN, maker, 5)
    stopped = stop(idle, maker)
    assert (len(stopped.tasks), stopped.stopped) == (2, True), "a page of them is named"
    states = idle.sql("select distinct state from longshore.tasks where created_by = $1", maker)
    assert [row["state"] for row in states] == ["ERROR"]


def test_command_stops_each_task_in_a_transaction_of_its_own(idle: Longshore, tmp_path: Path) -> None:
    with idle.client(Level.WRITE, chain=CHAIN) as client:
        token = client.headers["authorization"].removeprefix("Bearer ").split(":")[0]
    idle.sql(ADDED, CHAIN, f"token {token}", 2)
    done = command.run("token", "revoke", token, "--stop", folder=tmp_path, data=str(idle.data), database_url=idle.url)
    assert (done.returncode, done.stdout.count("stopped: task")) == (0, 2), done.stderr
    # The time of an entry is that of the start of its transaction.
    moments = idle.sql(
        "select at from longshore.audit where chain_id = $1 and action = 'task.cancel' order by id", CHAIN
    )
    assert moments[-1]["at"] != moments[-2]["at"]
