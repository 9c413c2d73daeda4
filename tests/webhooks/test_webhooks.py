"""Webhooks: a message for each task that ends, signed, and sent again until the receiver accepts it."""

import base64
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from longshore.access.tokens import Level, Scope
from longshore.settings import Settings
from longshore.tasks.model import HIDDEN_MESSAGE
from longshore.vault import open_vault
from longshore.webhooks.stored import MAX_PREVIOUS_SECRETS, MAX_WEBHOOKS
from tests.answers import problem, violations
from tests.receiver import Receiver, receiving
from tests.service import Longshore, ended, export_body
from tests.waiting import until

CHAIN = 1765
UNKNOWN_ID = UUID(int=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture
def webhook(small_client: httpx2.Client, receiver: Receiver) -> Iterator[dict[str, Any]]:
    """A webhook of the chain 1765, at the receiver."""
    answer = small_client.post("/webhooks", json={"chain": CHAIN, "url": f"{receiver.url}/hook?x=1"})
    assert answer.status_code == 201, answer.text
    yield answer.json()
    small_client.delete(f"/webhooks/{answer.json()['id']}")


def run(client: httpx2.Client) -> dict[str, Any]:
    task = client.post("/tasks", json=export_body(chain=CHAIN)).json()["id"]
    return ended(client, task)


def deliveries(client: httpx2.Client, webhook: dict[str, Any], state: str) -> list[dict[str, Any]]:
    """Return the webhook's deliveries once the newest has this state."""
    deadline = time.monotonic() + 30
    while True:
        found: list[dict[str, Any]] = client.get(f"/webhooks/{webhook['id']}/deliveries").json()
        if found and found[0]["state"] == state and (state == "delivered" or found[0]["error"]):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def status_of(client: httpx2.Client, webhook: dict[str, Any], delivery: str) -> int:
    """Return the HTTP status of a delivery's last answer."""
    found = client.get(f"/webhooks/{webhook['id']}/deliveries").json()
    return next(int(each["status"]) for each in found if each["id"] == delivery)


def test_message_of_a_finished_task_has_a_signature_that_can_be_verified(
    small_client: httpx2.Client, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    task = run(small_client)
    request = receiver.next()
    assert request.path == "/hook?x=1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    message = Webhook(webhook["secret"]).verify(request.body, request.headers)
    assert message["type"] == "task.done"
    assert message["timestamp"] == task["state"]["last_modified"]
    [done] = small_client.get(f"/tasks/{task['id']}/runs").json()
    assert done["interval"]["start"] is None
    assert message["data"] == {
        "id": task["id"], "chain": CHAIN, "desc": "a test", "action": "export", "state": "DONE",
        "revision": message["data"]["revision"], "run": 1, "result": task["result"],
        "interval": done["interval"], "rows": done["rows"], "bytes": done["bytes"],
    }  # fmt: skip
    tag = f'"{task["id"]}-{message["data"]["revision"]}"'
    assert small_client.get(f"/tasks/{task['id']}", headers={"If-None-Match": tag}).status_code == 304
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook["secret"]).verify(request.body + b" ", request.headers)
    (delivery,) = deliveries(small_client, webhook, "delivered")
    assert request.headers["webhook-id"] == f"msg_{delivery['id']}"
    assert (delivery["status"], delivery["attempts"], delivery["error"], delivery["next"]) == (204, 1, None, None)


def test_message_that_is_not_accepted_is_sent_again_later_and_a_redirect_is_not_followed(
    small_client: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    receiver.answers.put(307)
    receiver.answers.put(500)
    run(small_client)
    ids = {receiver.next().headers["webhook-id"]}
    (delivery,) = deliveries(small_client, webhook, "pending")
    assert (delivery["status"], delivery["error"]) == (307, "answered 307")
    assert delivery["next"] > delivery["attempted"]
    for status in (500, 204):  # there is no need to wait for the pause
        service.sql(
            "with d as (update longshore.webhook_deliveries set due_at = now() where id = $1::text::uuid returning id)"
            " select pg_notify('longshore_webhook_deliveries', '') from d",
            delivery["id"],
        )
        request = receiver.next()
        assert request.path == "/hook?x=1"
        ids.add(request.headers["webhook-id"])
        until(
            lambda status=status: status_of(small_client, webhook, delivery["id"]) == status,  # type: ignore[misc]
            "the answer to be noted",
        )
    assert ids == {f"msg_{delivery['id']}"}
    (delivery,) = deliveries(small_client, webhook, "delivered")
    assert delivery["attempts"] >= 3


def test_delivery_can_be_sent_again_on_request(
    small_client: httpx2.Client, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    run(small_client)
    first = receiver.next()
    (delivery,) = deliveries(small_client, webhook, "delivered")
    answer = small_client.post(f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}/redeliver")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    again = receiver.next()
    assert (again.body, again.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])
    Webhook(webhook["secret"]).verify(again.body, again.headers)
    path = f"/webhooks/{webhook['id']}/deliveries/{UNKNOWN_ID}/redeliver"
    problem(small_client.post(path), "delivery-not-found")


def test_message_of_a_failed_task_has_its_reason_and_goes_to_webhooks_for_errors(
    small_client: httpx2.Client, service: Longshore, receiver: Receiver
) -> None:
    body = {"chain": CHAIN, "url": f"{receiver.url}/errors", "events": ["task.error"]}
    webhook = small_client.post("/webhooks", json=body).json()
    run(small_client)
    task = small_client.post("/tasks", json=export_body(chain=CHAIN, once="2126-05-26T12:00:00Z")).json()["id"]
    # The trigger writes the message whichever statement ends the task.
    service.sql(
        "update longshore.tasks set state = 'ERROR', reason = 'the disk is full', attempt_began_at = now(),"
        " due_at = null, revision = 2 where id = $1",
        task,
    )
    message = Webhook(webhook["secret"]).verify((request := receiver.next()).body, request.headers)
    assert (message["type"], message["data"]["id"], message["data"]["revision"]) == ("task.error", task, 2)
    assert message["data"]["reason"] == "the disk is full"
    assert not {"interval", "rows", "bytes"} & message["data"].keys(), "it has no run"
    assert len(deliveries(small_client, webhook, "delivered")) == 1
    small_client.delete(f"/webhooks/{webhook['id']}")


def test_receiver_that_answers_410_disables_its_webhook_and_the_audit_log_has_an_entry(
    small_client: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    receiver.answers.put(410)
    run(small_client)
    receiver.next()
    (delivery,) = deliveries(small_client, webhook, "failed")
    assert (delivery["status"], delivery["next"]) == (410, None)

    def listed() -> dict[str, Any]:
        return next(each for each in small_client.get("/webhooks").json() if each["id"] == webhook["id"])

    until(lambda: listed()["disabled"] is not None, "the webhook to be disabled")
    assert listed()["disabled_reason"] == "the receiver answered 410"
    with service.client(Level.ADMIN, chain=CHAIN) as admin:
        params = {"action": "webhook.disable", "object": f"webhook {webhook['id']}"}
        (entry,) = admin.get("/audit", params=params).json()
        assert (entry["actor"], entry["details"]) == ("service", {"reason": "the receiver answered 410"})
    run(small_client)
    assert len(small_client.get(f"/webhooks/{webhook['id']}/deliveries").json()) == 1, "no message is written for it"
    problem(small_client.post(f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}/redeliver"), "webhook-disabled")
    assert small_client.post(f"/webhooks/{webhook['id']}/enable").json()["disabled"] is None
    run(small_client)
    receiver.next()
    deliveries(small_client, webhook, "delivered")
    problem(small_client.post(f"/webhooks/{UNKNOWN_ID}/enable"), "webhook-not-found")


def test_retry_after_of_a_receiver_delays_the_next_attempt(
    small_client: httpx2.Client, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    receiver.retry_after = "3600"
    receiver.answers.put(429)
    run(small_client)
    receiver.next()
    (delivery,) = deliveries(small_client, webhook, "pending")
    wait = datetime.fromisoformat(delivery["next"]) - datetime.fromisoformat(delivery["attempted"])
    assert 3590 < wait.total_seconds() < 3660


def test_new_secret_signs_beside_the_previous_one_for_a_day(
    small_client: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    path = f"/webhooks/{webhook['id']}/secret"
    rotated = small_client.post(path).json()
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != webhook["secret"]
    run(small_client)
    request = receiver.next()
    for secret in (webhook["secret"], rotated["secret"]):
        Webhook(secret).verify(request.body, request.headers)
    expire_previous_secrets(service, webhook)
    run(small_client)
    request = receiver.next()
    Webhook(rotated["secret"]).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook["secret"]).verify(request.body, request.headers)
    problem(small_client.post(f"/webhooks/{UNKNOWN_ID}/secret"), "webhook-not-found")


def expire_previous_secrets(service: Longshore, webhook: dict[str, Any]) -> None:
    service.sql(
        "update longshore.previous_webhook_secrets set signs_until = now() where webhook_id = $1::text::uuid",
        webhook["id"],
    )


def test_every_previous_secret_signs_until_its_time_and_there_are_three_at_most(
    small_client: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    path = f"/webhooks/{webhook['id']}/secret"
    secrets = [webhook["secret"]]
    for _ in range(MAX_PREVIOUS_SECRETS):
        secrets.append(small_client.post(path).json()["secret"])
    problem(small_client.post(path), "too-many-webhook-secrets")
    run(small_client)
    request = receiver.next()
    assert len(request.headers["webhook-signature"].split()) == len(secrets)
    for secret in secrets:
        Webhook(secret).verify(request.body, request.headers)
    expire_previous_secrets(service, webhook)
    assert small_client.post(path).status_code == 200


def test_redelivery_that_is_answered_410_is_not_tried_again(
    small_client: httpx2.Client, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    run(small_client)
    receiver.next()
    (delivery,) = deliveries(small_client, webhook, "delivered")
    receiver.answers.put(410)
    path = f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}/redeliver"
    assert small_client.post(path).status_code == 202
    receiver.next()
    (delivery,) = deliveries(small_client, webhook, "failed")
    assert (delivery["status"], delivery["next"]) == (410, None)
    until(lambda: small_client.post(path).status_code == 409, "the webhook to be disabled")
    problem(small_client.post(path), "webhook-disabled")


@pytest.mark.parametrize(
    ("scope", "hidden"),
    [
        (None, False),
        (Scope(hidden_columns=["users.username"]), True),
        (Scope(indexes=["users", "wallet-ledger"]), False),
        (Scope(indexes=["wallet-ledger"]), True),
    ],
)
def test_reason_and_figures_are_hidden_from_the_webhook_of_a_token_that_may_not_see_the_log(
    service: Longshore, receiver: Receiver, scope: Scope | None, hidden: bool
) -> None:
    """The rule of `GET /tasks/{id}`: the rights of the webhook's maker on all that the task's runs have read."""
    reads = '[{"index": "users", "level": "read", "columns": ["username"]}]'
    with service.client(chain=CHAIN) as wide, service.client(chain=CHAIN, scope=scope) as maker:
        body = {"chain": CHAIN, "url": receiver.url, "events": ["task.error"]}
        webhook = maker.post("/webhooks", json=body).json()
        task = wide.post("/tasks", json=export_body(chain=CHAIN, once="2126-05-26T12:00:00Z")).json()["id"]
        service.sql(
            "with entry as (insert into longshore.task_logs (task_id, seq, at, msg)"
            " values ($1, 0, now(), 'username ~secret~'), ($1, 1, now(), 'READY -> ERROR')),"
            " run as (insert into longshore.runs (task_id, run, state, first_attempt, attempt, began_at,"
            " attempt_began_at, progress_at, rows, bytes) values ($1, 1, 'ERROR', 1, 1, now(), now(), now(), 7, 70))"
            " update longshore.tasks set state = 'ERROR', attempt_began_at = now(), due_at = null, revision = 2,"
            " reason = 'username ~secret~', run = 1, log_length = 2, reads = $2,"
            " target = jsonb_set(target::jsonb, '{fields}', '[\"first_name\"]')"
            " where id = $1",
            task,
            reads,
        )
        request = receiver.next()
        message = Webhook(webhook["secret"]).verify(request.body, request.headers)
        log = maker.get(f"/tasks/{task}").text
        maker.delete(f"/webhooks/{webhook['id']}")
    assert message["data"]["id"] == task
    assert message["data"]["reason"] == (HIDDEN_MESSAGE if hidden else "username ~secret~")
    assert (message["data"]["rows"], message["data"]["bytes"]) == ((None, None) if hidden else (7, 70))
    assert ("~secret~" in log) is not hidden


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]:80/", "http://2130706434/", "http://0x7f.2/",
        "http://[::ffff:10.0.0.1]/", "http://100.64.0.1/", "http://0.0.0.0/", "http://224.0.0.1/",
        "ftp://example.com/", "https://user:pw@example.com/", "https:///hook", "https://example.com/#x", "hook", "",
    ],
)  # fmt: skip
def test_webhook_at_an_address_that_is_not_public_is_refused(small_client: httpx2.Client, url: str) -> None:
    assert list(violations(small_client.post("/webhooks", json={"chain": CHAIN, "url": url}))) == ["/url"]


def test_every_violation_of_a_webhook_body_is_named(small_client: httpx2.Client) -> None:
    body = {"url": 7, "events": ["task.done", "task.gone"], "secret": "x"}
    assert set(violations(small_client.post("/webhooks", json=body))) == {"/chain", "/url", "/events/1", "/secret"}
    assert set(
        violations(small_client.post("/webhooks", json={"chain": CHAIN, "url": "http://a.example", "events": []}))
    ) == {"/events"}
    problem(small_client.post("/webhooks", json={"chain": 9, "url": "http://a.example"}), "forbidden")


def test_webhooks_belong_to_their_chain_and_their_secrets_are_shown_once(
    small_client: httpx2.Client, service: Longshore, webhook: dict[str, Any]
) -> None:
    listed = small_client.get("/webhooks").json()
    assert {key: webhook[key] for key in ("id", "url", "events", "created", "created_by")} | {
        "disabled": None,
        "disabled_reason": None,
    } in listed
    assert "whsec_" not in small_client.get("/webhooks").text
    with service.client(Level.ADMIN, chain=9) as other, service.client(Level.READ, chain=CHAIN) as reader:
        assert other.get("/webhooks").json() == []
        problem(other.get(f"/webhooks/{webhook['id']}/deliveries"), "webhook-not-found")
        problem(other.delete(f"/webhooks/{webhook['id']}"), "webhook-not-found")
        problem(reader.get("/webhooks"), "forbidden")
    assert small_client.delete(f"/webhooks/{webhook['id']}").status_code == 204
    problem(small_client.delete(f"/webhooks/{webhook['id']}"), "webhook-not-found")
    problem(small_client.delete("/webhooks/nonsense"), "webhook-not-found")


def test_chain_cannot_have_more_webhooks_than_allowed(service: Longshore) -> None:
    body = {"chain": 77, "url": "http://a.example/"}
    with service.client(chain=77) as client:
        for _ in range(MAX_WEBHOOKS):
            assert client.post("/webhooks", json=body).status_code == 201
        problem(client.post("/webhooks", json=body), "too-many-webhooks")
        page = client.get("/webhooks", params={"limit": MAX_WEBHOOKS - 1})
        assert 'rel="next"' in page.headers["link"]


def test_secrets_of_a_webhook_are_stored_sealed(
    small_client: httpx2.Client, service: Longshore, webhook: dict[str, Any]
) -> None:
    new = small_client.post(f"/webhooks/{webhook['id']}/secret").json()["secret"]
    rows = service.sql(
        "select w.secret, p.secret as previous from longshore.webhooks w"
        " join longshore.previous_webhook_secrets p on p.webhook_id = w.id where w.id = $1::text::uuid",
        webhook["id"],
    )
    for stored, secret in ((rows[0]["secret"], new), (rows[0]["previous"], webhook["secret"])):
        plain = base64.b64decode(secret.removeprefix("whsec_"))
        assert plain not in stored
        assert service.vault.unseal(CHAIN, f"webhook {webhook['id']}", stored) == plain


def test_message_whose_secret_cannot_be_read_waits_for_the_setting(
    small_client: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    readable = service.sql("select secret from longshore.webhooks where id = $1::text::uuid", webhook["id"])[0][0]
    set_secret = "update longshore.webhooks set secret = $2 where id = $1::text::uuid"
    service.sql(set_secret, webhook["id"], open_vault(Settings(secret="x" * 32)).seal(CHAIN, "webhook", b"x"))
    run(small_client)
    (failed,) = deliveries(small_client, webhook, "pending")
    assert "set LONGSHORE_SECRET" in failed["error"]
    service.sql(set_secret, webhook["id"], readable)
    small_client.post(f"/webhooks/{webhook['id']}/deliveries/{failed['id']}/redeliver")
    request = receiver.next()
    Webhook(webhook["secret"]).verify(request.body, request.headers)
