"""Work that outlives the credential that made it, in a database without a worker."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from longshore.access import work_of_credentials
from longshore.access.audit import Actor
from longshore.access.tokens import Level
from longshore.access.work_of_credentials import OngoingWork
from longshore.database.connect import open_pool
from longshore.tasks.model import ChainId
from tests import command
from tests.access.users import new_user
from tests.answers import violations
from tests.service import Longshore, export_body
from tests.waiting import until

CHAIN = ChainId(503)
ADDED = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at, created_by)
select $1, '', 'export', '{}', '{}', '', '2126-01-01', $2 from generate_series(1, $3::int)
"""
ADD_CLIENT = "insert into longshore.service_clients (chain_id, name) values ($1, $2) returning id"


def stop(service: Longshore, credential: str) -> OngoingWork:
    async def run() -> OngoingWork:
        async with open_pool(service.url, size=1, name="test") as pool, pool.acquire() as connection:
            return await work_of_credentials.stop(connection, Actor("command", "me"), [credential], CHAIN)

    return asyncio.run(run())


def test_task_with_only_runs_of_a_backfill_left_is_listed_and_stopped(idle_service: Longshore) -> None:
    with (
        idle_service.client(Level.WRITE, chain=CHAIN) as client,
        idle_service.client(Level.ADMIN, chain=CHAIN) as admin,
    ):
        body = {**export_body(once="2026-01-01T06:00:00Z", repeat="daily"), "chain": CHAIN}
        task = client.post("/tasks", json=body).json()["id"]
        days = {"start": "2026-02-01T00:00:00Z", "end": "2026-02-03T00:00:00Z"}
        assert client.post(f"/tasks/{task}/backfill", json=days).status_code == 202
        idle_service.sql(
            "update longshore.tasks set state = 'DONE', due_at = null, attempt_began_at = now(), schedule_ended = true"
            " where id = $1",
            task,
        )
        token = client.headers["authorization"].removeprefix("Bearer ").split(":")[0]
        answer = admin.delete(f"/access_tokens/{token}?stop=true").json()
        assert ([each["id"] for each in answer["tasks"]], answer["stopped"]) == ([task], True)
    assert idle_service.sql("select backfill from longshore.tasks where id = $1", task)[0]["backfill"] is None


def test_all_tasks_are_stopped_where_they_are_more_than_a_page(
    idle_service: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_of_credentials, "MAX_LISTED", 2)
    credential = f"token {uuid4()}"
    idle_service.sql(ADDED, CHAIN, credential, 5)
    stopped = stop(idle_service, credential)
    assert (len(stopped.tasks), stopped.stopped) == (2, True), "a page of them is named"
    states = idle_service.sql("select distinct state from longshore.tasks where created_by = $1", credential)
    assert [row["state"] for row in states] == ["ERROR"]


def test_command_stops_each_task_in_a_transaction_of_its_own(idle_service: Longshore, tmp_path: Path) -> None:
    with idle_service.client(Level.WRITE, chain=CHAIN) as client:
        token = client.headers["authorization"].removeprefix("Bearer ").split(":")[0]
    idle_service.sql(ADDED, CHAIN, f"token {token}", 2)
    done = command.run(
        "token", "revoke", token, "--stop", folder=tmp_path, data=str(idle_service.data), database_url=idle_service.url
    )
    assert (done.returncode, done.stdout.count("stopped: task")) == (0, 2), done.stderr
    # The time of an entry is that of the start of its transaction.
    moments = idle_service.sql(
        "select at from longshore.audit where chain_id = $1 and action = 'task.cancel' order by id", CHAIN
    )
    assert moments[-1]["at"] != moments[-2]["at"]


def test_command_stops_the_work_of_a_token_that_is_revoked_already(idle_service: Longshore, tmp_path: Path) -> None:
    id = idle_service.token(Level.WRITE, CHAIN).split(":")[0]

    def revoke(*words: str) -> int:
        options: dict[str, Any] = {"folder": tmp_path, "data": str(idle_service.data), "database_url": idle_service.url}
        return command.run("token", "revoke", *words, **options).returncode

    idle_service.sql(ADDED, CHAIN, f"token {id}", 1)
    assert [revoke(id), revoke(id), revoke(id, "--stop"), revoke(str(uuid4()), "--stop")] == [0, 1, 0, 1]
    (row,) = idle_service.sql("select state from longshore.tasks where created_by = $1", f"token {id}")
    assert row["state"] == "ERROR"


def test_chain_that_has_revoked_a_token_for_itself_can_still_stop_its_work(idle_service: Longshore) -> None:
    id = idle_service.token(Level.WRITE, CHAIN).split(":")[0]
    idle_service.sql("update longshore.access_tokens set more_chains = array[504] where id::text = $1", id)
    idle_service.sql(ADDED, 504, f"token {id}", 1)
    with idle_service.client(Level.ADMIN, 504) as admin:
        first = admin.delete(f"/access_tokens/{id}").json()
        second = admin.delete(f"/access_tokens/{id}?stop=true")
        assert (len(first["tasks"]), first["stopped"]) == (1, False)
        assert (second.status_code, len(second.json()["tasks"]), second.json()["stopped"]) == (200, 1, True)
        assert admin.delete(f"/access_tokens/{id}").status_code == 404


def status_of_late_body(
    service: Longshore, headers: dict[str, str], body: Any, meanwhile: Callable[[], Any], path: str = "/tasks"
) -> int:
    """The status of a POST whose body ends only after something happened, while its head is authenticated."""
    sent = json.dumps(body).encode()
    fields = {**headers, "Host": "x", "Content-Type": "application/json", "Connection": "close"}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    head = "\r\n".join([*lines, f"Content-Length: {len(sent)}", "", ""]).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head + sent[:-1])
        time.sleep(0.5)  # in which the guard has passed it on
        meanwhile()
        connection.sendall(sent[-1:])
        return int(connection.makefile("rb").readline().split()[1])


END_TOKEN = "update longshore.access_tokens set revoked_at = now() where id::text = $1"
END_CLIENT = """
update longshore.service_clients set enabled = false
where id = (select client_id from longshore.access_tokens where id::text = $1)
"""
LOWER_TOKEN = "update longshore.access_tokens set level = 'read' where id::text = $1"
END_SESSIONS = "delete from longshore.sessions where user_id::text = $1"
REMOVE_LEVEL = "delete from longshore.user_levels where user_id::text = $1"


@pytest.mark.parametrize(
    ("kind", "change", "answer"),
    [
        ("token", END_TOKEN, 401), ("token", END_CLIENT, 401), ("token", LOWER_TOKEN, 403),
        ("user", END_SESSIONS, 401), ("user", REMOVE_LEVEL, 403), ("user", "select $1::text", 201),
    ],
)  # fmt: skip
def test_request_whose_credential_ends_before_its_body_has_arrived_changes_nothing(
    idle_service: Longshore, kind: str, change: str, answer: int
) -> None:
    if kind == "token":
        client = idle_service.sql(ADD_CLIENT, CHAIN, str(uuid4()))[0]["id"]
        pair = idle_service.token(Level.WRITE, CHAIN)
        id = pair.split(":")[0]
        idle_service.sql("update longshore.access_tokens set client_id = $2 where id::text = $1", id, client)
        headers = {"Authorization": f"Bearer {pair}"}
    else:
        user = new_user(idle_service, _503=Level.WRITE)
        id, headers = str(user.id), user.session(CHAIN)
    body = {**export_body(), "chain": CHAIN}
    assert status_of_late_body(idle_service, headers, body, lambda: idle_service.sql(change, id)) == answer
    made = idle_service.sql("select count(*) from longshore.tasks where created_by = $1", f"{kind} {id}")
    assert made[0]["count"] == (answer == 201)


def test_destination_is_not_tested_for_a_credential_that_ends_before_its_body_has_arrived(
    idle_service: Longshore,
) -> None:
    pair = idle_service.token(Level.ADMIN, CHAIN)
    settings = {"host": "localhost", "username": "shop"}  # which is no public address
    body = {"name": "shop", "kind": "sftp", "settings": settings, "secret": {"password": "a password"}}

    def answer(change: str) -> int:
        end = partial(idle_service.sql, change, pair.split(":")[0])
        return status_of_late_body(idle_service, {"Authorization": f"Bearer {pair}"}, body, end, "/destinations/test")

    assert [answer(change) for change in ("select $1::text", END_TOKEN)] == [200, 401]


WAYS = {
    "token": ("DELETE", "/access_tokens/{token}?stop=true", None),
    "client": ("PATCH", "/service_clients/{client}?stop=true", {"enabled": False}),
    "level turned off": ("PATCH", "/users/{user}?stop=true", {"enabled": False}),
    "level lowered": ("PATCH", "/users/{user}?stop=true", {"level": "read"}),
    "level removed": ("DELETE", "/users/{user}?stop=true", None),
}
COMMANDS = {
    "token by command": "token revoke {token} --stop",
    "level removed by command": "user level {name} --chain 503 none --stop",
    "user disabled by command": "user disable {name} --stop",
}


@pytest.mark.parametrize("way", [*WAYS, *COMMANDS])
def test_revocation_waits_for_the_changes_that_the_credential_has_under_way_and_stops_them(
    idle_service: Longshore, tmp_path: Path, way: str
) -> None:
    pair = idle_service.token(Level.WRITE, CHAIN)
    ids = {"token": pair.split(":")[0], "client": idle_service.sql(ADD_CLIENT, CHAIN, str(uuid4()))[0]["id"]}
    idle_service.sql(
        "update longshore.access_tokens set client_id = $2 where id::text = $1", ids["token"], ids["client"]
    )
    headers = {"Authorization": f"Bearer {pair}"}
    if "level" in way or "user" in way:
        user = new_user(idle_service, _503=Level.WRITE)
        ids |= {"user": user.id, "name": user.name}
        headers = user.session(CHAIN)

    def post() -> httpx2.Response:
        body = {**export_body(once="2126-05-26T12:00:00Z"), "chain": CHAIN}
        return httpx2.post(f"{idle_service.address}/tasks", json=body, headers=headers, timeout=30)

    def revoke() -> str:
        if way in COMMANDS:
            options: dict[str, Any] = {"data": str(idle_service.data), "database_url": idle_service.url}
            return command.run(*COMMANDS[way].format(**ids).split(), folder=tmp_path, **options).stdout
        method, path, body = WAYS[way]
        with idle_service.client(Level.ADMIN, CHAIN) as admin:
            return admin.request(method, path.format(**ids), json=body).text

    async def run() -> tuple[httpx2.Response, str]:
        connection = await asyncpg.connect(idle_service.url)
        async with connection.transaction():
            await connection.execute("lock table longshore.tasks in share row exclusive mode")
            posting = asyncio.create_task(asyncio.to_thread(post))
            waits = "select from pg_locks where relation = 'longshore.tasks'::regclass and not granted"
            await asyncio.to_thread(until, lambda: idle_service.sql(waits), "the task to wait for the table")
            revoking = asyncio.create_task(asyncio.to_thread(revoke))
            await asyncio.wait([revoking], timeout=4)
        await connection.close()
        return await posting, await revoking

    posted, answer = asyncio.run(run())
    task = posted.json()["id"]
    assert str(task) in answer
    assert "stopped" in answer
    (row,) = idle_service.sql("select state, due_at from longshore.tasks where id = $1", task)
    assert (row["state"], row["due_at"]) == ("ERROR", None)


def test_chain_that_revokes_a_token_for_itself_does_not_wait_for_changes_of_another_chain(
    idle_service: Longshore,
) -> None:
    pair = idle_service.token(Level.WRITE, CHAIN)
    id = pair.split(":")[0]
    idle_service.sql("update longshore.access_tokens set more_chains = array[504] where id::text = $1", id)

    def post() -> httpx2.Response:
        body = {**export_body(once="2126-05-26T12:00:00Z"), "chain": CHAIN}
        return httpx2.post(
            f"{idle_service.address}/tasks", json=body, headers={"Authorization": f"Bearer {pair}"}, timeout=30
        )

    def revoke() -> httpx2.Response:
        with idle_service.client(Level.ADMIN, 504) as admin:
            return admin.delete(f"/access_tokens/{id}", timeout=5)

    async def run() -> tuple[httpx2.Response, httpx2.Response]:
        connection = await asyncpg.connect(idle_service.url)
        async with connection.transaction():
            await connection.execute("lock table longshore.tasks in share row exclusive mode")
            posting = asyncio.create_task(asyncio.to_thread(post))
            waits = "select from pg_locks where relation = 'longshore.tasks'::regclass and not granted"
            await asyncio.to_thread(until, lambda: idle_service.sql(waits), "the task to wait for the table")
            revoked = await asyncio.to_thread(revoke)
        await connection.close()
        return await posting, revoked

    posted, revoked = asyncio.run(run())
    assert (posted.status_code, revoked.status_code) == (201, 200)


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"enabled": False}), ("PATCH", {"level": "read"}), ("DELETE", None)]
)
def test_work_of_a_user_who_loses_a_level_is_listed_and_stopped_in_that_chain(
    idle_service: Longshore, method: str, body: dict[str, Any] | None
) -> None:
    user = new_user(idle_service, _503=Level.WRITE, _504=Level.WRITE)
    idle_service.sql(ADDED, CHAIN, f"user {user.id}", 1)
    idle_service.sql(ADDED, 504, f"user {user.id}", 1)
    with user.client(CHAIN) as client:
        url = "https://hooks.example.com/done"
        hook = client.post("/webhooks", json={"chain": CHAIN, "url": url}).json()["id"]

    def end(stop: str = "") -> dict[str, Any]:
        with idle_service.client(Level.ADMIN, CHAIN) as admin:
            answer = admin.request(method, f"/users/{user.id}{stop}", json=body)
        assert answer.status_code == 200, answer.text
        work: dict[str, Any] = answer.json() if method == "DELETE" else answer.json()["ongoing"]
        return work

    listed = end()
    assert ([task["chain"] for task in listed["tasks"]], listed["stopped"]) == ([CHAIN], False)
    assert [(each["id"], each["url"]) for each in listed["webhooks"]] == [(hook, url)]
    assert end("?stop=true") == {**listed, "stopped": True}
    states = "select chain_id, state from longshore.tasks where created_by = $1 order by chain_id"
    assert [tuple(row) for row in idle_service.sql(states, f"user {user.id}")] == [(CHAIN, "ERROR"), (504, "READY")]
    assert idle_service.sql("select from longshore.webhooks where id::text = $1", hook) == []


def test_user_without_a_level_or_work_is_not_found_by_either_removal(idle_service: Longshore, tmp_path: Path) -> None:
    user = new_user(idle_service, _504=Level.WRITE)
    idle_service.sql(ADDED, 504, f"user {user.id}", 1)
    with idle_service.client(Level.ADMIN, CHAIN) as admin:
        assert admin.delete(f"/users/{user.id}?stop=true").status_code == 404
    none = ("user", "level", user.name, "--chain", str(CHAIN), "none")
    options: dict[str, Any] = {"folder": tmp_path, "data": str(idle_service.data), "database_url": idle_service.url}
    command.failed(command.run(*none, **options), "has no level for chain 503")


@pytest.mark.parametrize("body", [{"level": "write"}, {"enabled": True}, {}])
def test_stop_is_refused_beside_a_change_that_leaves_a_user_able_to_work(
    idle_service: Longshore, body: dict[str, Any]
) -> None:
    user = new_user(idle_service, _503=Level.ADMIN)
    with idle_service.client(Level.ADMIN, CHAIN) as admin:
        assert list(violations(admin.patch(f"/users/{user.id}?stop=true", json=body))) == ["stop"]
        assert admin.patch(f"/users/{user.id}", json=body).json()["ongoing"] is None


def test_commands_list_and_stop_the_work_of_a_user(idle_service: Longshore, tmp_path: Path) -> None:
    user = new_user(idle_service, _503=Level.WRITE, _504=Level.WRITE)
    idle_service.sql(ADDED, CHAIN, f"user {user.id}", 1)
    idle_service.sql(ADDED, 504, f"user {user.id}", 1)

    def output(*words: str) -> list[str]:
        options: dict[str, Any] = {"folder": tmp_path, "data": str(idle_service.data), "database_url": idle_service.url}
        done = command.run("user", *words, **options)
        assert done.returncode == 0, done.stderr
        return [line.split(":")[0] for line in done.stdout.splitlines()[1:]]

    assert output("level", user.name, "--chain", str(CHAIN), "write") == []
    assert output("level", user.name, "--chain", str(CHAIN), "none") == ["goes on"]
    assert output("disable", user.name) == ["goes on"] * 2
    assert output("level", user.name, "--chain", str(CHAIN), "none", "--stop") == ["stopped"]
    assert output("disable", user.name, "--stop") == ["stopped"]


@pytest.mark.parametrize("credential", ["client", "token", "user"])
def test_console_shows_the_work_of_a_credential_that_it_ends_and_stops_it(
    idle_service: Longshore, credential: str
) -> None:
    admin, user = new_user(idle_service, _503=Level.ADMIN), new_user(idle_service, _503=Level.WRITE)
    token = idle_service.token(Level.WRITE, CHAIN).split(":")[0]
    client = idle_service.sql(ADD_CLIENT, CHAIN, str(uuid4()))[0]["id"]
    idle_service.sql("update longshore.access_tokens set client_id = $2 where id::text = $1", token, client)
    path = {"client": f"clients/{client}", "token": f"tokens/{token}/revoke", "user": f"users/{user.id}"}[credential]
    idle_service.sql(ADDED, CHAIN, f"user {user.id}" if credential == "user" else f"token {token}", 1)
    (row,) = idle_service.sql("select max(id) as id from longshore.tasks where chain_id = $1", CHAIN)
    url = f"{idle_service.address}/console/{CHAIN}/access/{path}"
    with httpx2.Client(headers={**admin.session(CHAIN), "Origin": idle_service.address}, timeout=60) as browser:
        listed = browser.post(url, data={"enabled": "false"})
        assert (listed.status_code, f"task {row['id']}</a>" in listed.text) == (200, True), listed.text
        assert f'action="/console/{CHAIN}/access/{path}"' in listed.text
        assert "go on" in listed.text
        stopped = browser.post(url, data={"enabled": "false", "stop": "true"})
        assert (f"task {row['id']}</a>" in stopped.text, "were cancelled" in stopped.text) == (True, True)
        assert browser.post(url, data={"enabled": "false", "stop": "true"}).status_code in (303, 404)
    (state,) = idle_service.sql("select state from longshore.tasks where id = $1", row["id"])
    assert state["state"] == "ERROR"
