"""A task while its run is being delivered: changes that it allows, further attempts, and cancelling."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.destinations.places import Place, add_place, created, delivered_body, deliveries_of, reached, settled
from tests.faults.held import messages
from tests.service import Longshore, ended, export_body
from tests.waiting import until

CHAIN = 1765


@pytest.fixture
def place(service: Longshore, tmp_path: Path) -> Place:
    return add_place(service, tmp_path, chain=CHAIN)


@pytest.fixture
def delivering(small_client: httpx2.Client, place: Place) -> dict[str, Any]:
    """A task whose run cannot be delivered until the destination is there again."""
    place.faults(unavailable=1.0)
    id = created(small_client, delivered_body({"destination": place.name}, chain=CHAIN))
    until(
        lambda: is_delivering(small_client, id) and deliveries_of(small_client, id)[0]["error"] is not None,
        "the delivery to fail",
        60,
    )
    found: dict[str, Any] = small_client.get(f"/tasks/{id}").json()
    return found


def is_delivering(client: httpx2.Client, task: int) -> bool:
    return bool(client.get(f"/tasks/{task}/progress").json()["phase"] == "delivering")


def test_run_that_is_delivered_shows_its_result_and_is_in_progress_until_it_has_arrived(
    small_client: httpx2.Client, place: Place, delivering: dict[str, Any]
) -> None:
    task = f"/tasks/{delivering['id']}"
    assert (delivering["state"]["code"], delivering["result"]) == ("INPROGRESS", "")
    progress = small_client.get(f"{task}/progress").json()
    assert (progress["phase"], progress["percent"], progress["next"]["step"]) == ("delivering", 100.0, "deliver")
    assert small_client.get(f"{task}/download_url").status_code == 409
    assert small_client.get(f"{task}/runs/1/download_url").status_code == 200
    assert small_client.get(f"{task}/runs/1/files").status_code == 200
    assert small_client.get(f"{task}/runs/1/manifest").status_code == 200
    assert small_client.get(f"{task}/runs/latest").status_code == 404, "no run is DONE"
    place.faults()
    done = reached(small_client, delivering["id"], "DONE")
    (delivery,) = deliveries_of(small_client, delivering["id"])
    assert delivery["attempts"] > 1
    assert delivery["error"] is None
    tries = [message for message in messages(done) if message.startswith(f"delivery to {place.name}: attempt ")]
    assert len(tries) == 1, "a reason is logged once"
    assert "failed: the folder is away; the next one begins in 2 s" in tries[0]


def test_what_can_be_changed_while_a_run_is_delivered(
    service: Longshore, small_client: httpx2.Client, place: Place, delivering: dict[str, Any], tmp_path: Path
) -> None:
    task, other = f"/tasks/{delivering['id']}", add_place(service, tmp_path, chain=CHAIN)
    for body in ({"trigger": {"once": "2126-05-26T12:00:00Z"}}, {"target": delivering["target"] | {"priority": 3}}):
        assert small_client.patch(task, json=body).json()["type"].endswith("/task-running")
    moved = delivering["target"] | {"deliver": [{"destination": other.name}]}
    for body in ({"desc": "another"}, {"debug": "x"}, {"target": moved}):
        answer = small_client.patch(task, json=body)
        assert answer.status_code == 200, answer.text
    refused = (
        small_client.delete(task),
        small_client.post(f"{task}/execute"),
        small_client.post(f"{task}/runs/1/deliver"),
    )
    assert [answer.status_code for answer in refused] == [409, 409, 409]
    assert refused[2].json()["type"].endswith("/run-delivering")
    place.faults()
    assert reached(small_client, delivering["id"], "DONE")["desc"] == "another"
    assert not other.files(), "the run goes where its target said when it began"
    assert small_client.post(f"{task}/runs/1/deliver").status_code == 202
    settled(small_client, delivering["id"])
    assert other.files(), "what is asked for later goes where the target says now"


def test_run_that_is_delivered_holds_no_slot_of_its_chain(small_client: httpx2.Client, place: Place) -> None:
    place.faults(unavailable=1.0)
    ids = [created(small_client, delivered_body({"destination": place.name}, chain=CHAIN)) for _ in range(3)]
    until(lambda: all(is_delivering(small_client, id) for id in ids), "all to be delivering", 60)
    assert ended(small_client, created(small_client, export_body(chain=CHAIN)))["state"]["code"] == "DONE"
    for id in ids:
        assert small_client.post(f"/tasks/{id}/cancel").status_code == 200


def test_delivery_does_not_count_for_the_timeout_of_its_task(small_client: httpx2.Client, place: Place) -> None:
    timeout_seconds = 3
    place.faults(slow_seconds=1.0)
    target = {"timeout_seconds": timeout_seconds}
    id = created(small_client, delivered_body({"destination": place.name}, target=target, chain=CHAIN))
    until(lambda: is_delivering(small_client, id), "the delivery to begin", 60)
    began = time.monotonic()
    task = ended(small_client, id)
    assert task["state"]["code"] == "DONE", messages(task)
    assert time.monotonic() - began > timeout_seconds, "the file is too small"


def test_cancel_stops_what_is_not_delivered_and_leaves_what_is(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    quick, slow, away = (add_place(service, tmp_path, chain=CHAIN) for _ in range(3))
    slow.faults(slow_seconds=0.5)
    away.faults(unavailable=1.0)
    id = created(
        small_client, delivered_body(*({"destination": each.name} for each in (quick, slow, away)), chain=CHAIN)
    )
    until(lambda: any(path.endswith(".part") for path in slow.files()), "a part", 60)
    until(
        lambda: (
            is_delivering(small_client, id)
            and "delivered" in {each["state"] for each in deliveries_of(small_client, id)}
        ),
        "the first delivery",
        60,
    )
    assert small_client.post(f"/tasks/{id}/cancel").status_code == 200
    task = reached(small_client, id, "ERROR")
    assert messages(task)[-2].startswith("cancelled by token")
    states = {each["destination"]: each["state"] for each in deliveries_of(small_client, id)}
    assert states == {quick.name: "delivered", slow.name: "cancelled", away.name: "cancelled"}
    assert len(quick.files()) == 3
    until(lambda: not any(path.endswith(".part") for path in slow.files()), "the part to be gone", 60)
    assert small_client.delete(f"/tasks/{id}").status_code == 204


def test_delivery_that_was_asked_for_again_can_be_cancelled(small_client: httpx2.Client, place: Place) -> None:
    id = created(small_client, delivered_body({"destination": place.name}, chain=CHAIN))
    reached(small_client, id, "DONE")
    place.faults(unavailable=1.0)
    assert small_client.post(f"/tasks/{id}/runs/1/deliver").status_code == 202
    refused = small_client.delete(f"/tasks/{id}")
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("/run-delivering")
    assert small_client.post(f"/tasks/{id}/cancel").status_code == 200
    assert [each["state"] for each in deliveries_of(small_client, id)] == ["delivered", "cancelled"]
    assert small_client.get(f"/tasks/{id}").json()["state"]["code"] == "DONE"


def test_schedule_goes_on_after_a_run_whose_delivery_failed(small_client: httpx2.Client, place: Place) -> None:
    place.faults(refused="no right")
    body = delivered_body({"destination": place.name}, once="2026-05-26T12:00:00Z", repeat="daily", chain=CHAIN)
    id = created(small_client, body)
    reached(small_client, id, "ERROR")
    assert small_client.get(f"/tasks/{id}/progress").json()["next"]["step"] == "start"
    assert small_client.post(f"/tasks/{id}/cancel").status_code == 200


def test_webhook_gets_the_events_of_deliveries_only_if_it_names_them(
    service: Longshore, small_client: httpx2.Client, place: Place
) -> None:
    names = ["delivery.done", "delivery.failed", "task.error"]
    made = small_client.post("/webhooks", json={"chain": CHAIN, "url": "https://127.0.0.1:9/", "events": names})
    assert made.status_code == 201, made.text
    hook = made.json()["id"]
    usual = small_client.post("/webhooks", json={"chain": CHAIN, "url": "https://127.0.0.1:9/"}).json()["id"]
    place.faults(refused="no right")
    id = created(small_client, delivered_body({"destination": place.name}, chain=CHAIN))
    reached(small_client, id, "ERROR")
    place.faults()
    assert small_client.post(f"/tasks/{id}/runs/1/deliver").status_code == 202
    reached(small_client, id, "DONE")
    query = "select event, payload from longshore.webhook_deliveries where webhook_id = $1::text::uuid"
    rows = service.sql(query, hook)
    assert {row["event"] for row in service.sql(query, usual)} == {"task.error", "task.done"}
    events = {row["event"]: json.loads(row["payload"])["data"] for row in rows}
    run = small_client.get(f"/tasks/{id}/runs/1").json()
    assert events.keys() == set(names)
    for data in events.values():
        assert (data["id"], data["run"], data["rows"], data["bytes"]) == (id, 1, run["rows"], run["bytes"])
        assert data["interval"] == run["interval"]
    assert events["delivery.failed"]["reason"] == "no right"
    assert events["task.error"]["reason"] == f"delivery to {place.name} failed: no right"
    assert events["delivery.done"]["evidence"]["bytes"] == run["bytes"]
    assert events["delivery.done"]["destination"] == place.name
    assert [small_client.delete(f"/webhooks/{id}").status_code for id in (hook, usual)] == [204, 204]


def test_destination_that_a_run_is_delivered_to_cannot_be_deleted(
    service: Longshore, small_client: httpx2.Client, place: Place, delivering: dict[str, Any]
) -> None:
    [row] = service.sql("select id from longshore.destinations where name = $1", place.name)
    with service.client(chain=CHAIN, level=Level.ADMIN) as admin:
        refused = admin.delete(f"/destinations/{row['id']}")
        assert refused.status_code == 409
        assert refused.json()["type"].endswith("/destination-in-use")
        assert small_client.post(f"/tasks/{delivering['id']}/cancel").status_code == 200
        assert admin.delete(f"/destinations/{row['id']}").status_code == 204


def test_times_of_the_schedule_that_pass_while_a_run_is_delivered_are_missed_ones(
    service: Longshore, small_client: httpx2.Client, place: Place
) -> None:
    place.faults(unavailable=1.0)
    body = delivered_body({"destination": place.name}, once="2126-01-01T06:00:00Z", repeat="daily", chain=CHAIN)
    id = created(small_client, body)
    # Its time has come, and so will the next ones while its run is delivered.
    began = "update longshore.tasks set due_at = now() - interval '1 second', trigger = $2::text::json where id = $1"
    service.sql(began, id, json.dumps(body["trigger"] | {"once": "2026-01-01T06:00:00Z", "repeat": "daily"}))
    until(lambda: is_delivering(small_client, id), "the delivery to begin", 60)
    service.sql("update longshore.tasks set schedule_cursor = schedule_cursor - interval '3 days' where id = $1", id)
    service.sql("update longshore.tasks set covered_until = schedule_cursor where id = $1", id)
    place.faults()
    until(lambda: len(small_client.get(f"/tasks/{id}/runs").json()) == 2, "the second run", 60)
    reached(small_client, id, "DONE")
    second, first = small_client.get(f"/tasks/{id}/runs").json()
    assert second["due"] is not None
    assert second["interval"]["start"] is not None
    assert first["state"] == second["state"] == "DONE", "one run for all that was missed"
    assert small_client.post(f"/tasks/{id}/cancel").status_code == 200
