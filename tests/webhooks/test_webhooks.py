"""Webhooks: ended tasks are told, signed, again and again until they are heard."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from longshore.access.tokens import Level
from longshore.webhooks.dispatcher import PAUSES, pause_after, retry_after
from longshore.webhooks.registry import MOST
from tests.answers import problem, violations
from tests.faults.held import until
from tests.receiver import Receiver, receiving
from tests.service import Longshore, ended, export_body

CHAIN = 1765
NOBODY = UUID(int=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture
def webhook(small: httpx2.Client, receiver: Receiver) -> Iterator[dict[str, Any]]:
    """A webhook of the chain 1765, at the receiver."""
    answer = small.post("/webhooks", json={"chain": CHAIN, "url": f"{receiver.url}/hook?x=1"})
    assert answer.status_code == 201, answer.text
    yield answer.json()
    small.delete(f"/webhooks/{answer.json()['id']}")


def run(client: httpx2.Client) -> dict[str, Any]:
    task = client.post("/tasks", json=export_body(chain=CHAIN)).json()["id"]
    return ended(client, task)


def deliveries(client: httpx2.Client, webhook: dict[str, Any], state: str) -> list[dict[str, Any]]:
    """The webhook's deliveries, once the newest is in this state."""
    deadline = time.monotonic() + 30
    while True:
        found: list[dict[str, Any]] = client.get(f"/webhooks/{webhook['id']}/deliveries").json()
        if found and found[0]["state"] == state and (state == "delivered" or found[0]["fault"]):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def status_of(client: httpx2.Client, webhook: dict[str, Any], delivery: str) -> int:
    """What a delivery was answered last."""
    found = client.get(f"/webhooks/{webhook['id']}/deliveries").json()
    return next(int(each["status"]) for each in found if each["id"] == delivery)


def test_a_task_that_is_done_is_told_and_the_signature_can_be_verified(
    small: httpx2.Client, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    task = run(small)
    came = receiver.next()
    assert came.path == "/hook?x=1"
    assert came.headers["host"] == f"127.0.0.1:{receiver.port}"
    told = Webhook(webhook["secret"]).verify(came.body, came.headers)
    assert told["type"] == "task.done"
    assert told["timestamp"] == task["state"]["last_modified"]
    assert told["data"] == {
        "id": task["id"], "chain": CHAIN, "desc": "a test", "action": "export", "state": "DONE",
        "revision": told["data"]["revision"], "run": 1, "result": task["result"],
    }  # fmt: skip
    tag = f'"{task["id"]}-{told["data"]["revision"]}"'
    assert small.get(f"/tasks/{task['id']}", headers={"If-None-Match": tag}).status_code == 304
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook["secret"]).verify(came.body + b" ", came.headers)
    (delivery,) = deliveries(small, webhook, "delivered")
    assert came.headers["webhook-id"] == f"msg_{delivery['id']}"
    assert (delivery["status"], delivery["attempts"], delivery["fault"], delivery["next"]) == (204, 1, None, None)


def test_what_is_not_taken_is_sent_again_later_and_a_redirect_is_not_followed(
    small: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    receiver.answers.put(307)
    receiver.answers.put(500)
    run(small)
    ids = {receiver.next().headers["webhook-id"]}
    (delivery,) = deliveries(small, webhook, "pending")
    assert (delivery["status"], delivery["fault"]) == (307, "answered 307")
    assert delivery["next"] > delivery["attempted"]
    for status in (500, 204):  # there is no need to wait for the pause
        service.sql(
            "with d as (update longshore.deliveries set due_at = now() where id = $1::text::uuid returning id)"
            " select pg_notify('longshore_deliveries', '') from d",
            delivery["id"],
        )
        came = receiver.next()
        assert came.path == "/hook?x=1"
        ids.add(came.headers["webhook-id"])
        until(lambda status=status: status_of(small, webhook, delivery["id"]) == status, "the answer to be noted")  # type: ignore[misc]
    assert ids == {f"msg_{delivery['id']}"}
    (delivery,) = deliveries(small, webhook, "delivered")
    assert delivery["attempts"] >= 3


def test_a_delivery_can_be_sent_again_by_hand(
    small: httpx2.Client, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    run(small)
    first = receiver.next()
    (delivery,) = deliveries(small, webhook, "delivered")
    answer = small.post(f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}/redeliver")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    again = receiver.next()
    assert (again.body, again.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])
    Webhook(webhook["secret"]).verify(again.body, again.headers)
    path = f"/webhooks/{webhook['id']}/deliveries/{NOBODY}/redeliver"
    problem(small.post(path), "delivery-not-found")


def test_a_failing_task_is_told_to_those_who_want_to_hear_of_errors(
    small: httpx2.Client, service: Longshore, receiver: Receiver
) -> None:
    body = {"chain": CHAIN, "url": f"{receiver.url}/errors", "events": ["task.error"]}
    webhook = small.post("/webhooks", json=body).json()
    run(small)
    task = small.post("/tasks", json=export_body(chain=CHAIN, once="2126-05-26T12:00:00Z")).json()["id"]
    # A row that nothing wrote: whoever ends a task, the same transaction fills the outbox.
    service.sql(
        "with entry as (insert into longshore.task_logs (task_id, seq, at, msg)"
        " values ($1, 0, now(), 'the disk is full'), ($1, 1, now(), 'READY -> ERROR'))"
        " update longshore.tasks set state = 'ERROR', attempt_began_at = now(), due_at = null, revision = 2,"
        " log_length = 2 where id = $1",
        task,
    )
    told = Webhook(webhook["secret"]).verify((came := receiver.next()).body, came.headers)
    assert (told["type"], told["data"]["id"], told["data"]["revision"]) == ("task.error", task, 2)
    assert told["data"]["reason"] == "the disk is full"
    assert len(deliveries(small, webhook, "delivered")) == 1
    small.delete(f"/webhooks/{webhook['id']}")


def test_attempts_go_on_for_about_a_day(service: Longshore) -> None:
    assert service
    pauses = [pause_after(tries) for tries in range(1, len(PAUSES) + 2)]
    assert pauses.pop() is None
    assert 20 * 3600 < sum(pause or 0 for pause in pauses) < 28 * 3600
    assert list(PAUSES) == sorted(PAUSES)


def test_receiver_that_answers_410_disables_its_webhook_and_the_chain_is_told(
    small: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    receiver.answers.put(410)
    run(small)
    receiver.next()
    (delivery,) = deliveries(small, webhook, "failed")
    assert (delivery["status"], delivery["next"]) == (410, None)

    def listed() -> dict[str, Any]:
        return next(each for each in small.get("/webhooks").json() if each["id"] == webhook["id"])

    until(lambda: listed()["disabled"] is not None, "the webhook to be disabled")
    assert listed()["disabled_reason"] == "the receiver answered 410"
    with service.client(Level.ADMIN, chain=CHAIN) as admin:
        params = {"action": "webhook.disable", "object": f"webhook {webhook['id']}"}
        (entry,) = admin.get("/audit", params=params).json()
        assert entry["details"] == {"reason": "the receiver answered 410"}
    run(small)
    assert len(small.get(f"/webhooks/{webhook['id']}/deliveries").json()) == 1, "nothing is written for it any more"
    assert small.post(f"/webhooks/{webhook['id']}/enable").json()["disabled"] is None
    run(small)
    receiver.next()
    deliveries(small, webhook, "delivered")
    problem(small.post(f"/webhooks/{NOBODY}/enable"), "webhook-not-found")


def test_receiver_that_is_overloaded_says_when_it_is_asked_again(
    small: httpx2.Client, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    receiver.retry_after = "3600"
    receiver.answers.put(429)
    run(small)
    receiver.next()
    (delivery,) = deliveries(small, webhook, "pending")
    wait = datetime.fromisoformat(delivery["next"]) - datetime.fromisoformat(delivery["attempted"])
    assert 3590 < wait.total_seconds() < 3660


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("7", 7), ("999999999", 86_400), ("-1", None), ("1.5", None), ("soon", None), ("", None),
     ("Thu, 01 Jan 1970 00:02:00 GMT", 20), ("Thu, 01 Jan 1970 00:01:00 GMT", 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
     ("Thu, 99 Jan 1970 00:02:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_within_a_day(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, 100.0) == seconds


def test_new_secret_signs_beside_the_old_one_for_a_day(
    small: httpx2.Client, service: Longshore, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    path = f"/webhooks/{webhook['id']}/secret"
    rotated = small.post(path).json()
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != webhook["secret"]
    run(small)
    came = receiver.next()
    for secret in (webhook["secret"], rotated["secret"]):
        Webhook(secret).verify(came.body, came.headers)
    service.sql("update longshore.webhooks set old_secret_until = now() where id = $1::text::uuid", webhook["id"])
    run(small)
    came = receiver.next()
    Webhook(rotated["secret"]).verify(came.body, came.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook["secret"]).verify(came.body, came.headers)
    problem(small.post(f"/webhooks/{NOBODY}/secret"), "webhook-not-found")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]:80/", "http://2130706434/", "http://0x7f.2/",
        "http://[::ffff:10.0.0.1]/", "http://100.64.0.1/", "http://0.0.0.0/", "http://224.0.0.1/",
        "ftp://example.com/", "https://user:pw@example.com/", "https:///hook", "https://example.com/#x", "hook", "",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_or_none_is_refused(small: httpx2.Client, url: str) -> None:
    assert list(violations(small.post("/webhooks", json={"chain": CHAIN, "url": url}))) == ["/url"]


def test_every_fault_of_a_webhook_is_named(small: httpx2.Client) -> None:
    body = {"url": 7, "events": ["task.done", "task.gone"], "secret": "x"}
    assert set(violations(small.post("/webhooks", json=body))) == {"/chain", "/url", "/events/1", "/secret"}
    assert set(violations(small.post("/webhooks", json={"chain": CHAIN, "url": "http://a.example", "events": []}))) == {
        "/events"
    }
    problem(small.post("/webhooks", json={"chain": 9, "url": "http://a.example"}), "forbidden")


def test_webhooks_are_their_chains_own_and_their_secrets_are_shown_once(
    small: httpx2.Client, service: Longshore, webhook: dict[str, Any]
) -> None:
    listed = small.get("/webhooks").json()
    assert {key: webhook[key] for key in ("id", "url", "events", "created", "created_by")} | {
        "disabled": None,
        "disabled_reason": None,
    } in listed
    assert "whsec_" not in small.get("/webhooks").text
    with service.client(Level.ADMIN, chain=9) as other, service.client(Level.READ, chain=CHAIN) as reader:
        assert other.get("/webhooks").json() == []
        problem(other.get(f"/webhooks/{webhook['id']}/deliveries"), "webhook-not-found")
        problem(other.delete(f"/webhooks/{webhook['id']}"), "webhook-not-found")
        problem(reader.get("/webhooks"), "forbidden")
    assert small.delete(f"/webhooks/{webhook['id']}").status_code == 204
    problem(small.delete(f"/webhooks/{webhook['id']}"), "webhook-not-found")
    problem(small.delete("/webhooks/nonsense"), "webhook-not-found")


def test_a_chain_has_so_many_webhooks_at_most(service: Longshore) -> None:
    body = {"chain": 77, "url": "http://a.example/"}
    with service.client(chain=77) as client:
        for _ in range(MOST):
            assert client.post("/webhooks", json=body).status_code == 201
        problem(client.post("/webhooks", json=body), "too-many-webhooks")
        page = client.get("/webhooks", params={"limit": MOST - 1})
        assert 'rel="next"' in page.headers["link"]
