"""Rights are judged on what a run recorded, not on what its task says today."""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.access.tokens import Level, Scope
from tests.answers import problem
from tests.service import Longshore, downloaded, ended

CHAIN = 1765
HIDDEN = ["users.phone_number", "wallet-ledger.amount"]
PAST, FUTURE = "2020-01-01T00:00:00Z", "2126-05-26T12:00:00Z"
AUDIT = {"action": "export", "export_index": "audit", "export_format": "csv"}
PRODUCTS = {"action": "export", "export_index": "products", "export_format": "csv"}
HTTP = {"action": "http", "url": "http://127.0.0.1:9/"}


class Clients(msgspec.Struct, frozen=True):
    """Clients of one chain: an admin, a writer and a reader without limits, and two of whom columns are hidden."""

    admin: httpx2.Client
    wide: httpx2.Client
    reader: httpx2.Client
    narrow: httpx2.Client
    narrow_reader: httpx2.Client


@pytest.fixture(scope="module")
def clients(service: Longshore) -> Iterator[Clients]:
    with ExitStack() as stack:

        def client(level: Level, scope: Scope | None = None) -> httpx2.Client:
            return stack.enter_context(service.client(level, CHAIN, scope))

        hidden = Scope(hidden_columns=HIDDEN)
        yield Clients(
            client(Level.ADMIN), client(Level.WRITE), client(Level.READ),
            client(Level.WRITE, hidden), client(Level.READ, hidden),
        )  # fmt: skip


def users(fields: list[Any] | None = None, **options: Any) -> dict[str, Any]:
    target: dict[str, Any] = {"action": "export", "export_index": "users", "export_format": "csv", **options}
    return target if fields is None else {**target, "fields": fields}


def body(target: dict[str, Any], once: str = PAST, **trigger: Any) -> dict[str, Any]:
    return {"chain": CHAIN, "desc": "", "target": target, "trigger": {"once": once, **trigger}}


def rule(field: str = "phone_number", kind: str = "keyword", operator: str = "is_not_empty", **more: Any) -> Any:
    return {"field_name": field, "field_type": kind, "operator": operator, **more}


def segment(*rules: Any, index: str = "users") -> dict[str, Any]:
    return {"entity": "people", "index": index, "join": "all", "chain_id": CHAIN, "rules": list(rules)}


def create_task(client: httpx2.Client, wanted: dict[str, Any]) -> int:
    answer = client.post("/tasks", json=wanted)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def done(client: httpx2.Client, wanted: dict[str, Any]) -> int:
    id = create_task(client, wanted)
    assert ended(client, id)["state"]["code"] == "DONE"
    return id


def stored(client: httpx2.Client, rules: Any) -> str:
    answer = client.post("/segments", json={"chain": CHAIN, "name": "x", "segment": rules})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


OF_RUN = (
    "/tasks/{0}/download_url",
    "/tasks/{0}/runs/1/download_url",
    "/tasks/{0}/runs/1/manifest",
    "/tasks/{0}/runs/1/manifest.jws",
    "/tasks/{0}/runs/1/files",
)


def test_run_is_judged_by_the_columns_that_it_read_after_a_change_of_its_task(clients: Clients) -> None:
    id = done(clients.wide, body(users()))
    assert clients.wide.patch(f"/tasks/{id}", json={"target": users(["id"])}).status_code == 200
    for path in OF_RUN:
        problem(clients.narrow.get(path.format(id)), "forbidden")
        assert clients.wide.get(path.format(id)).status_code == 200
    assert clients.narrow.get(f"/tasks/{id}/runs").json() == []
    assert [run["run"] for run in clients.wide.get(f"/tasks/{id}/runs").json()] == [1]
    # The next run is narrow, and is given to those who may see it.
    assert clients.wide.post(f"/tasks/{id}/execute").status_code == 200
    assert clients.narrow.get(f"/tasks/{id}/download_url").status_code == 200
    assert [run["run"] for run in clients.narrow.get(f"/tasks/{id}/runs").json()] == [2]
    problem(clients.narrow.get(f"/tasks/{id}/runs/1/download_url"), "forbidden")


def test_hidden_column_is_hidden_under_another_name(clients: Clients) -> None:
    id = done(clients.wide, body(users([{"name": "phone_number", "as": "id"}])))
    for path in OF_RUN:
        problem(clients.narrow.get(path.format(id)), "forbidden")


@pytest.mark.parametrize("target", [PRODUCTS, HTTP], ids=["another index", "another action"])
def test_a_run_is_judged_by_the_index_that_it_read_after_a_change_of_its_task(
    clients: Clients, target: dict[str, Any]
) -> None:
    id = done(clients.admin, body(AUDIT))
    changed = {"target": target} | ({"trigger": {"once": FUTURE}} if target is HTTP else {})
    assert clients.admin.patch(f"/tasks/{id}", json=changed).status_code == 200
    for path in OF_RUN:
        problem(clients.reader.get(path.format(id)), "forbidden")
    assert clients.reader.get(f"/tasks/{id}/runs").json() == []
    assert clients.admin.get(f"/tasks/{id}/runs/1/download_url").status_code == 200


def test_manifest_with_hidden_totals_is_refused(clients: Clients) -> None:
    one = segment(rule("currency_id", "number", "is", value=1), index="wallet-ledger")
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv"}
    id = done(clients.wide, body(target, segment=one))
    assert "totals" in clients.wide.get(f"/tasks/{id}/runs/1/manifest").json()
    problem(clients.narrow_reader.get(f"/tasks/{id}/runs/1/manifest"), "forbidden")


CHANGES = (
    ("POST", "/tasks/{0}/execute", None),
    ("PATCH", "/tasks/{0}", {"desc": "x"}),
    ("POST", "/tasks/{0}/cancel", None),
    ("POST", "/tasks/{0}/pause", None),
    ("POST", "/tasks/{0}/resume", {"catch_up": "one"}),
    ("POST", "/tasks/{0}/backfill", {"start": "2026-05-01T00:00:00Z", "end": "2026-05-02T00:00:00Z"}),
    ("GET", "/tasks/{0}/backfills", None),
    ("DELETE", "/tasks/{0}/backfills/1", None),
    ("GET", "/tasks/{0}/runs/latest", None),
    ("POST", "/tasks/{0}/runs/1/ack", None),
    ("POST", "/tasks/{0}/runs/1/deliver", None),
    ("GET", "/tasks/{0}/runs/1/deliveries", None),
    ("GET", "/tasks/{0}/links", None),
    ("DELETE", "/tasks/{0}/links/{1}", None),
    ("GET", "/tasks/{0}/progress", None),
    ("DELETE", "/tasks/{0}", None),
)


def test_task_that_reads_a_hidden_column_cannot_be_changed_by_the_token_it_is_hidden_from(clients: Clients) -> None:
    theirs = ((clients.admin, AUDIT, clients.wide), (clients.wide, users(), clients.narrow))
    for owner, target, other in theirs:
        id = done(owner, body(target))
        owner.get(f"/tasks/{id}/download_url")
        link = owner.get(f"/tasks/{id}/links").json()[0]["id"]
        for method, path, sent in CHANGES:
            problem(other.request(method, path.format(id, link), json=sent), "forbidden")
        # Nor after its target has become one that they may see: its runs have not.
        assert owner.patch(f"/tasks/{id}", json={"target": users(["id"])}).status_code == 200
        for method, path, sent in CHANGES:
            problem(other.request(method, path.format(id, link), json=sent), "forbidden")
        found = owner.get(f"/tasks/{id}/links").json()
        assert [each["active"] for each in found] == [True]


def test_acknowledgement_of_a_hidden_run_moves_no_watermark(clients: Clients) -> None:
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv", "incremental": "on_ack"}
    id = done(clients.wide, body(target))
    problem(clients.narrow.post(f"/tasks/{id}/runs/1/ack"), "forbidden")
    assert clients.wide.get(f"/tasks/{id}/runs").json()[0]["increment"]["acknowledged"] is False
    # A copy of an increment is what its first run was, whatever the task asks for meanwhile.
    narrower = {**target, "fields": ["id"]}
    assert clients.wide.patch(f"/tasks/{id}", json={"target": narrower}).status_code == 200
    assert clients.wide.post(f"/tasks/{id}/execute").status_code == 200
    assert b"amount" in downloaded(clients.wide, id)
    problem(clients.narrow.get(f"/tasks/{id}/download_url"), "forbidden")


def test_a_run_that_was_filtered_by_a_hidden_column_is_hidden(clients: Clients) -> None:
    id = done(clients.wide, body(users(["id"]), segment=segment(rule())))
    for path in OF_RUN:
        problem(clients.narrow.get(path.format(id)), "forbidden")
    assert clients.narrow.get(f"/tasks/{id}/runs").json() == []
    problem(clients.narrow.get(f"/tasks/{id}/progress"), "forbidden")


def test_task_shows_no_hidden_rules_counts_or_messages(clients: Clients) -> None:
    rows = downloaded(clients.wide, done(clients.wide, body(users(["phone_number"])))).decode().splitlines()
    number = next(line for line in rows[1:] if line)
    id = done(clients.wide, body(users(["id"]), segment=segment(rule(operator="is", value=number))))
    whole = clients.wide.get(f"/tasks/{id}").json()
    seen = clients.narrow.get(f"/tasks/{id}")
    listed = next(task for task in clients.narrow.get("/tasks").json() if task["id"] == id)
    for shown in (seen.json(), listed):
        assert list(shown) == list(whole)
        assert number not in str(shown)
        assert shown["trigger"] == {"once": PAST, "segment": None}
        assert shown["state"] == whole["state"]
        assert [entry["msg"] for entry in shown["logs"]] == ["READY -> INPROGRESS", "success", "INPROGRESS -> DONE"]
        assert not any("total" in entry for entry in shown["logs"])
    stream = clients.narrow.get(f"/tasks/{id}/events").text
    assert "INPROGRESS -> DONE" in stream
    assert "total" not in stream
    assert "event: progress" not in stream
    waited = clients.narrow.get(f"/tasks/{id}?wait=1", headers={"If-None-Match": '"x"'})
    assert number not in waited.text


def test_stored_segment_changed_to_a_hidden_column_ends_the_run_of_a_limited_token(clients: Clients) -> None:
    named = stored(clients.wide, segment(rule("id", "number")))
    id = done(clients.narrow, body(users(["id"]), segment_id=named))
    replaced = {"chain": CHAIN, "name": "x", "segment": segment(rule())}
    assert clients.wide.put(f"/segments/{named}", json=replaced).status_code == 200
    problem(clients.narrow.post(f"/tasks/{id}/execute"), "forbidden")
    # Another credential may ask for the run; the task is still that of the limited token.
    state = clients.wide.post(f"/tasks/{id}/execute").json()
    assert state["code"] == "ERROR"
    message = clients.wide.get(f"/tasks/{id}?log_limit=100").json()["logs"][-2]["msg"]
    assert "may not see" in message
    assert "phone_number" not in message
    # The run has read nothing, so the first one is what the task shows.
    assert [run["run"] for run in clients.narrow.get(f"/tasks/{id}/runs").json()] == [2, 1]
    # A credential that may see all of the task becomes its principal by changing it.
    assert clients.wide.patch(f"/tasks/{id}", json={"trigger": {"once": FUTURE, "segment_id": named}}).is_success
    assert clients.wide.post(f"/tasks/{id}/execute").json()["code"] == "DONE"
    problem(clients.narrow.get(f"/tasks/{id}/download_url"), "forbidden")


def test_an_idempotency_key_belongs_to_a_credential(clients: Clients) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    wanted = body(users(), FUTURE)
    first = clients.wide.post("/tasks", json=wanted, headers=key)
    assert first.status_code == 201
    problem(clients.narrow.post("/tasks", json=wanted, headers=key), "forbidden")
    other = clients.narrow.post("/tasks", json=body(users(["id"]), FUTURE), headers=key)
    assert other.status_code == 201
    again = clients.wide.post("/tasks", json=wanted, headers=key)
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first.json()["id"], "true")


def test_rights_are_checked_before_an_answer_is_replayed(service: Longshore) -> None:
    with service.client(Level.WRITE, CHAIN) as client:
        token = client.headers["authorization"].removeprefix("Bearer ").split(":")[0]
        key = {"Idempotency-Key": "k"}
        assert client.post("/tasks", json=body(users(), FUTURE), headers=key).status_code == 201
        service.sql("update longshore.access_tokens set hidden_columns = $2 where id = $1", uuid.UUID(token), HIDDEN)
        deadline = time.monotonic() + 20  # the limits of a token are cached for a second
        while (answer := client.post("/tasks", json=body(users(), FUTURE), headers=key)).status_code == 201:
            assert time.monotonic() < deadline
        problem(answer, "forbidden")


def test_suggestions_for_a_misspelled_column_name_no_hidden_one(clients: Clients) -> None:
    typos = (
        ("/tasks", body(users(["phone_numbr"]), FUTURE)),
        ("/tasks", body(users(["id"]), FUTURE, segment=segment(rule("phone_numbr")))),
        ("/tasks", body(users(), FUTURE)),
        ("/segments", {"chain": CHAIN, "name": "x", "segment": segment(rule("phone_numbr"))}),
        ("/segments/preview", {"segment": segment(rule("phone_numbr"))}),
        ("/segments/preview", {"segment": segment(), "fields": ["phone_numbr"]}),
    )
    for path, sent in typos:
        answer = clients.narrow.post(path, json=sent)
        assert answer.status_code in (400, 403), answer.text
        assert "phone_number" not in answer.text
        if path != "/tasks" or "phone_numbr" in str(sent):
            assert "phone_number" in clients.wide.post(path, json=sent).text


def test_message_about_a_changed_schema_names_no_hidden_column(clients: Clients) -> None:
    schema = clients.wide.get("/indexes/users").json()["schema"]
    create_task(clients.wide, body(users(schema=schema), FUTURE))
    answer = clients.narrow.post("/tasks", json=body(users(["id"], schema=schema), FUTURE))
    assert answer.status_code == 400
    assert "phone_number" not in answer.text
    assert "phone_number" in clients.wide.post("/tasks", json=body(users(["id"], schema=schema), FUTURE)).text


def test_a_column_name_that_a_spreadsheet_would_run_is_escaped(clients: Clients) -> None:
    fields = ["id", {"name": "username", "as": "=1+1"}, {"name": "first_name", "as": '@"x"'}]
    id = done(clients.wide, body(users(fields, csv={"escape_formulas": True})))
    header = downloaded(clients.wide, id).splitlines()[0]
    assert header == b'id,\'=1+1,"\'@""x"""'
    plain = done(clients.wide, body(users(fields)))
    # The control totals are read back from the file by the manifest's names.
    renamed = ["currency_symbol", {"name": "amount", "as": "=amount"}]
    ledger = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv", "fields": renamed}
    done(clients.wide, body({**ledger, "csv": {"escape_formulas": True}}))
    assert downloaded(clients.wide, plain).splitlines()[0] == b'id,=1+1,"@""x"""'


def test_stored_segment_with_a_hidden_column_cannot_be_created_read_or_changed(
    service: Longshore, clients: Clients
) -> None:
    wanted = {"chain": CHAIN, "name": "x", "segment": segment(rule("id", "number", "is", value=77), index="products")}
    hidden = {"chain": CHAIN, "name": "x", "segment": segment(rule(operator="is", value="77"))}
    audit = {"chain": CHAIN, "name": "x", "segment": segment(rule("actor"), index="audit")}
    with service.client(Level.WRITE, CHAIN, Scope(indexes=["users"], hidden_columns=HIDDEN[:1])) as limited:
        for owner, sent, other in (
            (clients.wide, wanted, limited),
            (clients.wide, hidden, limited),
            (clients.admin, audit, clients.wide),
        ):
            problem(other.post("/segments", json=sent), "forbidden")
            id = stored(owner, sent["segment"])
            problem(other.get(f"/segments/{id}"), "forbidden")
            problem(other.put(f"/segments/{id}", json=sent), "forbidden")
            problem(other.delete(f"/segments/{id}"), "forbidden")
            listed = next(each for each in other.get("/segments?limit=100").json() if each["id"] == id)
            assert listed["segment"] is None
            assert owner.get(f"/segments/{id}").json()["segment"] == sent["segment"]


def maker(client: httpx2.Client) -> str:
    return "token " + client.headers["authorization"].removeprefix("Bearer ").split(":")[0]


def test_tasks_webhooks_segments_and_links_name_their_makers(clients: Clients) -> None:
    id = done(clients.wide, body(users(["id"])))
    assert clients.wide.patch(f"/tasks/{id}", json={"desc": "x"}).status_code == 200
    seen = clients.reader.get(f"/tasks/{id}")
    assert seen.headers["x-created-by"] == maker(clients.wide)
    assert "created_by" not in seen.json()
    assert clients.reader.get(f"/tasks/{id}/download_url").status_code == 200
    assert clients.wide.get(f"/tasks/{id}/links").json()[0]["created_by"] == maker(clients.reader)
    segment_id = stored(clients.wide, segment(rule("id", "number")))
    assert clients.reader.get(f"/segments/{segment_id}").json()["created_by"] == maker(clients.wide)
    hook = clients.wide.post("/webhooks", json={"chain": CHAIN, "url": "http://a.example/"}).json()
    assert hook["created_by"] == maker(clients.wide)
    listed = clients.wide.get("/webhooks").json()
    assert {each["id"]: each["created_by"] for each in listed}[hook["id"]] == maker(clients.wide)
    assert clients.wide.delete(f"/webhooks/{hook['id']}").status_code == 204


def test_revoking_a_token_lists_and_can_stop_what_goes_on(clients: Clients, service: Longshore) -> None:
    owner = clients.admin.post("/service_clients", json={"name": f"x {uuid.uuid4()}"}).json()["id"]
    token = clients.admin.post("/access_tokens", json={"client_id": owner, "level": "write"}).json()
    headers = {"Authorization": f"Bearer {token['id']}:{token['secret']}"}
    with httpx2.Client(base_url=service.address, headers=headers) as client:
        once = done(client, body(users(["id"])))
        nightly = create_task(client, body(users(["id"]), FUTURE, repeat="daily"))
        call = create_task(client, body(HTTP, FUTURE))
        hook = client.post("/webhooks", json={"chain": CHAIN, "url": "http://a.example/"}).json()["id"]
    path = f"/access_tokens/{token['id']}"
    problem(clients.admin.delete(f"{path}?stop=maybe"), "bad-request")
    listed = clients.admin.delete(path).json()
    assert [task["id"] for task in listed["tasks"]] == [nightly, call]
    assert [task["action"] for task in listed["tasks"]] == ["export", "http"]
    assert ([webhook["id"] for webhook in listed["webhooks"]], listed["stopped"]) == ([hook], False)
    assert clients.wide.get(f"/tasks/{nightly}/progress").json()["next"]["step"] == "start"
    # So says turning its client off, which stops it too.
    client_path = f"/service_clients/{owner}"
    problem(clients.admin.patch(f"{client_path}?stop=true", json={"enabled": True}), "bad-request")
    off = clients.admin.patch(f"{client_path}?stop=true", json={"enabled": False}).json()["ongoing"]
    assert off == {**listed, "stopped": True}
    for task in (nightly, call):
        assert clients.wide.get(f"/tasks/{task}").json()["state"]["code"] == "ERROR"
        entries = clients.admin.get("/audit", params={"object": f"task {task}", "action": "task.cancel"}).json()
        assert [entry["actor"] for entry in entries] == [maker(clients.admin)]
    assert hook not in clients.wide.get("/webhooks").text
    assert clients.wide.get(f"/tasks/{once}").json()["state"]["code"] == "DONE"
    nothing = {"tasks": [], "webhooks": [], "stopped": True}
    assert clients.admin.delete(f"{path}?stop=true").json() == nothing


def test_token_is_revoked_and_the_rest_stopped_where_one_of_its_tasks_cannot_be_cancelled(
    clients: Clients, service: Longshore
) -> None:
    with service.client(Level.WRITE, CHAIN) as client:
        stuck, other = (create_task(client, body(users(["id"]), FUTURE)) for _ in range(2))
        token = maker(client).removeprefix("token ")
        service.sql(
            "create function longshore.refuse() returns trigger language plpgsql as"
            " $$ begin raise exception 'stuck'; end $$"
        )
        service.sql(
            f"create trigger refuse before update on longshore.tasks for each row when (old.id = {stuck})"
            " execute function longshore.refuse()"
        )
        try:
            answer = clients.admin.delete(f"/access_tokens/{token}?stop=true").json()
        finally:
            service.sql("drop function longshore.refuse() cascade")
        assert ([task["id"] for task in answer["tasks"]], answer["stopped"]) == ([stuck], False)
        assert clients.admin.get(f"/access_tokens/{token}").json()["revoked"]
        assert clients.wide.get(f"/tasks/{other}").json()["state"]["code"] == "ERROR"
    answer = clients.admin.delete(f"/access_tokens/{token}?stop=true").json()
    assert ([task["id"] for task in answer["tasks"]], answer["stopped"]) == ([stuck], True)


def test_ongoing_tasks_of_a_revoked_token_are_listed_only_for_the_chain_that_asks(service: Longshore) -> None:
    with (
        service.client(Level.WRITE, CHAIN, Scope(more_chains=[9])) as shared,
        service.client(Level.ADMIN, CHAIN) as admin,
    ):
        shared.headers["X-Session-Chain-Id"] = "9"
        elsewhere = {**body(users(["id"]), FUTURE), "chain": 9}
        assert shared.post("/tasks", json=elsewhere).status_code == 201
        ongoing = admin.delete(f"/access_tokens/{maker(shared).removeprefix('token ')}?stop=true").json()
        assert ongoing["tasks"] == []
