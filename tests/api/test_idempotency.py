"""`Idempotency-Key`: a repeated request is executed once and answers the outcome."""

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import pytest
from litestar.routes import HTTPRoute

from longshore import settings_sources, web
from longshore.access.tokens import Level
from longshore.database.connect import Connection, open_pool
from longshore.tasks.idempotency import Claim, StoredAnswer, once
from longshore.tasks.model import ChainId
from tests.answers import problem, violations
from tests.run_steps import play
from tests.service import CHAIN, Longshore, export_body

SLOW_CLAIMS = """
create function longshore.wait_in_a_test() returns trigger language plpgsql as $$
begin perform pg_sleep(1.5); return new; end $$;
create trigger slow before insert on longshore.idempotency_keys
for each row execute function longshore.wait_in_a_test();
"""


@pytest.fixture
def key() -> str:
    return f"order {uuid4()}"


def test_same_idempotency_key_and_body_get_the_same_answer(idle_client: httpx2.Client, key: str) -> None:
    body, headers = export_body(), {"Idempotency-Key": key}
    first = idle_client.post("/tasks", json=body, headers=headers)
    again = idle_client.post("/tasks", json=dict(reversed(body.items())), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert idle_client.post("/tasks", json=body).json()["id"] != first.json()["id"]


def test_same_idempotency_key_with_another_body_is_refused(idle_client: httpx2.Client, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert idle_client.post("/tasks", json=export_body(), headers=headers).status_code == 201
    problem(idle_client.post("/tasks", json=export_body("json"), headers=headers), "idempotency-key-reused")


def test_simultaneous_requests_with_one_key_make_one_task(
    idle_client: httpx2.Client, idle_service: Longshore, key: str
) -> None:
    before = idle_service.sql("select count(*) from longshore.tasks")[0]["count"]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(
                lambda _: idle_client.post("/tasks", json=export_body(), headers={"Idempotency-Key": key}), range(24)
            )
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert idle_service.sql("select count(*) from longshore.tasks")[0]["count"] == before + 1


def test_refused_body_leaves_the_key_unused(idle_client: httpx2.Client, key: str) -> None:
    headers = {"Idempotency-Key": key}
    violations(idle_client.post("/tasks", json=export_body("nonsense"), headers=headers))
    assert idle_client.post("/tasks", json=export_body(), headers=headers).status_code == 201


def test_keys_are_their_chains_own_and_good_for_a_day(
    idle_client: httpx2.Client, idle_service: Longshore, key: str
) -> None:
    headers = {"Idempotency-Key": key}
    first = idle_client.post("/tasks", json=export_body(), headers=headers).json()["id"]
    with idle_service.client(Level.WRITE, chain=9) as other:
        assert other.post("/tasks", json=export_body(chain=9), headers=headers).json()["id"] != first
    idle_service.sql(
        "update longshore.idempotency_keys set created_at = now() - interval '25 hours' where key like '% ' || $1", key
    )
    answer = idle_client.post("/tasks", json=export_body("json"), headers=headers)
    assert (answer.status_code, answer.json()["id"] == first) == (201, False)
    assert len(idle_service.sql("select from longshore.idempotency_keys where key like '% ' || $1", key)) == 1, (
        "the other chain's is swept"
    )


def test_key_that_gets_a_day_old_while_a_request_claims_it_still_has_its_answer(
    idle_service: Longshore, key: str
) -> None:
    claim = Claim(ChainId(CHAIN), key, b"0" * 32, [b"0" * 32])

    async def make(_: Connection) -> StoredAnswer:
        return StoredAnswer(None, b"first")

    async def run() -> tuple[StoredAnswer, bool]:
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            await once(pool, claim, make)
            await pool.execute(SLOW_CLAIMS)
            try:
                await pool.execute(
                    "update longshore.idempotency_keys set created_at = now() - interval '23:59:59' where key = $1", key
                )
                return await once(pool, claim, make)
            finally:
                await pool.execute("drop function longshore.wait_in_a_test cascade")

    assert asyncio.run(run()) == (StoredAnswer(None, b"first"), True)


def test_replay_answers_the_current_task(idle_client: httpx2.Client, idle_service: Longshore, key: str) -> None:
    headers = {"Idempotency-Key": key}
    task = idle_client.post("/tasks", json=export_body(), headers=headers).json()["id"]
    play(idle_service, task, "begin", "fail")
    again = idle_client.post("/tasks", json=export_body(), headers=headers)
    assert (again.status_code, again.json()) == (201, idle_client.get(f"/tasks/{task}").json())
    assert again.json()["state"]["code"] == "ERROR"
    wanted = {**headers, "Prefer": "retry-failed"}
    lines = [*headers.items(), ("Prefer", "handling=strict"), ("Prefer", "retry-failed")]
    new = idle_client.post("/tasks", json=export_body(), headers=lines)
    assert new.json()["id"] != task
    assert new.json()["state"]["code"] == "READY"
    assert (new.headers["preference-applied"], "idempotent-replayed" in new.headers) == ("retry-failed", False)
    assert idle_client.post("/tasks", json=export_body(), headers=wanted).json()["id"] == new.json()["id"]
    assert idle_client.delete(f"/tasks/{new.json()['id']}").status_code == 204
    problem(idle_client.post("/tasks", json=export_body(), headers=headers), "task-not-found")


def test_concurrent_retries_of_a_failed_task_create_one_task(
    idle_client: httpx2.Client, idle_service: Longshore, key: str
) -> None:
    headers = {"Idempotency-Key": key, "Prefer": "retry-failed"}
    task = idle_client.post("/tasks", json=export_body(), headers=headers).json()["id"]
    play(idle_service, task, "begin", "fail")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: idle_client.post("/tasks", json=export_body(), headers=headers), range(16)))
    assert len({answer.json()["id"] for answer in answers} - {task}) == 1


def test_execute_with_a_key_runs_once_and_a_replay_answers_its_end(
    idle_client: httpx2.Client, idle_service: Longshore, key: str
) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    path, headers = f"/tasks/{task}/execute", {"Idempotency-Key": key}
    first = idle_client.post(path, headers={**headers, "Prefer": "respond-async", "If-Match": f'"{task}-1"'})
    assert first.status_code == 202
    play(idle_service, task, "begin", "finish")
    again = idle_client.post(path, headers=headers)
    assert (again.status_code, again.json()["code"]) == (200, "DONE")
    assert again.headers["idempotent-replayed"] == "true"
    malformed = idle_client.post(path, headers={**headers, "If-None-Match": "a"})
    assert list(violations(malformed)) == ["If-None-Match"], "a replay is held to the same rules"
    assert len(idle_client.get(f"/tasks/{task}/runs").json()) == 1
    problem(idle_client.post("/tasks", json=export_body(), headers=headers), "idempotency-key-reused")


def test_segment_and_webhook_with_a_key_are_made_once(idle_client: httpx2.Client, key: str) -> None:
    rule = {"field_name": "amount", "field_type": "number", "operator": "is_not_empty"}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    for path, body, other in (
        ("/segments", {"chain": CHAIN, "name": "a", "segment": segment}, {"name": "b"}),
        ("/webhooks", {"chain": CHAIN, "url": "https://a.example/"}, {"url": "https://a.example/b"}),
    ):
        headers = {"Idempotency-Key": f"{key} {path}"}
        first, again = (idle_client.post(path, json=body, headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 201), first.text
        assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
        problem(idle_client.post(path, json={**body, **other}, headers=headers), "idempotency-key-reused")
        idle_client.delete(f"{path}/{first.json()['id']}")


def test_replay_of_a_task_is_answered_though_its_stored_segment_is_gone(idle_client: httpx2.Client, key: str) -> None:
    rule = {"field_name": "amount", "field_type": "number", "operator": "is_not_empty"}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    stored = idle_client.post("/segments", json={"chain": CHAIN, "name": "a", "segment": segment}).json()["id"]
    body, headers = export_body(segment_id=stored), {"Idempotency-Key": key}
    first = idle_client.post("/tasks", json=body, headers=headers)
    assert first.status_code == 201
    assert idle_client.delete(f"/segments/{stored}").status_code == 204
    again = idle_client.post("/tasks", json=body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    # Only a task that failed is made anew, and for that the body has to hold.
    assert idle_client.post("/tasks", json=body, headers={**headers, "Prefer": "retry-failed"}).status_code == 201
    assert list(violations(idle_client.post("/tasks", json=body))) == ["/trigger/segment_id"]
    problem(idle_client.post("/tasks", json={**body, "chain": "x"}, headers=headers), "idempotency-key-reused")


@pytest.mark.parametrize("path", ["/segments", "/webhooks"])
def test_replay_of_a_deleted_resource_is_not_found(idle_client: httpx2.Client, key: str, path: str) -> None:
    rule = {"field_name": "amount", "field_type": "number", "operator": "is_not_empty"}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    body = {"chain": CHAIN} | (
        {"name": "a", "segment": segment} if path == "/segments" else {"url": "http://a.example/"}
    )
    headers = {"Idempotency-Key": key}
    made = idle_client.post(path, json=body, headers=headers).json()["id"]
    assert idle_client.delete(f"{path}/{made}").status_code == 204
    problem(idle_client.post(path, json=body, headers=headers), f"{path.strip('/')[:-1]}-not-found")


def test_secret_of_a_webhook_is_kept_with_no_idempotency_key_and_not_shown_again_once_replaced(
    idle_client: httpx2.Client, idle_service: Longshore, key: str
) -> None:
    body, headers = {"chain": CHAIN, "url": "https://a.example/"}, {"Idempotency-Key": key}
    made = idle_client.post("/webhooks", json=body, headers=headers).json()
    (row,) = idle_service.sql("select answer from longshore.idempotency_keys where key like '% ' || $1", key)
    secret = made["secret"].removeprefix("whsec_")
    assert secret.encode() not in row["answer"]
    assert base64.b64decode(secret) not in row["answer"]
    assert idle_client.post("/webhooks", json=body, headers=headers).json() == made
    replaced = idle_client.post(f"/webhooks/{made['id']}/secret").json()["secret"]
    answer = idle_client.post("/webhooks", json=body, headers=headers)
    problem(answer, "webhook-secret-replaced")
    assert replaced not in answer.text
    idle_client.delete(f"/webhooks/{made['id']}")


@pytest.mark.parametrize("wrong", ["", "x" * 256])
def test_malformed_idempotency_key_is_refused(idle_client: httpx2.Client, wrong: str) -> None:
    answer = idle_client.post("/tasks", json=export_body(), headers={"Idempotency-Key": wrong})
    assert len(violations(answer)) == 1


KEYLESS = [
    ("/access_tokens", {}), ("/service_clients", {"name": "keyless"}), ("/users", {}),
    (f"/webhooks/{UUID(int=1)}/secret", None), (f"/webhooks/{UUID(int=1)}/deliveries/1/redeliver", None),
    ("/delta-sharing/profile", None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), KEYLESS)
def test_key_is_refused_where_a_repeated_request_creates_or_sends_once_more(
    idle_service: Longshore, key: str, path: str, body: dict[str, str] | None
) -> None:
    with idle_service.client(Level.ADMIN) as admin:
        answer = admin.post(path, json=body, headers={"Idempotency-Key": key})
        assert list(violations(answer)) == ["Idempotency-Key"]
        assert "keyless" not in admin.get("/service_clients").text


REPEATABLE = {
    "/tasks/{id}/cancel": "a cancelled task stays so",
    "/tasks/{id}/pause": "a paused task stays so",
    "/tasks/{id}/resume": "a resumed task stays so",
    "/tasks/{id}/runs/{run}/ack": "an acknowledged run stays so",
    "/webhooks/{id}/enable": "an enabled webhook stays so",
    "/tasks/preview": "reads",
    "/segments/preview": "reads",
    "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/query": "reads",
    "/destinations/test": "leaves nothing there",
    "/destinations/{id}/test": "leaves nothing there",
    "/auth/login": "returns a session's key, which is stored nowhere; the session ends by itself",
    "/auth/session": "returns a session's key, which is stored nowhere; the session ends by itself",
    "/auth/logout": "an ended session stays so",
    "/auth/password": "the old password is wrong then",
}
"""Addresses that ignore a key, and why a repeated POST does no harm there."""

FORMS = ("/console/", "/sign-in", "/sign-out")
"""Pages. Their forms cannot send a header."""


def test_every_post_takes_a_key_or_refuses_it_or_may_be_repeated(tmp_path: Path) -> None:
    values = {"LONGSHORE_DATA": str(tmp_path), "LONGSHORE_DATABASE_URL": "postgresql://127.0.0.1/unused"}
    takes: set[str] = set()
    refuses: set[str] = set()
    ignores: set[str] = set()
    for route in web.build(settings_sources.load(values).settings).routes:
        if not isinstance(route, HTTPRoute) or "POST" not in route.methods or route.path_format.startswith(FORMS):
            continue
        handler, _ = route.route_handler_map["POST"]
        has_key = "idempotency_key" in handler.parsed_fn_signature.parameters
        has_refusal = bool(handler.opt.get("without_key"))
        assert not (has_key and has_refusal), route.path_format
        (takes if has_key else refuses if has_refusal else ignores).add(route.path_format)
    assert ignores == set(REPEATABLE)
    assert {"/tasks", "/tasks/{id}/execute", "/tasks/{id}/runs/{run}/deliver"} <= takes
    assert len(refuses) == len(KEYLESS), "each has a test of its own"


def test_key_is_ignored_where_a_request_may_be_repeated_without_harm(idle_client: httpx2.Client, key: str) -> None:
    body = {"trigger": {"once": "2126-05-26T12:00:00Z"}}
    assert idle_client.post("/tasks/preview", json=body, headers={"Idempotency-Key": key}).status_code == 200
