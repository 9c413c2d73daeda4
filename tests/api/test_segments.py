"""Stored segments and previews, over HTTP."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level, Scope
from tests.access.users import new_user
from tests.service import CHAIN, Longshore, downloaded, ended, export_body, exported

MISSING = "00000000-0000-4000-8000-000000000000"


def rule(name: str = "kind", operator: str = "is", kind: str = "keyword", **more: Any) -> dict[str, Any]:
    return {"field_name": name, "field_type": kind, "operator": operator, **more}


def segment_of(*rules: dict[str, Any], index: str = "wallet-ledger", chain: int = CHAIN) -> dict[str, Any]:
    return {"entity": "people", "index": index, "join": "all", "chain_id": chain, "rules": list(rules)}


MANUAL = segment_of(rule(value="manual"))


def body_of(segment: dict[str, Any] = MANUAL, name: str = "by hand", chain: int = CHAIN) -> dict[str, Any]:
    return {"chain": chain, "name": name, "segment": segment}


@pytest.fixture(scope="module")
def client(service: Longshore) -> httpx2.Client:
    return service.client()


@pytest.fixture(scope="module")
def other(service: Longshore) -> httpx2.Client:
    return service.client(chain=1765)


def stored(client: httpx2.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/segments", json=body_of(**body))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/segments/{found['id']}"
    return found


def problem(answer: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    found: dict[str, Any] = answer.json()
    assert found["type"] == f"/problems/{kind}"
    return found


def pointers(answer: httpx2.Response) -> list[str]:
    return [violation.get("pointer") for violation in problem(answer, 400, "bad-request")["errors"]]


def test_a_segment_is_stored_read_replaced_and_deleted(client: httpx2.Client) -> None:
    given = segment_of(
        rule("timestamp", "is_after_date", "date", start_date="2026-05-15T02:00:00+02:00"),
        rule("amount", "is_greater_than", "number", value=0.1),
    )
    made = stored(client, segment=given)
    assert list(made) == ["id", "chain", "name", "segment", "created", "modified", "created_by"]
    assert made["chain"] == CHAIN
    assert made["name"] == "by hand"
    assert made["segment"]["rules"][0]["start_date"] == "2026-05-15T00:00:00Z"
    assert made["segment"]["rules"][1]["value"] == 0.1
    path = f"/segments/{made['id']}"
    assert client.get(path).json() == made

    replaced = client.put(path, json=body_of(name="renamed"))
    assert replaced.status_code == 200, replaced.text
    assert replaced.json() | {"modified": ""} == made | {"name": "renamed", "segment": MANUAL, "modified": ""}
    assert client.get(path).json() == replaced.json()

    gone = client.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    for answer in (client.get(path), client.delete(path), client.put(path, json=body_of())):
        problem(answer, 404, "segment-not-found")


def test_segments_are_listed_newest_first_in_pages(service: Longshore) -> None:
    with service.client(chain=77) as client:
        assert client.get("/segments").json() == []
        segment = segment_of(chain=77)
        made = [stored(client, segment=segment, name=str(n), chain=77)["id"] for n in range(5)]
        first = client.get("/segments", params={"limit": 2})
        assert first.headers["link"] == '</segments?limit=2&offset=2>; rel="next"'
        rest = client.get("/segments", params={"limit": 3, "offset": 2})
        assert "link" not in rest.headers
        assert [one["id"] for one in first.json() + rest.json()] == made[::-1]
        assert pointers(client.get("/segments", params={"limit": 0, "page": 1})) == [None, None]


def test_chain_has_a_thousand_stored_segments_at_most_also_of_concurrent_requests(service: Longshore) -> None:
    service.sql(
        "insert into longshore.segments (chain_id, name, index, segment)"
        " select 78, n, 'wallet-ledger', '{}' from generate_series(1, 998) n"
    )
    body = body_of(segment_of(chain=78), chain=78)
    with service.client(chain=78) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/segments", json=body), range(8)))
        assert [answer.status_code for answer in answers].count(201) == 2
        assert problem(client.post("/segments", json=body), 409, "too-many-segments")["detail"].startswith("Chain 78 ")
        assert client.delete(next(answer for answer in answers if answer.is_success).headers["location"]).is_success
        assert client.post("/segments", json=body).status_code == 201
    with service.client(chain=79) as other_chain:
        assert other_chain.post("/segments", json=body_of(segment_of(chain=79), chain=79)).status_code == 201


def test_another_chains_segment_looks_like_a_missing_one(client: httpx2.Client, other: httpx2.Client) -> None:
    id = stored(client)["id"]
    body = body_of(segment_of(chain=1765), chain=1765)
    calls: list[Callable[[str], httpx2.Response]] = [
        lambda id: other.get(f"/segments/{id}"),
        lambda id: other.delete(f"/segments/{id}"),
        lambda id: other.put(f"/segments/{id}", json=body),
    ]
    for call in calls:
        answers = [problem(call(one), 404, "segment-not-found") for one in (id, MISSING, "no-id", id.replace("-", ""))]
        for answer in answers:
            del answer["request_id"]
        assert all(answer == answers[0] for answer in answers)
    assert id not in [one["id"] for one in other.get("/segments").json()]
    task = export_body(chain=1765, segment_id=id)
    missing = export_body(chain=1765, segment_id=MISSING)
    violations = [problem(other.post("/tasks", json=one), 400, "bad-request")["errors"] for one in (task, missing)]
    assert violations[0] == violations[1]
    assert client.get(f"/segments/{id}").status_code == 200


def test_too_low_levels_and_other_chains_are_refused(service: Longshore, client: httpx2.Client) -> None:
    id = stored(client)["id"]
    with service.client(Level.READ) as reader:
        assert reader.get("/segments").status_code == 200
        assert reader.get(f"/segments/{id}").status_code == 200
        assert reader.post("/segments/preview", json={"segment": MANUAL}).status_code == 200
        for answer in (
            reader.post("/segments", json=body_of()),
            reader.put(f"/segments/{id}", json=body_of()),
            reader.delete(f"/segments/{id}"),
        ):
            problem(answer, 403, "forbidden")
    foreign = segment_of(chain=1765)
    problem(client.post("/segments", json=body_of(foreign, chain=1765)), 403, "forbidden")
    problem(client.put(f"/segments/{id}", json=body_of(foreign, chain=1765)), 403, "forbidden")
    problem(client.post("/segments/preview", json={"segment": foreign}), 403, "forbidden")
    for path in ("/segments", f"/segments/{id}", "/indexes"):
        problem(httpx2.get(f"{service.address}{path}"), 401, "unauthorized")


def test_all_violations_of_a_segment_are_named_at_once(client: httpx2.Client) -> None:
    wrong = {
        "chain": CHAIN,
        "name": "",
        "nmae": "x",
        "segment": segment_of(rule("knd"), rule("amount", "is", "number", value="x"), chain=9),
    }
    expected = ["/nmae", "/name", "/segment/rules/0/field_name", "/segment/rules/0/value", "/segment/rules/1/value"]
    assert pointers(client.post("/segments", json=wrong)) == [*expected, "/segment/chain_id"]
    assert pointers(client.post("/segments", json=[])) == [""]
    assert pointers(client.post("/segments", json={})) == ["/chain", "/name", "/segment"]
    assert pointers(client.post("/segments", json=body_of(segment_of(index="wallet")))) == ["/segment/index"]
    assert pointers(client.post("/segments/preview", json={"segment": MANUAL, "fields": ["id", "ix"]})) == ["/fields/1"]
    assert pointers(client.post("/segments/preview", json={"segment": MANUAL, "fields": []})) == ["/fields"]
    assert pointers(client.post("/segments/preview", json={"limit": 3})) == ["/limit", "/segment"]
    json = {"Content-Type": "application/json"}
    assert pointers(client.post("/segments", content=b"{", headers=json)) == [""]
    problem(client.post("/segments", content=b"{}", headers={"Content-Type": "text/plain"}), 415, "not-json")


def test_a_stored_segment_keeps_its_index(client: httpx2.Client) -> None:
    id = stored(client)["id"]
    answer = client.put(f"/segments/{id}", json=body_of(segment_of(index="users")))
    assert pointers(answer) == ["/segment/index"]
    assert '"wallet-ledger"' in answer.json()["errors"][0]["detail"]


def test_an_export_takes_the_rows_of_the_stored_segment_that_it_names(client: httpx2.Client) -> None:
    id = stored(client)["id"]
    by_id, content = exported(client, export_body(segment_id=id.upper()))
    assert by_id["trigger"] == {"once": "2026-05-26T12:00:00Z", "segment_id": id}
    manifest = client.get(f"/tasks/{by_id['id']}/runs/1/manifest").json()
    assert manifest["segment"]["rules"][0]["value"] == "manual"
    _, given = exported(client, export_body(segment=MANUAL))
    assert content == given
    assert 100 < content.count(b"\r\n") < 2000


def test_an_edit_changes_the_next_run(client: httpx2.Client) -> None:
    id = stored(client)["id"]
    task, before = exported(client, export_body(segment_id=id))
    client.put(f"/segments/{id}", json=body_of(segment_of(rule(value="expiry"))))
    assert downloaded(client, task["id"]) == before
    assert client.post(f"/tasks/{task['id']}/execute").json()["code"] == "DONE"
    after = downloaded(client, task["id"])
    assert b",manual," not in after
    assert after.count(b",expiry,") == after.count(b"\r\n") - 1 > 10


def test_a_run_whose_stored_segment_was_deleted_is_an_error_that_says_so(client: httpx2.Client) -> None:
    id = stored(client)["id"]
    created = client.post("/tasks", json=export_body(segment_id=id, once="2199-01-01T00:00:00Z")).json()
    assert client.delete(f"/segments/{id}").status_code == 204
    assert client.post(f"/tasks/{created['id']}/execute").json()["code"] == "ERROR"
    task = ended(client, created["id"])
    messages = [entry["msg"] for entry in task["logs"]]
    gone = f"failed: the stored segment {id} does not exist any more"
    assert messages[0].startswith("run requested by token ")
    assert messages[1:] == ["READY -> INPROGRESS", gone, "INPROGRESS -> ERROR"]


LATER_VERSION = json.dumps({**MANUAL, "sample": 5})
DAMAGED = json.dumps(segment_of(rule(value="\ud800")))  # half a surrogate pair


@pytest.mark.parametrize("unreadable", [LATER_VERSION, DAMAGED, "[]"])
def test_a_stored_segment_that_this_version_cannot_read_breaks_no_list_and_fails_what_names_it(
    service: Longshore, client: httpx2.Client, unreadable: str
) -> None:
    id = stored(client, name="unreadable")["id"]
    body = export_body(once="2126-05-26T12:00:00Z", segment_id=id)
    task = client.post("/tasks", json=body).json()["id"]
    service.sql("update longshore.segments set segment = $2 where id = $1", id, unreadable)
    user = new_user(service, _1764=Level.ADMIN)
    with (
        service.client(Level.ADMIN) as admin,
        service.client(scope=Scope(hidden_columns=["users.email"])) as limited,
        user.client() as person,
    ):
        assert admin.get(f"/segments/{id}").status_code == 200
        assert {each["id"]: each["segment"] for each in limited.get("/segments").json()}[id] is None
        problem(limited.get(f"/segments/{id}"), 403, "forbidden")
        for path in ("segments", f"new?segment={id}", f"new?from={task}", f"tasks/{task}"):
            assert person.get(f"/console/{CHAIN}/{path}").status_code == 200, path
        assert pointers(admin.post("/tasks", json=body)) == ["/trigger/segment_id"]
        assert pointers(admin.patch(f"/tasks/{task}", json={"desc": "x"})) == ["/trigger/segment_id"]
        admin.post(f"/tasks/{task}/execute")
        ran = ended(admin, task)
        assert "this version cannot read the rules of the stored segment" in ran["logs"][-2]["msg"]
        assert admin.put(f"/segments/{id}", json=body_of(name="readable")).status_code == 200
        assert admin.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
        service.sql("update longshore.segments set segment = $2 where id = $1", id, unreadable)
        assert admin.delete(f"/segments/{id}").status_code == 204


def test_a_tasks_segment_id_is_checked(client: httpx2.Client) -> None:
    id = stored(client)["id"]
    at = ["/trigger/segment_id"]
    assert pointers(client.post("/tasks", json=export_body(segment_id=id, segment=MANUAL))) == at
    assert pointers(client.post("/tasks", json=export_body(segment_id=MISSING))) == at
    assert pointers(client.post("/tasks", json=export_body(segment_id="' or true --"))) == at
    assert pointers(client.post("/tasks", json=export_body(segment_id=7))) == at
    body = export_body(segment_id=id)
    body["target"]["export_index"] = "users"
    assert pointers(client.post("/tasks", json=body)) == at
    del body["desc"]
    assert pointers(client.post("/tasks", json=body)) == ["/desc", *at]


def test_every_attempt_of_a_run_takes_the_segment_as_it_was_when_the_run_began(
    new_service: Callable[..., Longshore],
) -> None:
    longshore = new_service(rows=1000)
    longshore.start_api()
    with longshore.client() as client:
        id = stored(client)["id"]
        created = client.post("/tasks", json=export_body(segment_id=id)).json()["id"]
        # A first attempt that began, settled its segment, and was lost with its worker.
        longshore.sql(
            "update longshore.tasks set state = 'INPROGRESS', run = 1, attempt_began_at = now() - interval '1 h'"
        )
        longshore.sql(
            "insert into longshore.runs (task_id, run, first_attempt, attempt, began_at, attempt_began_at, progress_at,"
            " segment) select $1, 1, 1, 1, now(), now(), now(), segment from longshore.segments",
            created,
        )
        longshore.sql("update longshore.tasks set last_run_at = now()")
        client.put(f"/segments/{id}", json=body_of(segment_of(rule(value="nothing"))))
        longshore.start("worker", heartbeat_timeout="1")
        task = ended(client, created)
        assert task["state"]["code"] == "DONE", task
        assert b",manual," in downloaded(client, created)
