"""Service clients and their tokens: made, limited in scope, rotated, revoked, over HTTP and at the command line."""

import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from longshore.access.token_auth import TokenAuth
from longshore.access.tokens import SECRET_PREFIX, Level, Scope
from longshore.database.connect import Pool, open_fair_pool
from longshore.database.fair_pool import use_connections_of
from longshore.fair_queue import QueueLimits
from tests.access.users import new_user
from tests.answers import problem, violations
from tests.command import failed, run
from tests.service import Longshore
from tests.waiting import until

WITHIN = 2.0  # seconds until a revoked token is good nowhere


def new_client(client: httpx2.Client, **more: Any) -> dict[str, Any]:
    answer = client.post("/service_clients", json={"name": f"warehouse {uuid.uuid4()}", **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/service_clients/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


def new_token(client: httpx2.Client, owner: int, level: str = "read", **more: Any) -> dict[str, Any]:
    answer = client.post("/access_tokens", json={"client_id": owner, "level": level, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def status(service: Longshore, token: dict[str, Any], path: str = "/tasks", **headers: str) -> int:
    bearer = {"Authorization": f"Bearer {token['id']}:{token['secret']}", **headers}
    return httpx2.get(service.address + path, headers=bearer).status_code


def refused_within_two_seconds(service: Longshore, token: dict[str, Any]) -> None:
    deadline = time.monotonic() + WITHIN
    asked = time.monotonic()
    while (answered := status(service, token)) == 200:
        assert asked < deadline, "one that was asked later was let in"
        time.sleep(0.05)
        asked = time.monotonic()
    assert answered == 401


def test_client_is_created_listed_changed_and_disabled(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    made = new_client(idle_client, contact="data-team@example.com")
    assert {**made, "created": ""} == {
        "id": made["id"], "chain": 1764, "name": made["name"], "contact": "data-team@example.com", "enabled": True,
        "created": "",
    }  # fmt: skip
    path = f"/service_clients/{made['id']}"
    assert idle_client.get(path).json() == made
    token = new_token(idle_client, made["id"])
    assert status(idle_service, token) == 200
    off = idle_client.patch(path, json={"enabled": False, "contact": ""}).json()
    nothing = {"tasks": [], "webhooks": [], "stopped": False}
    assert off == {**made, "enabled": False, "contact": "", "ongoing": nothing}
    refused_within_two_seconds(idle_service, token)
    assert idle_client.get(f"/access_tokens/{token['id']}").json()["active"] is False
    assert idle_client.patch(path, json={"enabled": True}).status_code == 200
    assert status(idle_service, token) == 200
    problem(idle_client.post("/service_clients", json={"name": made["name"].upper()}), "name-taken")
    listed = idle_client.get("/service_clients", params={"limit": 100}).json()
    assert {**made, "contact": ""} in listed


def test_secret_of_a_token_is_shown_once_and_has_a_known_prefix(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    token = new_token(idle_client, new_client(idle_client)["id"])
    assert token["secret"].startswith(SECRET_PREFIX)
    assert len(token["secret"]) > 40
    shown = idle_client.get(f"/access_tokens/{token['id']}").json()
    assert shown == {key: value for key, value in token.items() if key != "secret"}
    assert token["secret"] not in idle_client.get("/access_tokens").text
    kept = idle_service.sql("select * from longshore.access_tokens where id = $1", uuid.UUID(token["id"]))[0]
    assert token["secret"] not in repr(dict(kept))


def test_token_is_rotated_by_a_second_one_and_revoked_within_two_seconds(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    owner = new_client(idle_client)["id"]
    first, second = new_token(idle_client, owner), new_token(idle_client, owner)
    assert [status(idle_service, each) for each in (first, second)] == [200, 200]
    listed = idle_client.get("/access_tokens", params={"client_id": owner}).json()
    assert [each["id"] for each in listed] == [second["id"], first["id"]]
    for _ in range(2):  # again is the same
        assert idle_client.delete(f"/access_tokens/{first['id']}").status_code == 200
    refused_within_two_seconds(idle_service, first)
    assert status(idle_service, second) == 200
    shown = idle_client.get(f"/access_tokens/{first['id']}").json()
    assert shown["revoked"] and not shown["active"]


def test_token_is_refused_once_it_has_expired(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    end = datetime.now(UTC) + timedelta(seconds=5)
    token = new_token(idle_client, new_client(idle_client)["id"], expires=end.isoformat())
    assert status(idle_service, token) == 200
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds() + 0.1))
    assert status(idle_service, token) == 401


@pytest.mark.parametrize(
    ("expires", "message"),
    [
        ("0001-01-01T00:00:00Z", "years 1900 to 2200"),
        ("0001-01-01T00:00:00+14:00", "years 1900 to 2200"),
        ("1899-12-31T23:59:59.999999Z", "years 1900 to 2200"),
        ("1900-01-01T00:00:00+00:01", "years 1900 to 2200"),
        ("1900-01-01T00:00:00Z", "in the future"),
        ("2200-12-31T23:59:59-00:01", "years 1900 to 2200"),
        ("2201-01-01T00:00:00Z", "years 1900 to 2200"),
        ("9999-12-31T23:59:59.999999-14:00", "years 1900 to 2200"),
        ("2126-05-26T12:00:00", "offset"),
        ("2126-05-26", "RFC 3339"),
        ("2126-05-26T24:00:00Z", "RFC 3339"),
        ("2126-02-29T12:00:00Z", "RFC 3339"),
        ("2126-05-26T12:00:00+24:00", "RFC 3339"),
        ("2126-05-26T12:00:00 Europe/Amsterdam", "RFC 3339"),
        ("20260526T120000Z", "RFC 3339"),
        ("infinity", "RFC 3339"),
        ("", "RFC 3339"),
        (4933396800, "expected"),
    ],
)
def test_token_that_expires_outside_1900_to_2200_or_at_no_moment_is_refused(
    idle_client: httpx2.Client, expires: object, message: str
) -> None:
    asked = {"client_id": 1, "level": "read", "expires": expires}
    found = violations(idle_client.post("/access_tokens", json=asked))
    assert list(found) == ["/expires"]
    assert message in found["/expires"]


@pytest.mark.parametrize(
    ("expires", "shown"),
    [
        ("2200-12-31T23:59:59.999999Z", "2200-12-31T23:59:59.999999Z"),
        ("2126-05-26T12:00:00+14:00", "2126-05-25T22:00:00Z"),
        ("2126-05-26T12:00:00-12:59", "2126-05-27T00:59:00Z"),
        ("2126-05-26t12:00:00z", "2126-05-26T12:00:00Z"),
        ("2126-05-26 12:00:00.5-00:00", "2126-05-26T12:00:00.500000Z"),
    ],
)
def test_moment_that_a_token_expires_is_shown_in_utc_however_it_was_written(
    idle_service: Longshore, idle_client: httpx2.Client, expires: str, shown: str
) -> None:
    token = new_token(idle_client, new_client(idle_client)["id"], expires=expires)
    assert token["expires"] == shown
    assert idle_client.get(f"/access_tokens/{token['id']}").json()["expires"] == shown
    assert status(idle_service, token) == 200


def test_the_last_use_of_a_token_is_kept_and_written_at_most_once_a_minute(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    token = new_token(idle_client, new_client(idle_client)["id"])
    id = uuid.UUID(token["id"])
    assert token["used"] is None
    assert status(idle_service, token) == 200
    assert idle_client.get(f"/access_tokens/{token['id']}").json()["used"]

    def used() -> datetime:
        found: datetime = idle_service.sql("select used_at from longshore.access_tokens where id = $1", id)[0][0]
        return found

    first = used()
    time.sleep(1.2)  # so that the service looks the token up again
    assert status(idle_service, token) == 200
    assert used() == first
    idle_service.sql("update longshore.access_tokens set used_at = now() - interval '61 seconds' where id = $1", id)
    time.sleep(1.2)
    assert status(idle_service, token) == 200
    assert used() > first


def test_request_with_a_token_of_several_chains_is_for_one_of_them(idle_service: Longshore) -> None:
    admin = new_user(idle_service, _1764=Level.ADMIN, _1765=Level.ADMIN)
    with admin.client() as both:
        token = new_token(both, new_client(both)["id"], "write", chains=[1764, 1765])
        assert token["chains"] == [1764, 1765]
        for chain, answer in ((None, 200), (1764, 200), (1765, 200), (9, 403), ("x", 400), ("", 400)):
            headers = {} if chain is None else {"X-Session-Chain-Id": str(chain)}
            assert status(idle_service, token, **headers) == answer, chain
        bearer = {"Authorization": f"Bearer {token['id']}:{token['secret']}"}
        body = {
            "chain": 1765, "desc": "", "trigger": {"once": "2126-05-26T12:00:00Z"},
            "target": {"action": "export", "export_index": "users", "export_format": "csv"},
        }  # fmt: skip
        problem(httpx2.post(f"{idle_service.address}/tasks", json=body, headers=bearer), "forbidden")
        other = {**bearer, "X-Session-Chain-Id": "1765"}
        made = httpx2.post(f"{idle_service.address}/tasks", json=body, headers=other)
        assert made.status_code == 201
        task = made.json()["id"]
        assert httpx2.get(f"{idle_service.address}/tasks/{task}", headers=other).status_code == 200
        assert httpx2.get(f"{idle_service.address}/tasks/{task}", headers=bearer).status_code == 404
    with admin.client(1765) as there:
        seen = there.get(f"/access_tokens/{token['id']}").json()
        assert (seen["chain"], seen["chains"], seen["client_id"], seen["client"]) == (1765, [1765], None, "")
        assert there.get("/audit", params={"object": f"token {token['id']}"}).json()[0]["action"] == "token.create"
        assert there.delete(f"/access_tokens/{token['id']}").status_code == 200
        problem(there.get(f"/access_tokens/{token['id']}"), "token-not-found")
    time.sleep(1.2)
    assert status(idle_service, token, **{"X-Session-Chain-Id": "1765"}) == 403
    assert status(idle_service, token) == 200, "the other chain's own use of it is not for this one to end"


def test_every_violation_of_a_scope_is_named(idle_client: httpx2.Client) -> None:
    owner = new_client(idle_client)["id"]
    asked = {
        "client_id": owner, "level": "read", "chains": [1765], "indexes": ["userz", "products"],
        "hidden_columns": ["users.phone"], "expires": "2020-01-01T00:00:00Z",
    }  # fmt: skip
    found = violations(idle_client.post("/access_tokens", json=asked))
    assert set(found) == {"/chains", "/chains/0", "/indexes/0", "/hidden_columns/0", "/expires"}
    assert "users" in found["/indexes/0"]
    assert "users.phone_number" in found["/hidden_columns/0"]
    for wrong, at in (
        ({"hidden_columns": ["users.phone_number"]}, "/hidden_columns"), ({"indexes": ["users"]}, "/indexes"),
    ):  # fmt: skip
        assert list(
            violations(idle_client.post("/access_tokens", json={"client_id": owner, "level": "admin", **wrong}))
        ) == [at]
    assert list(
        violations(idle_client.post("/access_tokens", json={"client_id": owner, "level": "read", "indexes": []}))
    ) == ["/indexes"]
    problem(idle_client.post("/access_tokens", json={"client_id": 2**62, "level": "read"}), "client-not-found")
    assert idle_client.get("/access_tokens", params={"client_id": owner}).json() == []


def test_an_admin_sees_and_changes_no_client_or_token_of_another_chain(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    with idle_service.client(Level.ADMIN, 1765) as other:
        theirs = new_client(other)
        token = new_token(other, theirs["id"])
    problem(idle_client.get(f"/service_clients/{theirs['id']}"), "client-not-found")
    problem(idle_client.patch(f"/service_clients/{theirs['id']}", json={"enabled": False}), "client-not-found")
    problem(idle_client.post("/access_tokens", json={"client_id": theirs["id"], "level": "read"}), "client-not-found")
    problem(idle_client.get(f"/access_tokens/{token['id']}"), "token-not-found")
    problem(idle_client.delete(f"/access_tokens/{token['id']}"), "token-not-found")
    assert idle_client.get("/access_tokens", params={"client_id": theirs["id"]}).json() == []
    assert status(idle_service, token) == 200


def test_every_change_of_clients_and_tokens_is_in_the_audit_log(idle_client: httpx2.Client) -> None:
    owner = new_client(idle_client)["id"]
    idle_client.patch(f"/service_clients/{owner}", json={"contact": "x"})
    token = new_token(idle_client, owner)["id"]
    idle_client.delete(f"/access_tokens/{token}")

    def done(object: str) -> list[str]:
        entries = idle_client.get("/audit", params={"object": object}).json()
        return [entry["action"] for entry in reversed(entries)]

    assert done(f"client {owner}") == ["client.create", "client.change"]
    assert done(f"token {token}") == ["token.create", "token.revoke"]


def test_audit_entries_of_clients_and_tokens_have_the_fields_of_the_request(idle_service: Longshore) -> None:
    def details(client: httpx2.Client, object: str) -> list[Any]:
        entries = client.get("/audit", params={"object": object}).json()
        return [entry["details"] for entry in reversed(entries)]

    admin = new_user(idle_service, _1764=Level.ADMIN, _1765=Level.ADMIN)
    with admin.client() as both, admin.client(1765) as there:
        owner = new_client(both, contact="data-team")
        path = f"/service_clients/{owner['id']}"
        both.patch(path, json={"name": f"{owner['name']} 2", "contact": "x"})
        both.patch(path, json={"enabled": False})
        assert details(both, f"client {owner['id']}") == [
            {"name": owner["name"], "contact": "data-team"},
            {"name": f"{owner['name']} 2", "contact": "x"},
            {"enabled": False},
        ]
        limits = {"indexes": ["users"], "hidden_columns": ["users.phone_number"], "expires": "2126-05-26T12:00:00Z"}
        token = new_token(both, owner["id"], "write", chains=[1765, 1764], **limits)
        limits = {
            "level": "write",
            "indexes": ["users"],
            "hidden": ["users.phone_number"],
            "expires": limits["expires"],
        }
        assert details(both, f"token {token['id']}") == [{"client": owner["id"], "chains": [1764, 1765], **limits}]
        assert details(there, f"token {token['id']}") == [limits]


def test_null_in_a_change_is_refused_and_a_change_of_nothing_has_no_entry(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    client = new_client(idle_client, contact="data-team")
    user = new_user(idle_service, _1764=Level.READ)
    named = {"name": client["name"], "contact": "data-team", "enabled": True}
    for path, object, fields in (
        (f"/service_clients/{client['id']}", f"client {client['id']}", named),
        (f"/users/{user.id}", f"user {user.id}", {"level": "read", "enabled": True}),
    ):
        before = idle_client.get("/audit", params={"object": object}).json()
        for field in fields:
            assert list(violations(idle_client.patch(path, json={field: None}))) == [f"/{field}"]
        for body in ({}, fields):
            assert idle_client.patch(path, json=body).status_code == 200
        assert idle_client.get("/audit", params={"object": object}).json() == before


@pytest.mark.parametrize("by", ["the API", "the command line"])
def test_each_chain_of_a_token_has_an_entry_when_it_or_its_client_is_turned_off(
    idle_service: Longshore, tmp_path: Path, by: str
) -> None:
    admin = new_user(idle_service, _1764=Level.ADMIN, _1765=Level.ADMIN)

    def run_command(*words: str) -> None:
        done = run(*words, folder=tmp_path, data=str(idle_service.data), database_url=idle_service.url)
        assert done.returncode == 0, done.stderr

    with admin.client() as here, admin.client(1765) as there:
        owner = new_client(here)["id"]
        token = new_token(here, owner, chains=[1764, 1765])["id"]
        alone = new_token(here, owner)["id"]
        if by == "the API":
            for enabled in (False, True):
                here.patch(f"/service_clients/{owner}", json={"enabled": enabled})
            here.delete(f"/access_tokens/{token}")
        else:
            run_command("client", "disable", str(owner))
            run_command("client", "enable", str(owner))
            run_command("token", "revoke", token)

        def done(client: httpx2.Client, object: str) -> list[str]:
            entries = client.get("/audit", params={"object": object}).json()
            return [entry["action"] for entry in reversed(entries)]

        assert done(here, f"client {owner}") == ["client.create", "client.change", "client.change"]
        assert done(here, f"token {token}") == ["token.create", "token.revoke"]
        assert done(there, f"token {token}") == ["token.create", "token.disable", "token.enable", "token.revoke"]
        assert (done(here, f"token {alone}"), done(there, f"token {alone}")) == (["token.create"], [])
        assert done(there, f"client {owner}") == []


@pytest.mark.parametrize(
    ("body", "at"),
    [({"name": ""}, "/name"), ({"name": " x"}, "/name"), ({"name": "a\x00b"}, "/name"), ({"name": "x" * 201}, "/name"),
     ({"name": "x", "contact": "a\nb"}, "/contact"), ({}, "/name"), ({"name": "x", "more": 1}, "/more")],
)  # fmt: skip
def test_violations_of_a_client_body_are_named(idle_client: httpx2.Client, body: dict[str, Any], at: str) -> None:
    assert at in violations(idle_client.post("/service_clients", json=body))


def test_command_line_manages_clients_and_tokens(idle_service: Longshore, tmp_path: Path) -> None:
    def run_command(*words: str) -> str:
        done = run(*words, folder=tmp_path, database_url=idle_service.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = run_command("client", "create", "night loader", "--chain", "77", "--contact", "data-team")
    number = made.split()[1].rstrip(":")
    pair = run_command(
        "token", "create", "--chain", "77", "--level", "read", "--client", "Night Loader", "--more-chain", "78",
        "--index", "users", "--hide", "users.phone_number", "--days", "30",
    ).strip()  # fmt: skip
    token = {"id": pair.split(":")[0], "secret": pair.split(":")[1]}
    line = next(line for line in run_command("token", "list").splitlines() if token["id"] in line)
    for words in ("chain 77, 78", "read", "valid until", "night loader", "only users", "no users.phone_number"):
        assert words in line
    assert [status(idle_service, token, **{"X-Session-Chain-Id": chain}) for chain in ("77", "78", "79")] == [
        200,
        200,
        403,
    ]
    run_command("client", "disable", number)
    refused_within_two_seconds(idle_service, token)
    assert "its client is disabled" in next(
        line for line in run_command("token", "list").splitlines() if token["id"] in line
    )
    run_command("client", "enable", number)
    assert f"{number}  chain 77  enabled  night loader  data-team" in run_command("client", "list").splitlines()
    assert status(idle_service, token) == 200
    failed(run("token", "create", "--chain", "77", "--level", "read", "--hide", "users.phone", folder=tmp_path,
               database_url=idle_service.url), "users.phone_number")  # fmt: skip
    failed(run("token", "create", "--chain", "77", "--level", "admin", "--hide", "users.id", folder=tmp_path,
               database_url=idle_service.url), "--hide: is for the levels read and write")  # fmt: skip
    failed(run("client", "disable", "999999", folder=tmp_path, database_url=idle_service.url), "999999")


def test_scope_limits_the_indexes_and_columns_of_its_token(idle_service: Longshore) -> None:
    with idle_service.client(
        Level.READ, scope=Scope(indexes=["users"], hidden_columns=["users.phone_number"])
    ) as limited:
        assert [index["name"] for index in limited.get("/indexes").json()] == ["users"]
        assert "phone_number" not in limited.get("/indexes/users").text
        problem(limited.get("/indexes/products"), "index-not-found")


@pytest.mark.parametrize("creator", ["user", "token"])
def test_token_is_not_created_for_a_chain_that_its_creator_loses_while_the_request_waits(
    idle_service: Longshore, creator: str
) -> None:
    if creator == "user":
        user = new_user(idle_service, _1764=Level.ADMIN, _1765=Level.ADMIN)
        credential, headers = f"user {user.id}", user.session()
        lose = f"delete from longshore.user_levels where user_id = {user.id} and chain_id = 1765"
    else:
        pair = idle_service.token(Level.ADMIN, scope=Scope(more_chains=[1765]))
        credential, headers = f"token {pair.split(':')[0]}", {"Authorization": f"Bearer {pair}"}
        lose = f"update longshore.access_tokens set more_chains = '{{}}' where id = '{pair.split(':')[0]}'"

    async def run(client: httpx2.Client) -> httpx2.Response:
        body = {"client_id": new_client(client)["id"], "level": "write", "chains": [1764, 1765]}
        connection = await asyncpg.connect(idle_service.url)
        async with connection.transaction():
            name = f"longshore.changes {credential} 1764"  # the lock of `changes_in_progress`
            await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", name)
            posting = asyncio.create_task(asyncio.to_thread(client.post, "/access_tokens", json=body))
            waits = "select from pg_locks where locktype = 'advisory' and not granted"
            await asyncio.to_thread(until, lambda: idle_service.sql(waits), "the request to wait")
            await asyncio.to_thread(idle_service.sql, lose)
        await connection.close()
        return await posting

    with httpx2.Client(base_url=idle_service.address, headers=headers, timeout=60) as client:
        assert list(violations(asyncio.run(run(client)))) == ["/chains/1"]


def test_removal_of_a_level_waits_for_a_token_for_the_chain_that_its_user_is_creating(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.ADMIN, _1765=Level.ADMIN)

    async def run(client: httpx2.Client, admin: httpx2.Client) -> tuple[bool, httpx2.Response, httpx2.Response]:
        body = {"client_id": new_client(client)["id"], "level": "write", "chains": [1764, 1765]}
        connection = await asyncpg.connect(idle_service.url)
        async with connection.transaction():
            await connection.execute("lock table longshore.access_tokens in share row exclusive mode")
            posting = asyncio.create_task(asyncio.to_thread(client.post, "/access_tokens", json=body))
            waits = "select from pg_locks where relation = 'longshore.access_tokens'::regclass and not granted"
            await asyncio.to_thread(until, lambda: idle_service.sql(waits), "the token to wait for the table")
            removing = asyncio.create_task(asyncio.to_thread(admin.delete, f"/users/{user.id}"))
            done, _ = await asyncio.wait([removing], timeout=1)
        await connection.close()
        return bool(done), await posting, await removing

    with user.client() as client, idle_service.client(Level.ADMIN, 1765) as admin:
        assert admin.get("/tasks").status_code == 200  # its last use is not written below
        early, made, removed = asyncio.run(run(client, admin))
    assert (early, made.status_code, removed.status_code) == (False, 201, 200)


def test_token_for_chains_that_its_creator_is_no_admin_of_is_refused_without_locks_for_them(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    pair = idle_service.token(Level.ADMIN)

    async def run() -> httpx2.Response:
        body = {"client_id": new_client(idle_client)["id"], "level": "read", "chains": [1764, 1765]}
        headers = {"Authorization": f"Bearer {pair}"}
        connection = await asyncpg.connect(idle_service.url)
        async with connection.transaction():
            name = f"longshore.changes token {pair.split(':')[0]} 1765"  # the lock of `changes_in_progress`
            await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", name)
            answer = await asyncio.to_thread(
                httpx2.post, f"{idle_service.address}/access_tokens", json=body, headers=headers, timeout=5
            )
        await connection.close()
        return answer

    assert list(violations(asyncio.run(run()))) == ["/chains/1"]


def test_lookup_of_a_token_does_not_wait_for_the_connections_of_the_chain_that_asks_first(
    idle_service: Longshore,
) -> None:
    limits = QueueLimits(running=3, running_of_key=1, waiting=4, waiting_of_key=4, seconds=10.0)
    bearer = f"Bearer {idle_service.token(Level.READ)}"

    async def hold(pool: Pool, held: asyncio.Event, release: asyncio.Event) -> None:
        use_connections_of(1764)
        async with pool.acquire():
            held.set()
            await release.wait()

    async def ask(auth: TokenAuth, chain: int | None) -> int:
        use_connections_of(chain)
        return len(await auth.callers(bearer))

    async def run() -> tuple[int, int]:
        async with open_fair_pool(idle_service.url, limits, size=3, name="test") as pool, asyncio.timeout(5):
            auth, held, release = TokenAuth(pool), asyncio.Event(), asyncio.Event()
            holding = asyncio.create_task(hold(pool, held, release))
            await held.wait()
            try:
                first, second = await asyncio.gather(ask(auth, 1764), ask(auth, None))
                return first, second
            finally:
                release.set()
                await holding

    assert asyncio.run(run()) == (2, 2)
