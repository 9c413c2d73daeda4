"""Tokens with limits: what they may not see, they can neither export, nor filter on, nor have shown."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level, Scope
from tests.answers import problem
from tests.service import Longshore, ended

HIDDEN = ["users.phone_number", "transactions.items", "users.birthday"]
CHAIN = 1765
OF_MANIFEST = ("runs/1/manifest", "runs/1/manifest.jws")


@pytest.fixture(scope="module")
def limited(service: Longshore) -> Iterator[httpx2.Client]:
    """May use two indexes, and not see some of their columns."""
    scope = Scope(indexes=["users", "transactions"], hidden_columns=HIDDEN)
    with service.client(Level.WRITE, CHAIN, scope) as opened:
        yield opened


def body(index: str = "users", fields: list[Any] | None = None, **trigger: Any) -> dict[str, Any]:
    target: dict[str, Any] = {"action": "export", "export_index": index, "export_format": "csv"}
    if fields is not None:
        target["fields"] = fields
    return {"chain": CHAIN, "desc": "", "target": target, "trigger": {"once": "2126-05-26T12:00:00Z", **trigger}}


def segment(field: str, index: str = "users", **rule: Any) -> dict[str, Any]:
    made = {"field_name": field, "field_type": "keyword", "operator": "is_not_empty", **rule}
    return {"entity": "people", "index": index, "join": "all", "chain_id": CHAIN, "rules": [made]}


PHONE = segment("phone_number")
ITEMS = segment("name", "transactions", field_type="text", nested=True, nesting_path="items")


def hidden(answer: httpx2.Response) -> dict[str, str]:
    """Return the violations of a 403 by pointer."""
    return {violation["pointer"]: violation["detail"] for violation in problem(answer, "forbidden")["errors"]}


def test_a_hidden_column_cannot_be_exported(limited: httpx2.Client) -> None:
    wanted = ["id", "phone_number", {"name": "birthday", "as": "b"}]
    found = hidden(limited.post("/tasks", json=body(fields=wanted)))
    assert set(found) == {"/target/fields/1", "/target/fields/2"}
    assert limited.post("/tasks", json=body(fields=["id", "username"])).status_code == 201


def test_export_by_a_limited_token_has_to_name_visible_columns(limited: httpx2.Client) -> None:
    message = hidden(limited.post("/tasks", json=body()))["/target/fields"]
    assert "phone_number" not in message
    fields = [field["name"] for field in limited.get("/indexes/users").json()["fields"]]
    assert f"there is {', '.join(fields)}" in message
    schema = limited.get("/indexes/users").json()["schema"]
    wanted = body(fields=fields)
    wanted["target"]["schema"] = schema
    assert limited.post("/tasks", json=wanted).status_code == 201


def test_a_hidden_column_cannot_be_filtered_on(limited: httpx2.Client) -> None:
    found = hidden(limited.post("/tasks", json=body(fields=["id"], segment=PHONE)))
    assert set(found) == {"/trigger/segment/rules/0/field_name"}
    found = hidden(limited.post("/tasks", json=body("transactions", ["id"], segment=ITEMS)))
    assert set(found) == {"/trigger/segment/rules/0/nesting_path"}


def test_hidden_column_cannot_be_filtered_on_by_a_stored_segment(
    limited: httpx2.Client, small_client: httpx2.Client
) -> None:
    wanted = {"chain": CHAIN, "name": "with a phone", "segment": PHONE}
    assert set(hidden(limited.post("/segments", json=wanted))) == {"/segment/rules/0/field_name"}
    stored = small_client.post("/segments", json=wanted).json()["id"]
    found = hidden(limited.post("/tasks", json=body(fields=["id"], segment_id=stored)))
    assert set(found) == {"/trigger/segment_id/rules/0/field_name"}
    # A violation of the body does not show first what the hidden segment has: an interval rule, or another index.
    rules = [{**PHONE["rules"][0]}, {"field_name": "created_date", "field_type": "date", "operator": "is_in_interval"}]
    changed = {**wanted, "segment": {**PHONE, "rules": rules}}
    assert small_client.put(f"/segments/{stored}", json=changed).is_success
    for index, more in (("users", {"incremental": True}), ("transactions", {})):
        asked = body(index, ["id"], segment_id=stored)
        asked["target"] |= more
        assert set(hidden(limited.post("/tasks", json=asked))) == {"/trigger/segment_id/rules/0/field_name"}
    assert set(hidden(limited.put(f"/segments/{stored}", json=wanted))) == {"/segment/rules/0/field_name"}


def test_a_hidden_column_is_in_no_preview(limited: httpx2.Client, small_client: httpx2.Client) -> None:
    everything = segment("id", field_type="number")
    shown = limited.post("/segments/preview", json={"segment": everything}).json()["sample"]
    assert shown
    assert not {"phone_number", "birthday"} & set(shown[0])
    assert {"phone_number", "birthday"} <= set(
        small_client.post("/segments/preview", json={"segment": everything}).json()["sample"][0]
    )
    named = {"segment": everything, "fields": ["phone_number"]}
    assert set(hidden(limited.post("/segments/preview", json=named))) == {"/fields/0"}
    assert set(hidden(limited.post("/segments/preview", json={"segment": PHONE}))) == {"/segment/rules/0/field_name"}


def test_an_index_beyond_the_scope_cannot_be_used(limited: httpx2.Client) -> None:
    assert set(hidden(limited.post("/tasks", json=body("products")))) == {"/target/export_index"}
    products = segment("id", "products", field_type="number")
    assert set(hidden(limited.post("/segments/preview", json={"segment": products}))) == {"/segment/index"}


def test_result_with_a_hidden_column_is_refused(limited: httpx2.Client, small_client: httpx2.Client) -> None:
    def done(**asked: Any) -> int:
        task: int = small_client.post("/tasks", json=body(once="2020-01-01T00:00:00Z", **asked)).json()["id"]
        ended(small_client, task)
        return task

    whole, part, products = done(), done(fields=["id"]), done(index="products")
    problem(limited.get(f"/tasks/{whole}/download_url"), "forbidden")
    problem(limited.get(f"/tasks/{whole}/runs/1/download_url"), "forbidden")
    problem(limited.get(f"/tasks/{products}/download_url"), "forbidden")
    assert limited.get(f"/tasks/{part}/download_url").status_code == 200


def test_change_of_a_task_is_checked_like_a_new_task(limited: httpx2.Client, small_client: httpx2.Client) -> None:
    mine = limited.post("/tasks", json=body(fields=["id"])).json()["id"]
    target = body(fields=["phone_number"])["target"]
    assert "/target/fields/0" in hidden(limited.patch(f"/tasks/{mine}", json={"target": target}))
    trigger = body(segment=PHONE)["trigger"]
    assert "/trigger/segment/rules/0/field_name" in hidden(limited.patch(f"/tasks/{mine}", json={"trigger": trigger}))
    # Removing the column from a task would open the results of its earlier runs.
    theirs = small_client.post("/tasks", json=body()).json()["id"]
    target = body(fields=["id"])["target"]
    assert "/target/fields" in hidden(limited.patch(f"/tasks/{theirs}", json={"target": target}))
    assert limited.patch(f"/tasks/{mine}", json={"desc": "mine"}).status_code == 200


DONE = "2020-01-01T00:00:00Z"


def result(client: httpx2.Client, wanted: dict[str, Any]) -> int:
    """The number of a task that is DONE."""
    task: int = client.post("/tasks", json=wanted).json()["id"]
    assert ended(client, task)["state"]["code"] == "DONE"
    return task


def test_hidden_column_is_refused_under_any_name_by_every_request(
    limited: httpx2.Client, small_client: httpx2.Client
) -> None:
    renamed = [{"name": "id", "as": "phone_number"}, {"name": "phone_number", "as": "id"}]
    assert set(hidden(limited.post("/tasks", json=body(fields=renamed)))) == {"/target/fields/1"}
    mine = limited.post("/tasks", json=body(fields=renamed[:1])).json()["id"]
    target = body(fields=renamed)["target"]
    assert set(hidden(limited.patch(f"/tasks/{mine}", json={"target": target}))) == {"/target/fields/1"}
    merged = {"Content-Type": "application/merge-patch+json"}
    answer = limited.patch(f"/tasks/{mine}", json={"target": {"fields": renamed}}, headers=merged)
    assert set(hidden(answer)) == {"/target/fields/1"}
    asked = {"segment": segment("id", field_type="number"), "fields": renamed}
    assert set(hidden(limited.post("/segments/preview", json=asked))) == {"/fields/1"}
    theirs = result(small_client, body(fields=renamed, once=DONE))
    for path in ("download_url", "runs/1/download_url", *OF_MANIFEST, "runs/1/files", "progress", "links"):
        problem(limited.get(f"/tasks/{theirs}/{path}"), "forbidden")
    for task in (limited.get(f"/tasks/{theirs}").json(), limited.get("/tasks").json()[0]):
        assert task["id"] == theirs
        assert not any("total" in entry for entry in task["logs"])
    assert limited.get(f"/tasks/{theirs}/runs").json() == []


@pytest.mark.parametrize("gone", ["users.mobile", "people.phone_number"], ids=["a column", "an index"])
def test_renamed_hidden_column_closes_the_index_in_every_request(
    service: Longshore, small_client: httpx2.Client, gone: str
) -> None:
    named = {"chain": CHAIN, "name": "x", "segment": segment("id", field_type="number")}
    stored = small_client.post("/segments", json=named).json()["id"]
    theirs = result(small_client, body(fields=["id"], once=DONE, segment_id=stored))
    with service.client(Level.WRITE, CHAIN, Scope(hidden_columns=[gone])) as closed:
        refused = [
            closed.post("/tasks", json=body(fields=["id"])),
            closed.post("/tasks", json=body(fields=["id"], segment_id=stored)),
            closed.patch(f"/tasks/{theirs}", json={"desc": "x"}),
            closed.post(f"/tasks/{theirs}/execute"),
            closed.post("/segments", json=named),
            closed.get(f"/segments/{stored}"),
            closed.post("/segments/preview", json={"segment": named["segment"], "fields": ["id"]}),
            *(closed.get(f"/tasks/{theirs}/{path}") for path in ("download_url", *OF_MANIFEST, "progress")),
        ]
        for answer in refused:
            problem(answer, "forbidden")
        assert "total" not in closed.get(f"/tasks/{theirs}").text
        assert closed.get(f"/tasks/{theirs}/runs").json() == []
        problem(closed.get("/indexes/users"), "index-not-found")
        assert "users" not in {index["name"] for index in closed.get("/indexes").json()}
        # The other indexes are open where it is known that none of their columns is meant.
        other = closed.post("/tasks", json=body("products", ["id"]))
        assert other.status_code == (201 if gone.startswith("users.") else 403)


def test_a_stored_trigger_that_cannot_be_decoded_is_hidden_and_breaks_no_list(idle_service: Longshore) -> None:
    with (
        idle_service.client() as client,
        idle_service.client(Level.READ, scope=Scope(indexes=["users"])) as limited,
    ):
        task = client.post("/tasks", json={**body("wallet-ledger"), "chain": 1764}).json()["id"]
        trigger = r'{"once": "2126-05-26T12:00:00Z", "x": "\ud800"}'
        idle_service.sql("update longshore.tasks set trigger = $2 where id = $1", task, trigger)
        answers = limited.get(f"/tasks/{task}"), limited.get("/tasks")
        idle_service.sql("delete from longshore.tasks where id = $1", task)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["trigger"] == {}
