"""The audit log: everything that was done is in it, with who did it, and nothing ever leaves it."""

import asyncio
import csv
import io
from typing import Any

import asyncpg
import httpx2
import pytest

from longshore.access.tokens import Level
from tests.access.users import new_user
from tests.answers import problem, violations
from tests.service import Longshore, downloaded, ended, export_body, exported

SEGMENT = {
    "entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1764,
    "rules": [
        {"field_name": "timestamp", "field_type": "date", "operator": "is_after_date", "start_date": "2026-01-01"}
    ],
}  # fmt: skip


def entries(client: httpx2.Client, **filters: str) -> list[dict[str, Any]]:
    answer = client.get("/audit", params={"limit": 100, **filters})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.fixture(scope="module")
def admin(service: Longshore) -> httpx2.Client:
    return service.client(Level.ADMIN)


def test_each_change_has_an_audit_entry_with_its_actor_and_request(service: Longshore, admin: httpx2.Client) -> None:
    with service.client(Level.WRITE) as client:
        token = client.headers["authorization"].split()[1].split(":")[0]
        task = client.post("/tasks", json=export_body(), headers={"X-Request-Id": "made-here"}).json()["id"]
        ended(client, task)
        client.post(f"/tasks/{task}/execute")
        downloaded(client, task)
        kept = client.post("/segments", json={"chain": 1764, "name": "x", "segment": SEGMENT}).json()
        client.put(f"/segments/{kept['id']}", json={"chain": 1764, "name": "y", "segment": SEGMENT})
        client.post("/segments/preview", json={"segment": SEGMENT})
        client.delete(f"/segments/{kept['id']}")
    mine = entries(admin, actor=f"token {token}")
    assert [entry["action"] for entry in reversed(mine)] == [
        "task.create", "task.execute", "result.address",
        "segment.create", "segment.replace", "segment.preview", "segment.delete",
    ]  # fmt: skip
    assert mine[-1]["object"] == f"task {task}"
    assert mine[-1]["request_id"] == "made-here"
    assert {entry["address"] for entry in mine} == {"127.0.0.1"}
    download = entries(admin, object=f"task {task}", action="result.download")
    assert [(entry["actor"], entry["details"]["run"]) for entry in download] == [("address", 2)]


def test_refused_request_has_no_audit_entry(service: Longshore, admin: httpx2.Client) -> None:
    newest = entries(admin)[0]["id"]
    with service.client(Level.WRITE) as client:
        problem(client.post("/tasks/999999999/execute"), "task-not-found")
        problem(client.delete("/segments/0b9f1b0e-7f53-4f5e-9d1a-3f8f6f0a2c11"), "segment-not-found")
        violations(client.post("/tasks", json={}))
    assert entries(admin)[0]["id"] == newest


def test_audit_entries_are_filtered_and_paged_and_belong_to_their_chain(
    service: Longshore, admin: httpx2.Client
) -> None:
    user = new_user(service, _1764=Level.READ, _1765=Level.READ)
    user.sign_in("wrong horse battery staple")
    user.session()
    for chain in (1764, 1765):
        with service.client(Level.ADMIN, chain) as each:
            seen = [entry["action"] for entry in entries(each, object=f"user {user.id}")]
            assert seen == ["login.success", "login.failure"]
    with service.client(Level.ADMIN, 9) as other:
        assert entries(other, object=f"user {user.id}") == []
    first = entries(admin)
    assert [entry["id"] for entry in first] == sorted((entry["id"] for entry in first), reverse=True)
    assert entries(admin, until=first[-1]["time"], since=first[0]["time"]) == []
    page = admin.get("/audit", params={"limit": 1, "offset": 1, "object": f"user {user.id}"})
    assert [entry["action"] for entry in page.json()] == ["login.failure"]
    assert 'rel="next"' in admin.get("/audit", params={"limit": 1}).headers["link"]
    assert set(violations(admin.get("/audit", params={"limit": "x", "who": "1"}))) == {"limit", "who"}
    for bad in ("2026-01-01T00:00:00", "x", "0.5", "", "0001-01-01T00:00:00+23:00", "2026-01-01"):
        assert set(violations(admin.get("/audit", params={"since": bad, "until": bad}))) == {"since", "until"}


@pytest.mark.parametrize("level", [Level.READ, Level.WRITE])
def test_audit_log_is_for_admins_only(service: Longshore, admin: httpx2.Client, level: Level) -> None:
    body = export_body()
    body["target"]["export_index"] = "audit"
    task, _ = exported(admin, body)
    with service.client(level) as client:
        problem(client.get("/audit"), "forbidden")
        problem(client.post("/tasks", json=body), "forbidden")
        problem(client.get(f"/tasks/{task['id']}/download_url"), "forbidden")
        rule = {"field_name": "action", "field_type": "keyword", "operator": "is", "value": "task.create"}
        segment = {**SEGMENT, "index": "audit", "rules": [rule]}
        problem(client.post("/segments/preview", json={"segment": segment}), "forbidden")


def test_audit_log_is_exported_like_any_other_index(service: Longshore, admin: httpx2.Client) -> None:
    user = new_user(service, _1764=Level.ADMIN, _1765=Level.ADMIN)
    user.session(1765)
    body = export_body()
    body["target"]["export_index"] = "audit"
    task, content = exported(admin, body)
    assert task["result"] == f"Audit_Export-{task['id']}.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    expected = service.sql("select id from longshore.audit where chain_id = 1764 and id <= $1",
                           max(int(row["id"]) for row in rows))  # fmt: skip
    assert sorted(int(row["id"]) for row in rows) == sorted(row["id"] for row in expected)
    assert {"task.create", "login.success"} <= {row["action"] for row in rows}


@pytest.mark.parametrize(
    "change",
    [
        "update longshore.audit set actor = 'nobody'",
        "delete from longshore.audit",
        "delete from longshore.audit where false",
        "truncate longshore.audit",
        "set session_replication_role = replica; delete from longshore.audit",
    ],
)
def test_audit_entry_cannot_be_changed_even_by_the_superuser(service: Longshore, change: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(service.url)
        try:
            assert await connection.fetchval("select rolsuper from pg_roles where rolname = current_user")
            await connection.execute(change)
        finally:
            await connection.close()

    before = service.sql("select count(*) from longshore.audit where id < 10")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever appended to"):
        asyncio.run(run())
    assert service.sql("select count(*) from longshore.audit where id < 10") == before


def test_change_that_is_rolled_back_has_no_audit_entry(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    """The entry of a task that could not be created (its log could not be read back) is gone as the task is."""
    count = "select (select count(*) from longshore.audit), (select count(*) from longshore.segments)"
    before = idle_service.sql(count)
    idle_service.sql("alter table longshore.audit add constraint broken check (action <> 'segment.create') not valid")
    try:
        answer = idle_client.post("/segments", json={"chain": 1764, "name": "x", "segment": SEGMENT})
        problem(answer, "internal-error")
    finally:
        idle_service.sql("alter table longshore.audit drop constraint broken")
    assert idle_service.sql(count) == before
