"""The matrix: every endpoint, asked with every kind of credential, answers exactly what the table of levels says."""

import asyncio
import functools
import re
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import msgspec
import pytest
from litestar import Litestar
from litestar.routes import ASGIRoute, HTTPRoute

from longshore import web
from longshore.access import clients, tokens
from longshore.access.audit import Actor
from longshore.access.tokens import Level, Scope
from longshore.api.problem_kinds import KINDS
from longshore.api.routes import ENDPOINTS, NEEDED, Check, NoLevel
from longshore.database.migrate import connected_if_current
from longshore.settings import Settings
from tests.access.users import headers_of, new_user
from tests.service import CHAIN, Longshore, ended, export_body

OTHER = 1765
FUTURE = "2126-05-26T12:00:00Z"
BACKFILL = {"start": "2026-05-01T12:00:00Z", "end": "2026-05-02T12:00:00Z"}
SEGMENT = {"entity": "people", "index": "users", "join": "all", "chain_id": CHAIN, "rules": []}

Ids = dict[str, Any]


class Site(msgspec.Struct, frozen=True):
    """Where things are made, and by whom."""

    service: Longshore
    client: httpx2.Client


class Cell(msgspec.Struct, frozen=True):
    """How an endpoint is asked, and what it answers to whom."""

    right: int
    """The status for a credential of the chain with the level that is needed."""
    other: int
    """The status for one of another chain, of whatever level."""
    make: Callable[[Site], Ids] = lambda _: {}
    """Makes what the path names."""
    body: Callable[[Ids], Any] = lambda _: None
    kind: str = ""
    """`token` or `session` where it is for these alone; the other kind is refused with 403."""

    def answer(self, status: int, credential: str) -> int:
        """The status for a credential that is of the kind which the endpoint is for, else 403."""
        return status if self.kind in credential else 403


def waiting_task(site: Site) -> Ids:
    return {"id": site.client.post("/tasks", json=export_body(once=FUTURE)).json()["id"]}


def scheduled_task(site: Site) -> Ids:
    return {"id": site.client.post("/tasks", json=export_body(once=FUTURE, repeat="daily")).json()["id"]}


def backfilled_task(site: Site) -> Ids:
    ids = scheduled_task(site)
    return {**ids, "backfill": site.client.post(f"/tasks/{ids['id']}/backfill", json=BACKFILL).json()["id"]}


def done_task(site: Site) -> Ids:
    """One for all, as only its being there matters."""
    found = site.client.get("/tasks", params={"status": "DONE", "limit": 1}).json()
    if found and site.client.get(f"/tasks/{found[0]['id']}/download_url").status_code == 200:
        return {"id": found[0]["id"], "run": 1}
    id = site.client.post("/tasks", json=export_body()).json()["id"]
    ended(site.client, id)
    return {"id": id, "run": 1}


def link(site: Site) -> Ids:
    ids = done_task(site)
    site.client.get(f"/tasks/{ids['id']}/download_url")
    return {**ids, "link": site.client.get(f"/tasks/{ids['id']}/links").json()[0]["id"]}


def segment(site: Site) -> Ids:
    return {"id": site.client.post("/segments", json={"chain": CHAIN, "name": "x", "segment": SEGMENT}).json()["id"]}


def webhook(site: Site) -> Ids:
    insert = """
    with made as (
        insert into longshore.webhooks (id, chain_id, url, events, secret)
        values ($2, $1, 'http://127.0.0.1:9/', '{}', $3) returning id
    )
    insert into longshore.webhook_deliveries (webhook_id, task_id, event, revision, payload, state, due_at)
    select id, 1, 'task.done', 1, '{}', 'failed', null from made returning webhook_id, id
    """
    id = uuid.uuid4()
    sealed = site.service.vault.seal(CHAIN, f"webhook {id}", b"secret")
    row = site.service.sql(insert, CHAIN, id, sealed)[0]
    return {"id": str(row[0]), "delivery": str(row[1])}


DESTINATION = {"kind": "memory", "settings": {"shelf": "top"}, "secret": {"password": "x"}}


def destination(site: Site) -> Ids:
    with site.service.client(Level.ADMIN) as admin:
        made = admin.post("/destinations", json={"name": f"x{uuid.uuid4().hex}", **DESTINATION})
        return {"id": made.json()["id"], "name": made.json()["name"]}


def used_destination(site: Site) -> Ids:
    """A destination that a task with a run to come names."""
    ids = destination(site)
    task = export_body(once=FUTURE)
    task["target"]["deliver"] = [{"destination": ids["name"]}]
    assert site.client.post("/tasks", json=task).status_code == 201
    return ids


def new_destination(_: Ids) -> Any:
    return {"name": f"x{uuid.uuid4().hex}", **DESTINATION}


def user(site: Site) -> Ids:
    return {"id": new_user(site.service, _1764=Level.READ).id}


def owner(site: Site) -> Ids:
    return {"id": site.client.post("/service_clients", json={"name": f"x {uuid.uuid4()}"}).json()["id"]}


def token(site: Site) -> Ids:
    made = site.client.post("/access_tokens", json={"client_id": owner(site)["id"], "level": "read"})
    return {"id": made.json()["id"]}


@functools.cache
def table(site: Site, fields: tuple[str, ...] = ("id",)) -> Ids:
    """A table of the chain, and a link to it. One for all, as only its being there matters."""
    name = f"x{uuid.uuid4().hex}"
    body: dict[str, Any] = export_body("parquet")
    body["target"] |= {"share_as": name, "fields": list(fields)}
    id = site.client.post("/tasks", json=body).json()["id"]
    assert ended(site.client, id)["state"]["code"] == "DONE"
    return {"share": CHAIN, "schema": "exports", "table": name}


def stored(_: Ids) -> Any:
    return {"chain": CHAIN, "name": "x", "segment": SEGMENT}


CELLS = {
    ("GET", "/tasks"): Cell(200, 200),
    ("POST", "/tasks"): Cell(201, 403, body=lambda _: export_body(once=FUTURE)),
    ("POST", "/tasks/preview"): Cell(200, 200, body=lambda _: {"trigger": {"once": FUTURE}}),
    ("GET", "/tasks/{id}"): Cell(200, 404, done_task),
    ("PATCH", "/tasks/{id}"): Cell(200, 404, waiting_task, lambda _: {"desc": "x"}),
    ("DELETE", "/tasks/{id}"): Cell(204, 404, waiting_task),
    ("POST", "/tasks/{id}/execute"): Cell(202, 404, waiting_task),
    ("POST", "/tasks/{id}/cancel"): Cell(200, 404, waiting_task),
    ("POST", "/tasks/{id}/pause"): Cell(200, 404, scheduled_task),
    ("POST", "/tasks/{id}/resume"): Cell(200, 404, scheduled_task, lambda _: {"catch_up": "none"}),
    ("POST", "/tasks/{id}/backfill"): Cell(202, 404, scheduled_task, lambda _: BACKFILL),
    ("GET", "/tasks/{id}/backfills"): Cell(200, 404, scheduled_task),
    ("DELETE", "/tasks/{id}/backfills/{backfill}"): Cell(204, 404, backfilled_task),
    ("GET", "/tasks/{id}/progress"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/events"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/runs"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/runs/{run}"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/runs/{run}/manifest"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/runs/{run}/manifest.jws"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/runs/{run}/files"): Cell(200, 404, done_task),
    ("POST", "/tasks/{id}/runs/{run}/ack"): Cell(409, 404, done_task),  # it is no increment
    ("POST", "/tasks/{id}/runs/{run}/deliver"): Cell(409, 404, done_task),  # its target names no destination
    ("GET", "/tasks/{id}/runs/{run}/deliveries"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/download_url"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/runs/{run}/download_url"): Cell(200, 404, done_task),
    ("GET", "/tasks/{id}/links"): Cell(200, 404, done_task),
    ("DELETE", "/tasks/{id}/links/{link}"): Cell(204, 404, link),
    ("GET", "/credential"): Cell(200, 200),
    ("GET", "/indexes"): Cell(200, 200),
    ("GET", "/indexes/{name}"): Cell(200, 200, lambda _: {"name": "users"}),
    ("GET", "/segments"): Cell(200, 200),
    ("POST", "/segments"): Cell(201, 403, body=stored),
    ("POST", "/segments/preview"): Cell(200, 403, body=lambda _: {"segment": SEGMENT}),
    ("GET", "/segments/{id}"): Cell(200, 404, segment),
    ("PUT", "/segments/{id}"): Cell(200, 403, segment, stored),
    ("DELETE", "/segments/{id}"): Cell(204, 404, segment),
    ("GET", "/destinations"): Cell(200, 200),
    ("POST", "/destinations"): Cell(201, 201, body=new_destination),
    ("POST", "/destinations/test"): Cell(200, 200, body=new_destination),
    ("GET", "/destinations/{id}"): Cell(200, 404, destination),
    ("PATCH", "/destinations/{id}"): Cell(200, 404, destination, lambda _: {"secret": {"password": "y"}}),
    ("DELETE", "/destinations/{id}"): Cell(204, 404, destination),
    ("POST", "/destinations/{id}/test"): Cell(200, 404, destination),
    ("GET", "/destination_kinds"): Cell(200, 200),
    ("GET", "/webhooks"): Cell(200, 200),
    ("POST", "/webhooks"): Cell(400, 400, body=lambda _: {"url": "x", "events": []}),  # no webhook is made
    ("DELETE", "/webhooks/{id}"): Cell(204, 404, webhook),
    ("POST", "/webhooks/{id}/secret"): Cell(200, 404, webhook),
    ("POST", "/webhooks/{id}/enable"): Cell(200, 404, webhook),
    ("GET", "/webhooks/{id}/deliveries"): Cell(200, 404, webhook),
    ("POST", "/webhooks/{id}/deliveries/{delivery}/redeliver"): Cell(202, 404, webhook),
    ("GET", "/users"): Cell(200, 200),
    ("POST", "/users"): Cell(
        201, 201, body=lambda _: {"username": f"x {uuid.uuid4()}", "password": "x" * 20, "level": "read"}
    ),
    ("PATCH", "/users/{id}"): Cell(200, 404, user, lambda _: {"level": "read"}),
    ("DELETE", "/users/{id}"): Cell(200, 404, user),
    ("GET", "/service_clients"): Cell(200, 200),
    ("POST", "/service_clients"): Cell(201, 201, body=lambda _: {"name": f"x {uuid.uuid4()}"}),
    ("GET", "/service_clients/{id}"): Cell(200, 404, owner),
    ("PATCH", "/service_clients/{id}"): Cell(200, 404, owner, lambda _: {"contact": "x"}),
    ("GET", "/access_tokens"): Cell(200, 200),
    ("POST", "/access_tokens"): Cell(201, 404, owner, lambda ids: {"client_id": ids["id"], "level": "read"}),
    ("GET", "/access_tokens/{id}"): Cell(200, 404, token),
    ("DELETE", "/access_tokens/{id}"): Cell(200, 404, token),
    ("GET", "/audit"): Cell(200, 200),
    ("GET", "/delta-sharing/profile"): Cell(200, 200, kind="token"),
    ("POST", "/delta-sharing/profile"): Cell(201, 201, kind="session"),
    ("GET", "/delta-sharing/profiles"): Cell(200, 200, kind="session"),
    ("DELETE", "/delta-sharing/profiles/{id}"): Cell(404, 404, token),
    ("GET", "/auth/sessions"): Cell(200, 200),
    ("DELETE", "/auth/sessions/{id}"): Cell(404, 404, lambda _: {"id": uuid.uuid4()}),
    ("POST", "/auth/logout"): Cell(204, 204),
    ("POST", "/auth/password"): Cell(400, 400, body=lambda _: {}),
    ("POST", "/auth/login"): Cell(400, 400, body=lambda _: {}),
    ("POST", "/auth/session"): Cell(400, 400, body=lambda _: {}),
    ("GET", "/results/{location}"): Cell(403, 403, lambda _: {"location": "x"}),
    ("GET", "/docs"): Cell(200, 200),
    ("GET", "/docs/assets/{name}"): Cell(200, 200, lambda _: {"name": "swagger-ui.css"}),
    ("GET", "/openapi.json"): Cell(200, 200),
    ("GET", "/.well-known/longshore-keys.json"): Cell(200, 200),
    ("GET", "/problems/{kind}"): Cell(200, 200, lambda _: {"kind": next(iter(KINDS))}),
    ("GET", "/healthz"): Cell(200, 200),
    ("GET", "/readyz"): Cell(200, 200),
    ("GET", "/metrics"): Cell(200, 200),
    ("GET", "/sign-in"): Cell(200, 200),
    ("POST", "/sign-in"): Cell(403, 403),  # of no page of ours
    ("POST", "/sign-in/passcode"): Cell(403, 403),
    ("POST", "/sign-out"): Cell(303, 303),
    ("GET", "/console/static/{name}"): Cell(200, 200, lambda _: {"name": "console.css"}),
}

TABLE = "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}"
SHARING = {
    ("GET", "/delta-sharing/shares"): Cell(200, 200),
    ("GET", "/delta-sharing/shares/{share}"): Cell(200, 404, table),
    ("GET", "/delta-sharing/shares/{share}/schemas"): Cell(200, 404, table),
    ("GET", "/delta-sharing/shares/{share}/all-tables"): Cell(200, 404, table),
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables"): Cell(200, 404, table),
    ("GET", TABLE): Cell(200, 404, table),
    ("GET", f"{TABLE}/version"): Cell(200, 404, table),
    ("GET", f"{TABLE}/metadata"): Cell(200, 404, table),
    ("POST", f"{TABLE}/query"): Cell(200, 404, table, lambda _: {}),
    ("GET", f"{TABLE}/changes"): Cell(400, 404, table),  # no table has a change data feed
}

# The console's pages are for people: others are led to where one signs in.
CONSOLE = {
    ("GET", "/"): Cell(303, 303),
    ("GET", "/console/{chain}"): Cell(303, 303),
    ("GET", "/console/{chain}/tasks"): Cell(200, 200),
    ("POST", "/console/{chain}/tasks/selected"): Cell(303, 303),  # without a task
    ("GET", "/console/{chain}/tasks/{id}"): Cell(200, 404, done_task),
    ("GET", "/console/{chain}/tasks/{id}/download"): Cell(303, 404, done_task),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}"): Cell(200, 404, done_task),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/rows"): Cell(200, 404, done_task),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/files"): Cell(200, 404, done_task),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/manifest"): Cell(200, 404, done_task),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/download"): Cell(303, 404, done_task),
    ("GET", "/console/{chain}/tasks/{id}/events"): Cell(200, 404, done_task),
    ("POST", "/console/{chain}/tasks/{id}/pause"): Cell(303, 404, scheduled_task),
    ("POST", "/console/{chain}/tasks/{id}/resume"): Cell(303, 404, scheduled_task),
    ("POST", "/console/{chain}/tasks/{id}/backfill"): Cell(400, 404, scheduled_task),  # without its range
    ("POST", "/console/{chain}/tasks/{id}/backfills/{backfill}/end"): Cell(303, 404, backfilled_task),
    ("POST", "/console/{chain}/tasks/{id}/links/{link}/revoke"): Cell(303, 404, link),
    ("POST", "/console/{chain}/tasks/{id}/runs/{run}/deliver"): Cell(409, 404, done_task),  # names no destination
    ("GET", "/console/{chain}/new"): Cell(200, 200),
    ("POST", "/console/{chain}/new"): Cell(400, 400),  # without its fields
    ("POST", "/console/{chain}/new/preview"): Cell(400, 400),  # without an index
    ("POST", "/console/{chain}/profile"): Cell(400, 400),  # without its days
    ("GET", "/console/{chain}/schedules"): Cell(200, 200),
    ("GET", "/console/{chain}/segments"): Cell(200, 200),
    ("POST", "/console/{chain}/segments"): Cell(400, 400),  # without its rules
    ("POST", "/console/{chain}/segments/{id}/delete"): Cell(404, 404, lambda _: {"id": uuid.uuid4()}),
    ("GET", "/console/{chain}/destinations"): Cell(200, 200),
    ("GET", "/console/{chain}/destinations/new"): Cell(200, 200),
    ("POST", "/console/{chain}/destinations/new"): Cell(400, 400),  # without a kind
    ("GET", "/console/{chain}/destinations/{id}"): Cell(200, 404, destination),
    ("POST", "/console/{chain}/destinations/{id}/test"): Cell(200, 404, destination),
    ("GET", "/console/{chain}/destinations/{id}/change"): Cell(200, 404, destination),
    ("POST", "/console/{chain}/destinations/{id}/change"): Cell(400, 404, destination),  # without settings
    ("POST", "/console/{chain}/destinations/{id}/delete"): Cell(409, 404, used_destination),
    ("GET", "/console/{chain}/access"): Cell(200, 200),
    ("POST", "/console/{chain}/access/clients"): Cell(400, 400),  # without its fields
    ("POST", "/console/{chain}/access/clients/{id}"): Cell(303, 404, owner),
    ("POST", "/console/{chain}/access/tokens"): Cell(400, 400),
    ("POST", "/console/{chain}/access/tokens/{id}/revoke"): Cell(303, 404, token),
    ("POST", "/console/{chain}/access/profiles/{id}/revoke"): Cell(404, 404, lambda _: {"id": uuid.uuid4()}),
    ("POST", "/console/{chain}/access/users"): Cell(400, 400),
    ("POST", "/console/{chain}/access/users/{id}"): Cell(303, 404, user),
    ("POST", "/console/{chain}/access/sessions/{id}/end"): Cell(404, 404, lambda _: {"id": uuid.uuid4()}),
    ("POST", "/console/{chain}/access/password"): Cell(400, 400),
    ("GET", "/console/{chain}/audit"): Cell(200, 200),
    ("GET", "/console/{chain}/system"): Cell(200, 200),
}

ADDED = {("GET", "/openapi.json/openapi.json"), ("GET", "/openapi.json/{path}")}
"""Endpoints that Litestar adds by itself; closed to all."""

REFUSED = {
    "nothing": 401,
    "garbage": 401,
    "an unknown token": 401,
    "a wrong secret": 401,
    "an expired token": 401,
    "a revoked token": 401,
    "a token of a client that is off": 401,
    "a session that has ended": 401,
    "a wrong session key": 401,
    "a session without a chain": 400,  # the session is good
    "a session without a level for the chain": 403,
    "too low a token": 403,
    "too low a session": 403,
    "a token that names another chain": 403,
}


@pytest.fixture(scope="module")
def credentials(service: Longshore) -> dict[str, dict[str, str]]:
    """Headers of every kind of credential, by kind; those with a level, one for each."""

    async def ended_tokens() -> dict[str, str]:
        async with connected_if_current(service.url) as connection:
            usual = await clients.get_or_create(connection, Actor("command", "test"), CHAIN, "test")
            off = await clients.get_or_create(connection, Actor("command", "test"), CHAIN, "off")
            await clients.change(
                connection, Actor("command", "test"), None, off.id, clients.ClientChange(enabled=False)
            )
            expired = await tokens.insert(connection, usual.id, Level.ADMIN)
            await connection.execute(
                "update longshore.access_tokens set expires_at = now() - interval '1 s' where id = $1", expired[0]
            )
            revoked = await tokens.insert(connection, usual.id, Level.ADMIN)
            await tokens.revoke(connection, Actor("command", "test"), revoked[0])
            turned_off = await tokens.insert(connection, off.id, Level.ADMIN)
        pairs = {
            "an expired token": expired, "a revoked token": revoked, "a token of a client that is off": turned_off,
        }  # fmt: skip
        return {kind: f"{id}:{secret}" for kind, (id, secret) in pairs.items()}

    good = service.token(Level.ADMIN)
    bearers = asyncio.run(ended_tokens()) | {
        "an unknown token": f"{uuid.uuid4()}:longshore_{secrets.token_urlsafe(32)}",
        "a wrong secret": f"{good.split(':')[0]}:longshore_{secrets.token_urlsafe(32)}",
    }
    found = {kind: {"Authorization": f"Bearer {pair}"} for kind, pair in bearers.items()}
    found["nothing"] = {}
    found["garbage"] = {"Authorization": "Bearer garbage", "X-Session-User-Id": "x", "X-Session-Key": "y"}
    found["a token that names another chain"] = {"Authorization": f"Bearer {good}", "X-Session-Chain-Id": str(OTHER)}
    admin = new_user(service, _1764=Level.ADMIN)
    over = admin.session()
    httpx2.post(f"{service.address}/auth/logout", headers=over)
    found["a session that has ended"] = over
    found["a wrong session key"] = {**admin.session(), "X-Session-Key": "longshore_x"}
    without = admin.session()
    del without["X-Session-Chain-Id"]
    found["a session without a chain"] = without
    found["a session without a level for the chain"] = new_user(service, _1765=Level.ADMIN).session(CHAIN)
    for level in Level:
        found[f"token {level.name}"] = {"Authorization": f"Bearer {service.token(level)}"}
        found[f"session {level.name}"] = new_user(service, _1764=level).session()
    found["another chain's token"] = {"Authorization": f"Bearer {service.token(Level.ADMIN, OTHER)}"}
    found["another chain's session"] = new_user(service, _1765=Level.ADMIN).session(OTHER)
    return found


@pytest.fixture(scope="module")
def site(service: Longshore) -> Iterator[Site]:
    with service.client(Level.ADMIN) as client:
        yield Site(service, client)


@pytest.fixture(scope="module")
def shared(site: Site) -> Callable[[Cell], Ids]:
    """The things that paths name, created once for all credentials that are refused."""
    made: dict[int, Ids] = {}

    def ids(cell: Cell) -> Ids:
        if id(cell) not in made:
            made[id(cell)] = cell.make(site)
        return made[id(cell)]

    return ids


def request_status(service: Longshore, endpoint: tuple[str, str], cell: Cell, ids: Ids, headers: dict[str, str]) -> int:
    """The status of an answer, whose form is checked as well."""
    method, path = endpoint
    with ExitStack() as stack:
        prefer = {"Prefer": "respond-async", **headers}
        address = service.address + path.format(**ids)
        answer = stack.enter_context(
            httpx2.stream(method, address, json=cell.body(ids), headers=prefer, timeout=60, follow_redirects=False)
        )
        if answer.status_code >= 400 and not path.startswith(("/console", "/sign-in")):
            answer.read()
            of_protocol = path.startswith("/delta-sharing/shares")
            media_type = "application/json; charset=utf-8" if of_protocol else "application/problem+json"
            assert answer.headers["content-type"] == media_type
            assert not of_protocol or set(answer.json()) == {"errorCode", "message"}
            assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
        return answer.status_code


def levels_of(endpoint: tuple[str, str]) -> tuple[list[Level], list[Level]]:
    """The levels that are too low for an endpoint, and those that are enough."""
    needed = NEEDED[endpoint]
    assert isinstance(needed, Level)
    return [level for level in Level if level < needed], [level for level in Level if level >= needed]


LEVELLED = [
    pytest.param(endpoint, id=" ".join(endpoint))
    for endpoint, at in NEEDED.items()
    if isinstance(at, Level) and endpoint not in {**CONSOLE, **SHARING}
]
PAGES = [pytest.param(endpoint, id=" ".join(endpoint)) for endpoint in CONSOLE if endpoint[1] != "/"]
PERSONAL = [pytest.param(endpoint, id=" ".join(endpoint)) for endpoint, at in NEEDED.items() if at is NoLevel.USER]
OPEN = [
    pytest.param(endpoint, id=" ".join(endpoint))
    for endpoint, at in NEEDED.items()
    if at in (NoLevel.PUBLIC, NoLevel.PROBE) and endpoint not in CONSOLE
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_table_of_levels_has_exactly_the_routes_of_the_application() -> None:
    built: Litestar = web.build(Settings(database_url="postgresql://nowhere"))
    found = set()
    for route in built.routes:
        assert isinstance(route, HTTPRoute | ASGIRoute)
        methods = route.methods - {"OPTIONS"} if isinstance(route, HTTPRoute) else {"GET"}
        found |= {(method, route.path_format) for method in methods - {"HEAD"}}
    assert found == set(NEEDED) | ADDED


def test_route_that_is_not_in_the_table_is_refused(site: Site) -> None:
    for _, path in ADDED:
        assert site.client.get(path.format(path="x")).status_code == 403


def test_matrix_has_a_cell_for_every_endpoint() -> None:
    assert set(CELLS) | set(CONSOLE) | set(SHARING) == set(NEEDED)
    assert len(CELLS) + len(CONSOLE) + len(SHARING) == len(NEEDED)


@pytest.mark.parametrize("endpoint", LEVELLED)
def test_credential_of_the_required_level_is_accepted_and_others_are_refused(
    service: Longshore,
    credentials: dict[str, dict[str, str]],
    site: Site,
    shared: Callable[[Cell], Ids],
    endpoint: tuple[str, str],
) -> None:
    cell = CELLS[endpoint]
    low, enough = levels_of(endpoint)
    answered = {
        kind: request_status(service, endpoint, cell, shared(cell), headers)
        for kind, headers in credentials.items()
        if kind in REFUSED
    }
    for level in low:
        answered[f"too low a token: {level.name}"] = request_status(
            service, endpoint, cell, shared(cell), credentials[f"token {level.name}"]
        )
        answered[f"too low a session: {level.name}"] = request_status(
            service, endpoint, cell, shared(cell), credentials[f"session {level.name}"]
        )
    assert answered == {kind: REFUSED[kind.partition(":")[0]] for kind in answered}
    for kind in ("another chain's token", "another chain's session"):
        status = request_status(service, endpoint, cell, shared(cell), credentials[kind])
        assert status == cell.answer(cell.other, kind), kind
    for level in enough:
        for kind in ("token", "session"):
            ids = cell.make(site)
            status = request_status(service, endpoint, cell, ids, credentials[f"{kind} {level.name}"])
            assert status == cell.answer(cell.right, kind), f"{kind} {level.name}"


@pytest.mark.parametrize("endpoint", PAGES)
def test_console_page_is_for_users_of_the_required_level_and_asks_others_to_sign_in(
    service: Longshore, credentials: dict[str, dict[str, str]], site: Site, endpoint: tuple[str, str]
) -> None:
    cell = CONSOLE[endpoint]
    low, enough = levels_of(endpoint)
    ids = {**cell.make(site), "chain": CHAIN}
    tokens_ = [f"token {level.name}" for level in Level] + ["another chain's token"]
    expected = {kind: 303 for kind in (*REFUSED, *tokens_) if "session" not in kind and "too low" not in kind}
    expected |= {"a session that has ended": 303, "a wrong session key": 303}
    expected |= {"a session without a level for the chain": 403, "another chain's session": 403}
    expected |= {f"session {level.name}": 403 for level in low}
    expected |= {f"session {level.name}": cell.right for level in enough}
    expected["a session without a chain"] = cell.right  # the page's address names it
    assert {kind: request_status(service, endpoint, cell, ids, credentials[kind]) for kind in expected} == expected
    elsewhere = {**ids, "chain": OTHER}
    assert request_status(service, endpoint, cell, elsewhere, credentials["another chain's session"]) == cell.other


@pytest.mark.parametrize("endpoint", [pytest.param(endpoint, id=" ".join(endpoint)) for endpoint in SHARING])
def test_sharing_endpoint_accepts_tokens_of_its_share_and_no_session(
    service: Longshore, credentials: dict[str, dict[str, str]], site: Site, endpoint: tuple[str, str]
) -> None:
    cell = SHARING[endpoint]
    ids = cell.make(site)
    expected = {kind: 401 for kind in REFUSED if "too low" not in kind}
    expected |= {f"session {level.name}": 401 for level in Level} | {"another chain's session": 401}
    expected |= {f"token {level.name}": cell.right for level in Level} | {"another chain's token": cell.other}
    expected["a token that names another chain"] = cell.right  # the path names the chain
    assert {kind: request_status(service, endpoint, cell, ids, credentials[kind]) for kind in expected} == expected


@pytest.mark.parametrize("endpoint", PERSONAL)
def test_endpoint_for_users_accepts_any_valid_session_and_no_token(
    service: Longshore, credentials: dict[str, dict[str, str]], site: Site, endpoint: tuple[str, str]
) -> None:
    cell = CELLS[endpoint]
    refused = {kind for kind, status in REFUSED.items() if status == 401} - {"a session without a chain"}
    refused |= {f"token {level.name}" for level in Level} | {"another chain's token"}
    for kind in refused:
        assert request_status(service, endpoint, cell, cell.make(site), credentials[kind]) == 401, kind
    user = new_user(service)
    for headers in (user.session(), headers_of(user.sign_in().json(), OTHER)):
        assert request_status(service, endpoint, cell, cell.make(site), headers) == cell.right


@pytest.mark.parametrize("endpoint", OPEN)
def test_public_endpoint_needs_no_credential(
    service: Longshore, credentials: dict[str, dict[str, str]], site: Site, endpoint: tuple[str, str]
) -> None:
    cell = CELLS[endpoint]
    for kind, headers in credentials.items():
        answered = request_status(service, endpoint, cell, cell.make(site), headers)
        assert answered == cell.right, kind


def test_openapi_document_names_the_level_of_each_endpoint(service: Longshore) -> None:
    paths = httpx2.get(f"{service.address}/openapi.json").json()["paths"]
    shown = {
        (method.upper(), path): operation["security"]
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    for endpoint, needed in NEEDED.items():
        if isinstance(needed, Level) and endpoint not in CONSOLE:
            assert {tuple(role) for each in shown[endpoint] for role in each.values()} == {(needed.name.lower(),)}
        elif endpoint in shown:
            assert shown[endpoint] == ([{"sessionUserId": [], "sessionKey": []}] if needed is NoLevel.USER else [])


def test_scope_of_a_token_does_not_change_its_level(service: Longshore) -> None:
    with service.client(Level.READ, scope=Scope(indexes=["users"])) as reader:
        assert reader.get("/tasks").status_code == 200
        assert reader.post("/tasks", json=export_body()).status_code == 403


HIDDEN = ["wallet-ledger.amount", "wallet-ledger.mutator_name"]
FILTERED = {
    "entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN,
    "rules": [{"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": 4711}],
}  # fmt: skip
CHECKS = {endpoint: needed[1] for endpoint, needed in ENDPOINTS.items() if not isinstance(needed, NoLevel)}
CHECKED = [
    pytest.param(endpoint, check, id=" ".join(endpoint))
    for endpoint, check in CHECKS.items()
    if isinstance(check, Check) and endpoint not in CONSOLE
]


def hidden_ids(site: Site, path: str) -> Ids:
    """A finished export of the ledger that one column is hidden of, with a link, or a stored segment of that column."""
    if path.startswith("/segments"):
        stored = {"chain": CHAIN, "name": "x", "segment": FILTERED}
        return {"id": site.client.post("/segments", json=stored).json()["id"]}
    if path.startswith("/indexes"):
        return {"name": "wallet-ledger"}
    if path.startswith("/delta-sharing/shares"):
        table(site)  # one that is not hidden
        return table(site, ("id", "amount"))
    body: dict[str, Any] = export_body(segment=FILTERED)
    body["target"]["fields"] = ["id", "amount"]
    id = site.client.post("/tasks", json=body).json()["id"]
    assert ended(site.client, id)["state"]["code"] == "DONE"
    assert site.client.get(f"/tasks/{id}/download_url").status_code == 200
    return {"id": id, "run": 1, "backfill": 1, "link": site.client.get(f"/tasks/{id}/links").json()[0]["id"]}


def hidden_body(method: str, path: str) -> Any:
    if (method, path) == ("POST", "/tasks"):
        return export_body(once=FUTURE)
    if path == "/segments/preview":
        return {"segment": FILTERED}
    if path.startswith("/segments") and method in ("POST", "PUT"):
        return {"chain": CHAIN, "name": "x", "segment": FILTERED}
    if path == "/tasks/{id}/backfill":
        return BACKFILL
    return {"desc": "x"} if method == "PATCH" else None


def test_every_endpoint_of_a_task_or_segment_has_a_check() -> None:
    for endpoint, check in CHECKS.items():
        about_tasks = endpoint[1].startswith(("/tasks/{id}", "/segments/{id}", "/console/{chain}/tasks/{id}"))
        assert isinstance(check, Check) or not about_tasks, f"{endpoint} has no check: {check}"


@pytest.mark.parametrize(("endpoint", "check"), CHECKED)
def test_endpoint_makes_the_check_that_the_table_names(
    service: Longshore, site: Site, endpoint: tuple[str, str], check: Check
) -> None:
    method, path = endpoint
    ids = hidden_ids(site, path)
    with service.client(Level.WRITE, scope=Scope(hidden_columns=HIDDEN)) as narrow:
        answer = narrow.request(method, path.format(**ids), json=hidden_body(method, path))
        whole = site.client.get(path.format(**ids)).text if method == "GET" else ""
    if endpoint == ("GET", "/tasks/{id}/runs"):
        assert (answer.json(), len(msgspec.json.decode(whole))) == ([], 1)
    elif check is Check.SHOW_TASK:
        assert answer.status_code == 200
        shown = next(each for each in answer.json() if each["id"] == ids["id"]) if path == "/tasks" else answer.text
        assert "4711" not in str(shown) and "total" not in str(shown)
        assert "4711" in whole or "total" in whole
    elif check is Check.INDEX or endpoint == ("GET", "/segments"):
        assert answer.status_code == 200
        hidden = '"mutator_name"' if check is Check.INDEX else '"amount"'
        assert hidden not in answer.text
        assert hidden in whole
    elif check is Check.SEE_TABLE and path.endswith("tables"):
        named = {item["name"] for item in answer.json()["items"]}
        assert ids["table"] not in named and table(site)["table"] in named
    elif check is Check.SEE_TABLE:
        assert answer.status_code == 404, answer.text
    else:
        assert answer.status_code == 403, answer.text


def test_console_pages_show_a_user_no_counts_of_an_export_above_their_level(service: Longshore, site: Site) -> None:
    body = export_body(segment={**FILTERED, "index": "audit", "rules": [
        {"field_name": "actor", "field_type": "keyword", "operator": "is_not", "value": "nobody4711"}]})  # fmt: skip
    body["target"]["export_index"] = "audit"
    id = site.client.post("/tasks", json=body).json()["id"]
    assert ended(site.client, id)["state"]["code"] == "DONE"
    paths = (
        f"/console/{CHAIN}/tasks/{id}",
        f"/console/{CHAIN}/tasks/{id}/events",
        f"/console/{CHAIN}/new?from={id}",
        f"/console/{CHAIN}/tasks?index=audit",
    )
    counted = re.compile(r"nobody4711|success: [0-9]|\"total\": ?[0-9]|\b[1-9][0-9,]* rows")
    for level, shown in ((Level.ADMIN, True), (Level.WRITE, False)):
        headers = new_user(service, _1764=level).session()
        for path in paths:
            page = httpx2.get(service.address + path, headers=headers, timeout=60)
            assert page.status_code == 200
            assert bool(counted.search(page.text)) == shown, (level, path)
