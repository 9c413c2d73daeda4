"""Requests that stay open: their credential ends them, there is a bound for each, and what was asked for by whom."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from longshore.access.tokens import Level, Scope
from tests.access.users import new_user
from tests.answers import problem
from tests.run_steps import play
from tests.service import CHAIN, Longshore, export_body
from tests.waiting import until

TIMEOUT_SECONDS = 20  # two suffice on an idle machine
OTHER = 9


def token_id(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ").split(":")[0]


class Credential:
    """A credential of the chain, the statement that ends it, and what a request that was open is then answered."""

    def __init__(self, headers: dict[str, str], statement: str, *args: Any, kind: str = "unauthorized") -> None:
        self.headers, self.statement, self.args, self.kind = headers, statement, args, kind


def of_token(service: Longshore, statement: str, scope: Scope | None = None, chain: int = CHAIN) -> Credential:
    headers = {"Authorization": f"Bearer {service.token(Level.WRITE, chain, scope)}", "X-Session-Chain-Id": str(CHAIN)}
    return Credential(headers, statement, token_id(headers))


def of_user(service: Longshore, statement: str, kind: str = "unauthorized") -> Credential:
    user = new_user(service, _1764=Level.WRITE)
    return Credential(user.session(), statement, user.id, kind=kind)


def credentials(service: Longshore) -> dict[str, Credential]:
    """One credential for each way to end."""
    expire = "update longshore.access_tokens set expires_at = now() where id = $1"
    client = "update longshore.service_clients set enabled = false where id = $1"
    shared = Scope(more_chains=[CHAIN])
    leave = f"update longshore.access_tokens set more_chains = array_remove(more_chains, {CHAIN}) where id = $1"
    level = "update longshore.user_levels set level = 'read' where user_id = $1"
    (row,) = service.sql(
        "insert into longshore.service_clients (chain_id, name) values ($1, $2) returning id", CHAIN, str(uuid4())
    )
    disabled = of_token(service, client)
    service.sql("update longshore.access_tokens set client_id = $2 where id = $1", disabled.args[0], row["id"])
    disabled.args = (row["id"],)
    return {
        "a revoked token": of_token(service, "update longshore.access_tokens set revoked_at = now() where id = $1"),
        "an expired token": of_token(service, expire),
        "a token of a disabled client": disabled,
        "a token that left the chain": of_token(service, leave, shared, OTHER),
        "a user who signed out": of_user(service, "delete from longshore.sessions where user_id = $1"),
        "a user whose session was idle for too long": of_user(
            service, "update longshore.sessions set used_at = now() - interval '1 day' where user_id = $1"
        ),
        "a disabled user": of_user(service, "update longshore.users set disabled_at = now() where id = $1"),
        "a user who lost the chain": of_user(service, "delete from longshore.user_levels where user_id = $1"),
        "a user whose level was lowered": of_user(service, level, kind="forbidden"),
    }


WAYS = (
    "a revoked token", "an expired token", "a token of a disabled client", "a token that left the chain",
    "a user who signed out", "a user whose session was idle for too long", "a disabled user",
    "a user who lost the chain", "a user whose level was lowered",
)  # fmt: skip


class OpenRequests:
    """The requests that one credential had open when it ended."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.stream: list[str] = []
        self.poll: Future[httpx2.Response]
        self.execute: Future[httpx2.Response]
        self.listening: Future[None]
        self.heard = threading.Event()


@pytest.fixture(scope="module")
def opened(idle_service: Longshore) -> Iterator[dict[str, OpenRequests]]:
    """Streams, long polls and executes of all credentials, which then end all at once."""
    found = {name: OpenRequests(credential) for name, credential in credentials(idle_service).items()}
    with idle_service.client(Level.ADMIN) as waiting, ThreadPoolExecutor(3 * len(found)) as pool:
        ids = [waiting.post("/tasks", json=export_body()).json()["id"] for _ in found]
        for task, each in zip(ids, found.values(), strict=True):
            ask(idle_service, pool, each, task)
        for each in found.values():
            assert each.heard.wait(TIMEOUT_SECONDS)
        until(lambda: waiters(idle_service) >= 3 * len(found), "all to wait")
        for each in found.values():
            idle_service.sql(each.credential.statement, *each.credential.args)
        yield found
        for task in ids:  # which ends the requests that still wait
            idle_service.sql("delete from longshore.tasks where id = $1", task)


def ask(service: Longshore, pool: ThreadPoolExecutor, each: OpenRequests, task: int) -> None:
    address, headers = service.address, each.credential.headers

    def listen() -> None:
        with httpx2.stream("GET", f"{address}/tasks/{task}/events", headers=headers, timeout=60) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                each.heard.set()
                each.stream.append(line)

    execute = f"{address}/tasks/{task}/execute"
    each.listening = pool.submit(listen)
    each.execute = pool.submit(httpx2.post, execute, headers=headers, timeout=60)
    with contextlib.suppress(AssertionError):
        until(lambda: not service.sql("select from longshore.tasks where id = $1 and attempt = 1", task), "the execute")
    ((revision,),) = service.sql("select revision from longshore.tasks where id = $1", task)
    each.poll = pool.submit(
        httpx2.get,
        f"{address}/tasks/{task}",
        params={"wait": 60},
        headers={**headers, "If-None-Match": f'"{task}-{revision}"'},
        timeout=60,
    )


def waiters(service: Longshore) -> int:
    text = httpx2.get(f"{service.address}/metrics").text
    return int(float(next(line for line in text.splitlines() if line.startswith("longshore_waiters ")).split()[1]))


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_a_credential_closes_its_event_stream(opened: dict[str, OpenRequests], way: str) -> None:
    each = opened[way]
    if each.credential.kind == "forbidden":  # a stream needs the level `read`, which is left
        assert not each.listening.done()
        return
    each.listening.result(TIMEOUT_SECONDS)
    assert "event: unauthorized" in each.stream


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_a_credential_answers_its_long_poll(opened: dict[str, OpenRequests], way: str) -> None:
    each = opened[way]
    if each.credential.kind == "forbidden":
        assert not each.poll.done()
        return
    problem(each.poll.result(TIMEOUT_SECONDS), "unauthorized")


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_a_credential_answers_its_execute(opened: dict[str, OpenRequests], way: str) -> None:
    each = opened[way]
    problem(each.execute.result(TIMEOUT_SECONDS), each.credential.kind)


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_a_credential_ends_its_download_addresses(idle_service: Longshore, way: str) -> None:
    credential = credentials(idle_service)[way]
    with idle_service.client(Level.ADMIN) as admin:
        task = admin.post("/tasks", json=export_body()).json()["id"]
    play(idle_service, task, "begin", "finish")
    path = idle_service.data / "results" / f"{task}-1"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a,b\n")
    idle_service.sql("update longshore.tasks set result = 'a.csv' where id = $1 and state = 'DONE' returning id", task)
    answer = httpx2.get(f"{idle_service.address}/tasks/{task}/download_url", headers=credential.headers)
    assert answer.status_code == 200, answer.text
    url = answer.json()["url"]
    assert httpx2.get(url).status_code == 200
    idle_service.sql(credential.statement, *credential.args)
    if credential.kind == "forbidden":  # `read` is enough for the wallet ledger
        assert httpx2.get(url).status_code == 200
        return
    until(lambda: httpx2.get(url).status_code == 403, "the address to end")
    problem(httpx2.get(url), "bad-address")


def test_open_stream_and_long_poll_show_what_the_lowered_level_of_their_user_allows(idle_service: Longshore) -> None:
    reader = new_user(idle_service, _1764=Level.ADMIN)
    headers = reader.session()
    rule = {"field_name": "action", "field_type": "keyword", "operator": "is", "value": "for admins alone"}
    segment = {"entity": "people", "index": "audit", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    body = export_body(segment=segment)
    body["target"]["export_index"] = "audit"  # for admins
    with idle_service.client(Level.ADMIN) as admin, ThreadPoolExecutor(2) as pool:
        task = admin.post("/tasks", json=body).json()["id"]
        stream: list[str] = []
        heard = threading.Event()

        def listen() -> None:
            address = f"{idle_service.address}/tasks/{task}/events"
            with httpx2.stream("GET", address, headers=headers, timeout=60) as answer:
                for line in answer.iter_lines():
                    heard.set()
                    stream.append(line)

        before = waiters(idle_service)
        listening = pool.submit(listen)
        poll = pool.submit(httpx2.get, f"{idle_service.address}/tasks/{task}?wait=60", headers=headers, timeout=60)
        assert heard.wait(TIMEOUT_SECONDS)
        until(lambda: waiters(idle_service) >= before + 2, "both to wait")
        idle_service.sql("update longshore.user_levels set level = 'read' where user_id = $1", reader.id)
        time.sleep(3)  # within which the process has found the new level
        assert not listening.done() and not poll.done()
        play(idle_service, task, "begin", "report", "fail")
        polled = poll.result(TIMEOUT_SECONDS)
        listening.result(TIMEOUT_SECONDS)
    assert polled.status_code == 200
    assert "for admins alone" not in polled.text
    assert "on purpose" not in "".join(stream)
    assert "event: progress" not in stream
    assert "event: log" in stream


def test_the_end_of_a_credential_closes_a_stream_that_still_sends_a_long_log(idle_service: Longshore) -> None:
    entries = 60_000
    credential = credentials(idle_service)["a revoked token"]
    with idle_service.client(Level.ADMIN) as admin:
        task = admin.post("/tasks", json=export_body()).json()["id"]
    idle_service.sql(
        "insert into longshore.task_logs (task_id, seq, at, msg)"
        " select $1, n, now(), repeat('x', 1000) from generate_series(0, $2::int - 1) n",
        task, entries,
    )  # fmt: skip
    idle_service.sql("update longshore.tasks set log_length = $2 where id = $1", task, entries)
    with httpx2.stream("GET", f"{idle_service.address}/tasks/{task}/events", headers=credential.headers) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        idle_service.sql(credential.statement, *credential.args)
        time.sleep(3)  # within which the process has found that the credential ended
        rest = list(lines)
    assert "event: unauthorized" in rest
    assert rest.count("event: log") < entries


@pytest.mark.parametrize("path", ["/tasks/{}/events", "/console/1764/tasks/{}/events"])
def test_head_of_an_event_stream_does_not_stay_open(idle_service: Longshore, path: str) -> None:
    with new_user(idle_service, _1764=Level.WRITE).client() as client:
        task = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
        before = waiters(idle_service)
        cookie = {"Cookie": f"longshore={client.headers['x-session-user-id']}.{client.headers['x-session-key']}"}
        answer = client.head(path.format(task), headers=cookie, timeout=5)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert waiters(idle_service) == before


def test_requests_that_wait_are_bounded_for_each_credential_and_chain_and_polls_go_on(new_service: Any) -> None:
    service: Longshore = new_service(credential_open_requests="3", chain_open_requests="5")
    service.start_api()
    with contextlib.ExitStack() as stack:
        first, second, stranger = (stack.enter_context(service.client(chain=chain)) for chain in (CHAIN, CHAIN, OTHER))
        task = first.post("/tasks", json=export_body()).json()["id"]
        theirs = stranger.post("/tasks", json=export_body(chain=OTHER)).json()["id"]
        path = f"/tasks/{task}/events"
        streams = [stack.enter_context(first.stream("GET", path)) for _ in range(3)]
        assert [stream.status_code for stream in streams] == [200] * 3
        for one_more in (path, f"/tasks/{task}?wait=60"):
            answer = first.get(one_more)
            problem(answer, "too-many-requests")
            assert int(answer.headers["retry-after"]) > 0
        problem(first.post(f"/tasks/{task}/execute"), "too-many-requests")
        assert first.get(f"/tasks/{task}").headers["etag"] == f'"{task}-1"', "nothing was asked for"
        assert [stack.enter_context(second.stream("GET", path)).status_code for _ in range(2)] == [200] * 2
        problem(second.get(path), "too-many-requests")
        with stranger.stream("GET", f"/tasks/{theirs}/events") as answer:
            assert answer.status_code == 200
        streams[0].close()
        until(lambda: first.get(f"/tasks/{task}?wait=1").status_code == 200, "the place to be free again")


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("POST", "/cancel", None, "run-withdrawn"),
        ("PATCH", "", {"trigger": {"once": "2126-05-26T12:00:00Z"}}, "run-withdrawn"),
        ("DELETE", "", None, "task-not-found"),
    ],
)
def test_execute_of_a_queued_run_answers_at_once_when_the_run_will_not_begin(
    idle_service: Longshore, method: str, path: str, body: dict[str, Any] | None, kind: str
) -> None:
    with idle_service.client(Level.ADMIN) as client, ThreadPoolExecutor(1) as pool:
        task = client.post("/tasks", json=export_body()).json()["id"]
        execute = pool.submit(client.post, f"/tasks/{task}/execute")
        until(
            lambda: idle_service.sql("select from longshore.tasks where id = $1 and attempt = 2", task), "the execute"
        )
        assert client.request(method, f"/tasks/{task}{path}", json=body).status_code in (200, 204)
        answer = execute.result(TIMEOUT_SECONDS)
    problem(answer, kind)


def test_execute_request_that_its_client_leaves_is_closed(idle_service: Longshore) -> None:
    with idle_service.client(Level.ADMIN) as client:
        task = client.post("/tasks", json=export_body()).json()["id"]
        before = waiters(idle_service)
        with pytest.raises(httpx2.ReadTimeout):
            client.post(f"/tasks/{task}/execute", timeout=0.5)
        until(lambda: waiters(idle_service) <= before, "the waiter to be gone")
        client.delete(f"/tasks/{task}")
