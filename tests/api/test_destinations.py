"""Destinations, over HTTP: made, read, changed, tested and deleted, without ever giving back a secret."""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.access.tokens import Level
from longshore.api.idempotency_key import CANONICAL
from tests.answers import problem, violations
from tests.destinations.memory import PASSWORD
from tests.run_steps import play
from tests.service import CHAIN, Longshore, database_in, export_body

MISSING = "00000000-0000-4000-8000-000000000000"
MERGE = {"Content-Type": "application/merge-patch+json"}


def body_of(name: str | None = None, password: str = PASSWORD, **settings: Any) -> dict[str, Any]:
    return {
        "name": name or f"shelf-{uuid.uuid4().hex}",
        "kind": "memory",
        "settings": {"shelf": "top", **settings},
        "secret": {"password": password},
    }


def create_destination(client: httpx2.Client, name: str | None = None, **settings: Any) -> dict[str, Any]:
    answer = client.post("/destinations", json=body_of(name, **settings))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/destinations/{found['id']}"
    return found


def sealed(service: Longshore, id: str) -> bytes:
    return bytes(service.sql("select secret from longshore.destinations where id = $1", uuid.UUID(id))[0][0])


@pytest.fixture(scope="module")
def writer(idle_service: Longshore) -> Iterator[httpx2.Client]:
    with idle_service.client(Level.WRITE) as client:
        yield client


@pytest.fixture(scope="module")
def elsewhere(idle_service: Longshore) -> Iterator[httpx2.Client]:
    with idle_service.client(Level.ADMIN, 1765) as client:
        yield client


def test_destination_is_made_read_changed_and_deleted(idle_client: httpx2.Client, writer: httpx2.Client) -> None:
    new = create_destination(idle_client)
    assert list(new) == ["id", "name", "kind", "settings", "created", "modified", "created_by"]
    assert new["kind"] == "memory"
    assert new["settings"] == {"shelf": "top"}
    assert new["created_by"].startswith("token ")
    path = f"/destinations/{new['id']}"
    assert writer.get(path).json() == new

    changed = idle_client.patch(path, json={"settings": {"shelf": "top", "prefix": "loyalty/"}})
    assert changed.status_code == 200, changed.text
    assert changed.json()["settings"]["prefix"] == "loyalty/"
    assert changed.json() | {"settings": 0, "modified": 0} == new | {"settings": 0, "modified": 0}
    assert writer.get(path).json() == changed.json()

    gone = idle_client.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    for answer in (
        idle_client.get(path),
        idle_client.delete(path),
        idle_client.patch(path, json={}),
        idle_client.post(f"{path}/test"),
    ):
        problem(answer, "destination-not-found")


def test_destinations_are_listed_newest_first_in_pages(idle_service: Longshore) -> None:
    with idle_service.client(Level.ADMIN, chain=78) as client:
        assert client.get("/destinations").json() == []
        ids = [create_destination(client)["id"] for _ in range(5)]
        first = client.get("/destinations", params={"limit": 2})
        assert first.headers["link"] == '</destinations?limit=2&offset=2>; rel="next"'
        rest = client.get("/destinations", params={"limit": 3, "offset": 2})
        assert "link" not in rest.headers
        assert [one["id"] for one in first.json() + rest.json()] == ids[::-1]


def test_destination_of_another_chain_looks_like_a_missing_one(
    idle_client: httpx2.Client, elsewhere: httpx2.Client
) -> None:
    new = create_destination(idle_client)
    calls: list[Callable[[str], httpx2.Response]] = [
        lambda id: elsewhere.get(f"/destinations/{id}"),
        lambda id: elsewhere.delete(f"/destinations/{id}"),
        lambda id: elsewhere.patch(f"/destinations/{id}", json={"secret": {"password": "x"}}),
        lambda id: elsewhere.post(f"/destinations/{id}/test"),
    ]
    for call in calls:
        answers = [problem(call(id), "destination-not-found") for id in (new["id"], MISSING, "no-id")]
        for answer in answers:
            del answer["request_id"]
        assert all(answer == answers[0] for answer in answers)
    assert new["id"] not in [one["id"] for one in elsewhere.get("/destinations").json()]
    assert idle_client.get(f"/destinations/{new['id']}").json() == new
    assert create_destination(elsewhere, new["name"])["id"] != new["id"]


def test_all_violations_of_a_destination_are_named_at_once(idle_client: httpx2.Client) -> None:
    wrong = {
        "name": "no name",
        "kind": "memory",
        "settings": {"shelf": "", "shelve": 1, "size": "smal"},
        "secret": {"password": 5},
        "chain": CHAIN,
    }
    expected = {
        "/chain", "/name", "/settings/shelve", "/settings/shelf", "/settings/size", "/secret/password"
    }  # fmt: skip
    for path in ("/destinations", "/destinations/test"):
        assert set(violations(idle_client.post(path, json=wrong))) == expected
        assert set(violations(idle_client.post(path, json={}))) == {"/name", "/kind", "/settings", "/secret"}
        assert violations(idle_client.post(path, json=[])) == {"": "expected an object, got an array"}
        unknown = violations(idle_client.post(path, json={**body_of(), "kind": "memori"}))
        assert unknown == {"/kind": '"memori" is not known; did you mean "memory"?'}
        assert violations(idle_client.post(path, json={**body_of(), "secret": None})) == {
            "/secret": "expected an object, got null"
        }
        assert set(violations(idle_client.post(path, json=body_of("x\n")))) == {"/name"}
        assert set(violations(idle_client.post(path, json=body_of(shelf="a\0b", password="a\0b")))) == {
            "/settings/shelf",
            "/secret/password",
        }
    assert set(violations(idle_client.post("/destinations", json=body_of(shelf="é")))) == {"/settings/shelf"}


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\xff"', b'"\\udc00\\ud800"'])
def test_secret_that_is_no_text_is_refused(idle_client: httpx2.Client, text: bytes) -> None:
    body = msgspec.json.encode(body_of(password="HERE")).replace(b'"HERE"', text)
    headers = {"Content-Type": "application/json"}
    problem(idle_client.post("/destinations", content=body, headers=headers), "bad-request")


def test_large_secret_is_stored_and_a_megabyte_is_refused(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    large = "é" * 30_000
    answer = idle_client.post("/destinations", json=body_of(password=large))
    assert answer.status_code == 201, answer.text
    assert len(sealed(idle_service, answer.json()["id"])) > 60_000
    problem(idle_client.post("/destinations", json=body_of(password="x" * 1_000_000)), "too-large")


def test_settings_are_bounded_as_lists_show_them(idle_client: httpx2.Client) -> None:
    refused = violations(idle_client.post("/destinations", json=body_of(prefix="x" * 33_000)))
    assert refused == {"/settings": "expected 32,768 bytes of JSON at most"}


def test_second_destination_of_a_name_is_refused_within_a_chain(idle_client: httpx2.Client) -> None:
    new = create_destination(idle_client)
    problem(idle_client.post("/destinations", json=body_of(new["name"])), "destination-exists")


def test_name_and_kind_of_a_destination_cannot_be_changed(idle_client: httpx2.Client) -> None:
    path = f"/destinations/{create_destination(idle_client)['id']}"
    for headers in ({}, MERGE):
        found = violations(idle_client.patch(path, json={"name": "x", "kind": "s3", "sekret": {}}, headers=headers))
        assert found == {
            "/name": "cannot be changed",
            "/kind": "cannot be changed",
            "/sekret": 'unknown key; did you mean "secret"?',
        }


@pytest.mark.parametrize("headers", [{}, MERGE])
@pytest.mark.parametrize("change", [{"shelf": "another"}, {"username": "mallory"}, {"size": "large"}])
def test_change_of_where_or_as_whom_to_connect_needs_the_secret_again(
    idle_client: httpx2.Client, headers: dict[str, str], change: dict[str, str]
) -> None:
    path = f"/destinations/{create_destination(idle_client)['id']}"
    patch = {"settings": {"shelf": "top", **change}}
    [name] = change
    assert violations(idle_client.patch(path, json=patch, headers=headers)) == {
        "/secret": f'is required, because a change of "{name}" changes where or as whom to connect'
    }
    again = idle_client.patch(path, json={**patch, "secret": {"password": "x"}}, headers=headers)
    assert again.status_code == 200, again.text
    assert again.json()["settings"][name] == change[name]


def test_merge_patch_merges_settings_and_replaces_the_secret_whole(idle_client: httpx2.Client) -> None:
    path = f"/destinations/{create_destination(idle_client, prefix='a/')['id']}"
    merged = idle_client.patch(path, json={"settings": {"prefix": None}}, headers=MERGE)
    assert merged.json()["settings"] == {"shelf": "top"}
    assert set(violations(idle_client.patch(path, json={"secret": {}}, headers=MERGE))) == {"/secret/password"}
    assert set(violations(idle_client.patch(path, json={"settings": None}, headers=MERGE))) == {"/settings"}
    assert set(violations(idle_client.patch(path, json={"settings": {"shelf": None}}, headers=MERGE))) == {
        "/settings/shelf"
    }


def test_change_to_equal_settings_changes_nothing(idle_client: httpx2.Client) -> None:
    path = f"/destinations/{create_destination(idle_client)['id']}"
    before = idle_client.get(path)
    for patch in ({}, {"settings": {"shelf": "top"}}):
        same = idle_client.patch(path, json=patch)
        assert (same.json(), same.headers["etag"]) == (before.json(), before.headers["etag"])


def test_change_of_the_secret_alone_is_a_new_version(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    new = create_destination(idle_client)
    path = f"/destinations/{new['id']}"
    tag, stored = idle_client.get(path).headers["etag"], sealed(idle_service, new["id"])
    changed = idle_client.patch(path, json={"secret": {"password": "new"}}, headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text
    assert changed.headers["etag"] != tag
    assert sealed(idle_service, new["id"]) != stored
    for call in (idle_client.delete, lambda path, headers: idle_client.patch(path, headers=headers, json={})):
        problem(call(path, headers={"If-Match": tag}), "changed-meanwhile")
    assert idle_client.delete(path, headers={"If-Match": changed.headers["etag"]}).status_code == 204


def test_test_of_a_destination_names_each_step_and_stores_nothing(idle_client: httpx2.Client) -> None:
    before = len(idle_client.get("/destinations", params={"limit": 100}).json())
    good = idle_client.post("/destinations/test", json=body_of())
    assert good.json() == {"ok": True, "steps": [{"step": "connect", "ok": True}, {"step": "write", "ok": True}]}
    wrong = idle_client.post("/destinations/test", json=body_of(password="wrong"))
    assert wrong.json() == {
        "ok": False,
        "steps": [{"step": "connect", "ok": False, "detail": "the password is wrong"}],
    }
    full = idle_client.post("/destinations/test", json=body_of(shelf="full")).json()
    assert (full["ok"], full["steps"][-1]["detail"]) == (False, "the shelf is full")
    assert len(idle_client.get("/destinations", params={"limit": 100}).json()) == before


def test_destination_can_be_tested_without_the_settings_that_only_a_stored_one_needs(
    idle_client: httpx2.Client,
) -> None:
    body = body_of(shelf="keyed")
    assert violations(idle_client.post("/destinations", json=body)) == {
        "/settings/key": "expected the key of the shelf"
    }
    assert (
        idle_client.post("/destinations/test", json=body).json()["steps"][0]["detail"] == "the shelf shows the key 'k1'"
    )
    wrong = body_of(shelf="keyed", key="no key")
    assert set(violations(idle_client.post("/destinations/test", json=wrong))) == {"/settings/key"}


def test_stored_destination_is_tested_with_its_secret(idle_client: httpx2.Client) -> None:
    path = f"/destinations/{create_destination(idle_client)['id']}"
    assert idle_client.post(f"{path}/test").json()["ok"] is True
    idle_client.patch(path, json={"secret": {"password": "wrong"}})
    assert idle_client.post(f"{path}/test").json()["ok"] is False


def test_failed_test_of_a_kind_reveals_nothing_of_the_secret(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    password = f"secret-{uuid.uuid4().hex}"
    answer = idle_client.post("/destinations/test", json=body_of(shelf="broken", password=password))
    assert answer.json()["steps"] == [
        {"step": "test", "ok": False, "detail": "the kind failed; the service's log says why"}
    ]
    [logged] = [entry for entry in idle_service.logged() if entry.get("event") == "the test of a destination failed"][
        -1:
    ]
    assert logged["kind"] == "memory"
    assert logged["where"].startswith("RuntimeError at ")
    assert "memory.py:" in logged["where"]
    assert password not in idle_service.log_file.read_text()


def test_timeout_of_a_kind_itself_is_not_reported_as_that_of_the_test(idle_client: httpx2.Client) -> None:
    answer = idle_client.post("/destinations/test", json=body_of(shelf="late"))
    assert answer.json()["steps"] == [
        {"step": "test", "ok": False, "detail": "the kind failed; the service's log says why"}
    ]


def test_failed_check_of_a_kind_reveals_nothing_of_the_secret(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    password = f"secret-{uuid.uuid4().hex}"
    answer = idle_client.post("/destinations", json=body_of(shelf="unchecked", password=password))
    problem(answer, "internal-error")
    log = idle_service.log_file.read_text()
    assert "the check of a kind of destination failed with RuntimeError at" in log
    assert password not in log


def test_a_chain_tests_destinations_thirty_times_a_minute_at_most(idle_service: Longshore) -> None:
    with idle_service.client(Level.ADMIN, chain=79) as client:
        statuses = [client.post("/destinations/test", json=body_of()).status_code for _ in range(31)]
        assert statuses == [200] * 30 + [429]
        refused = client.post(f"/destinations/{create_destination(client)['id']}/test")
        assert "30 times in 60 seconds" in problem(refused, "too-many-requests")["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 60


def test_repeated_request_makes_one_destination_and_keeps_no_digest_of_the_secret(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = body_of()
    first, second = (idle_client.post("/destinations", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    other = {**body, "secret": {"password": "another"}}
    problem(idle_client.post("/destinations", json=other, headers=headers), "idempotency-key-reused")
    digest = hashlib.sha256(b"POST /destinations\n" + CANONICAL.encode(body)).digest()
    stored = idle_service.sql(
        "select body_sha256 from longshore.idempotency_keys where key like '%' || $1", *headers.values()
    )
    assert bytes(stored[0][0]) != digest, "a reader of the database could try passwords"
    idle_client.delete(f"/destinations/{first.json()['id']}")
    problem(idle_client.post("/destinations", json=body, headers=headers), "destination-not-found")


def test_repeated_request_is_known_after_the_secret_of_the_service_was_replaced(tmp_path: Path) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    target = {"action": "http", "url": "https://example.com/", "secret_headers": {"Authorization": "hunter2"}}
    task = {"chain": CHAIN, "desc": "", "trigger": {"once": "2126-05-26T12:00:00Z"}, "target": target}
    body, answers, token = body_of("shelf"), [], ""
    with database_in(tmp_path, 100) as url:
        for secret in ("o" * 32, f"{'n' * 32},{'o' * 32}"):
            service = Longshore(tmp_path, url, secret=secret)
            service.start_api()
            token = token or service.token(Level.ADMIN)
            client = httpx2.Client(base_url=service.address, headers={"Authorization": f"Bearer {token}"})
            with contextlib.ExitStack() as stack, client:
                stack.callback(service.stop)
                answers.append(client.post("/destinations", json=body, headers=headers))
                answers.append(client.post("/tasks", json=task, headers={"Idempotency-Key": "of a task"}))
    assert [answer.status_code for answer in answers] == [201] * 4, [answer.text for answer in answers]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, None, "true", "true"]
    assert [answer.json()["id"] for answer in answers[:2]] == [answer.json()["id"] for answer in answers[2:]]


def test_destination_that_a_task_names_is_kept_while_a_run_is_to_come(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    new = create_destination(idle_client)
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    deliver = {"deliver": [{"destination": new["name"]}]}
    target = {**export_body()["target"], **deliver}
    idle_service.sql("update longshore.tasks set target = $2 where id = $1", task, msgspec.json.encode(target).decode())
    problem(idle_client.delete(f"/destinations/{new['id']}"), "destination-in-use")
    idle_client.post(f"/tasks/{task}/cancel")
    assert idle_client.delete(f"/destinations/{new['id']}").status_code == 204


@pytest.mark.parametrize("coming", ["paused schedule", "queued execute", "exporting", "backfill"])
def test_destination_is_kept_for_a_run_to_come_of_each_kind(
    idle_service: Longshore, idle_client: httpx2.Client, coming: str
) -> None:
    new = create_destination(idle_client)
    repeat: dict[str, Any] = {"repeat": "daily"} if coming in ("paused schedule", "backfill") else {}
    task = idle_client.post("/tasks", json=export_body(once="2026-01-01T06:00:00Z", **repeat)).json()["id"]
    play(idle_service, task, "begin", "finish")
    target = json.dumps(export_body()["target"] | {"deliver": [{"destination": new["name"]}]})
    if coming == "backfill":  # of a schedule that has come to its end
        over = json.dumps({"once": "2026-01-01T06:00:00Z", "repeat": "daily", "until": "2026-01-02T06:00:00Z"})
        idle_service.sql("update longshore.tasks set trigger = $2, due_at = null where id = $1", task, over)
    idle_service.sql("update longshore.tasks set target = $2 where id = $1", task, target)
    if coming != "paused schedule":
        [row] = idle_service.sql("select state, due_at from longshore.tasks where id = $1", task)
        assert (row["state"], row["due_at"]) == ("DONE", None), "no run is to come but the one below"
    if coming == "paused schedule":
        answer = idle_client.post(f"/tasks/{task}/pause")
    elif coming == "backfill":
        span = {"start": "2025-12-31T00:00:00Z", "end": "2026-02-01T00:00:00Z"}
        answer = idle_client.post(f"/tasks/{task}/backfill", json=span)
    else:
        answer = idle_client.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
    assert answer.status_code in (200, 202), answer.text
    if coming == "exporting":
        play(idle_service, task, "begin")
        assert idle_client.get(f"/tasks/{task}/progress").json()["phase"] == "exporting"
    problem(idle_client.delete(f"/destinations/{new['id']}"), "destination-in-use")
    assert idle_client.post(f"/tasks/{task}/cancel").status_code == 200
    assert idle_client.delete(f"/destinations/{new['id']}").status_code == 204


def test_changes_and_tests_of_destinations_are_in_the_audit_log(idle_client: httpx2.Client) -> None:
    new = create_destination(idle_client)
    path = f"/destinations/{new['id']}"
    idle_client.post("/destinations/test", json=body_of())
    idle_client.post(f"{path}/test")
    idle_client.patch(path, json={"secret": {"password": "new"}})
    idle_client.delete(path)
    entries = idle_client.get("/audit", params={"object": f"destination {new['id']}"}).json()
    assert [(entry["action"], entry["details"]) for entry in reversed(entries)] == [
        ("destination.create", {"name": new["name"], "kind": "memory"}),
        ("destination.test", {"name": new["name"], "kind": "memory"}),
        ("destination.change", {"name": new["name"], "changed": ["secret"]}),
        ("destination.delete", {"name": new["name"]}),
    ]
    [tested] = idle_client.get("/audit", params={"action": "destination.test", "object": "", "limit": 1}).json()
    assert tested["details"]["kind"] == "memory"


def test_kinds_are_listed_with_schemas_of_settings_and_secrets(writer: httpx2.Client) -> None:
    kinds = {kind.pop("kind"): kind for kind in writer.get("/destination_kinds").json()}
    memory = kinds["memory"]
    assert memory["takes"] == "files"
    assert memory["settings"]["required"] == ["shelf"]
    assert memory["settings"]["properties"]["shelf"]["description"] == "name of the shelf"
    assert memory["secret"]["properties"] == {"password": {"type": "string"}}


# The settings and the secret of each kind, as the API's contract names them.
BUILT_IN = {
    "s3": (
        {"bucket", "prefix", "region", "endpoint", "encryption", "kms_key_id", "path_style"},
        {"access_key_id", "secret_access_key", "session_token"},
    ),
    "gs": ({"bucket", "prefix"}, {"service_account"}),
    "az": ({"account", "container", "prefix"}, {"account_key", "sas_token"}),
    "sftp": ({"host", "port", "username", "host_key", "path"}, {"password", "private_key", "passphrase"}),
    "postgresql": (
        {"host", "port", "database", "schema", "username", "sslmode", "sslrootcert"},
        {"password"},
    ),
}


def test_each_built_in_kind_has_the_settings_and_the_secret_of_the_contract(writer: httpx2.Client) -> None:
    kinds = {kind["kind"]: kind for kind in writer.get("/destination_kinds").json()}
    found = {name: tuple(set(kinds[name][part]["properties"]) for part in ("settings", "secret")) for name in BUILT_IN}
    assert found == BUILT_IN


def test_destination_whose_kind_was_removed_can_be_deleted_alone(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    new = create_destination(idle_client)
    path = f"/destinations/{new['id']}"
    idle_service.sql("update longshore.destinations set kind = 'removed' where id = $1", uuid.UUID(new["id"]))
    assert idle_client.get(path).status_code == 200
    for answer in (idle_client.post(f"{path}/test"), idle_client.patch(path, json={"settings": {}})):
        assert problem(answer, "destination-unusable")["detail"] == 'The kind "removed" is not installed.'
    assert idle_client.delete(path).status_code == 204


def test_unreadable_secret_names_the_setting_and_is_replaced_by_a_new_one(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    new = create_destination(idle_client)
    path = f"/destinations/{new['id']}"
    idle_service.sql(
        "update longshore.destinations set secret = overlay(secret placing '\\x00'::bytea from 3) where id = $1",
        uuid.UUID(new["id"]),
    )
    refused = problem(idle_client.post(f"{path}/test"), "secrets-unavailable")
    assert "LONGSHORE_SECRET" in refused["detail"]
    problem(idle_client.patch(path, json={"settings": {"shelf": "top", "prefix": "x"}}), "secrets-unavailable")
    assert idle_client.patch(path, json={"secret": {"password": PASSWORD}}).status_code == 200
    assert idle_client.post(f"{path}/test").json()["ok"] is True


def test_destination_and_webhook_are_refused_where_longshore_secret_is_not_set(
    idle_service: Longshore, tmp_path: Path
) -> None:
    longshore = Longshore(tmp_path, idle_service.url)  # of another data folder, so the database is not its embedded one
    try:
        longshore.start_api()
        with longshore.client(Level.ADMIN, chain=81) as client:
            for path, body in (
                ("/destinations", body_of()),
                ("/webhooks", {"chain": 81, "url": "https://example.com/"}),
            ):
                refused = problem(client.post(path, json=body), "secrets-unavailable")
                assert refused["detail"].startswith("LONGSHORE_SECRET is not set")
            assert client.get("/destinations").json() == client.get("/webhooks").json() == []
            assert client.post("/destinations/test", json=body_of()).json()["ok"] is True
    finally:
        longshore.stop()


def test_chain_has_a_hundred_destinations_at_most(idle_service: Longshore) -> None:
    with idle_service.client(Level.ADMIN, chain=80) as client:
        first = create_destination(client)
        idle_service.sql(
            "insert into longshore.destinations (chain_id, name, kind, settings, secret)"
            " select 80, 'x' || n, 'memory', '{}', '' from generate_series(1, 99) n"
        )
        problem(client.post("/destinations", json=body_of()), "too-many-destinations")
        assert client.delete(f"/destinations/{first['id']}").status_code == 204
        create_destination(client)
