"""One trace for each task, from its request to its last COPY, as a collector sees it; and the ids in the log."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.collector import PROCESS, WAIT, Collector, Span, collecting, create, of_task, only, trace_to
from tests.service import CHAIN, Longshore, database_in, ended, export_body
from tests.waiting import until

OTHER = 1765
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Longshore]:
    """A service with the demo's data, two workers and a collector."""
    data = tmp_path_factory.mktemp("traced")
    with ExitStack() as stack:
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        trace_to(monkeypatch, collector.address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=one")
        url = stack.enter_context(database_in(data, 60_000))
        longshore = Longshore(data, url)
        stack.callback(longshore.stop)
        longshore.start("worker")
        longshore.start("worker")
        longshore.start_api()
        yield longshore


@pytest.fixture
def client(traced: Longshore) -> Iterator[httpx2.Client]:
    with traced.client() as client:
        yield client


def line_of(service: Longshore, request: str) -> dict[str, Any]:
    """The line of a request, which is written after its answer."""

    def found() -> list[dict[str, Any]]:
        return [line for line in service.logged() if line.get("request_id") == request]

    return until(found, "the line of a request")[0]


def test_a_task_is_one_trace_from_its_request_to_its_last_copy(
    traced: Longshore, client: httpx2.Client, collector: Collector
) -> None:
    task = create(client)
    found = ended(client, task)
    spans = of_task(collector, task)
    assert len({span.trace for span in spans}) == 1
    request, wait, attempt = only(spans, "POST /tasks"), only(spans, WAIT), only(spans, PROCESS)
    assert (request.kind, wait.kind, attempt.kind) == ("SERVER", "CONSUMER", "CONSUMER")
    assert (request.parent, wait.parent, attempt.parent) == ("", request.id, request.id)
    assert (request.service, attempt.service) == ("longshore-api", "longshore-worker")
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/tasks",
        "http.response.status_code": 201,
        "url.path": "/tasks",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": traced.port,
        "longshore.chain": CHAIN,
        "longshore.task": task,
    }
    assert (
        attempt.attributes.items()
        >= {
            "longshore.chain": CHAIN,
            "longshore.task": task,
            "longshore.run": 1,
            "longshore.attempt": 1,
            "longshore.action": "export",
            "messaging.operation.name": "process",
        }.items()
    )

    rest = [span for span in spans if span not in (request, wait, attempt)]
    assert {span.name for span in rest} == {"plan", "COPY", "publish", "finish"}
    assert {span.parent for span in rest} == {attempt.id}
    copies = [span for span in rest if span.name == "COPY"]
    run = client.get(f"/tasks/{task}/runs").json()[0]
    assert len(copies) > 1
    assert sum(span.attributes["longshore.rows"] for span in copies) == run["rows"] > 0
    framing = run["bytes"] - sum(span.attributes["longshore.bytes"] for span in copies)
    assert run["rows"] < framing < run["rows"] + 1000, "a carriage return in each row, and a header"
    plan, publish, finish = only(rest, "plan"), only(rest, "publish"), only(rest, "finish")
    assert request.began <= wait.began <= wait.ended <= attempt.began <= plan.began <= plan.ended
    assert plan.ended <= min(span.began for span in copies) < max(span.ended for span in copies) <= publish.began
    assert publish.ended <= finish.began <= finish.ended <= attempt.ended
    assert not any(span.failed for span in spans)
    assert found["state"]["code"] == "DONE"
    assert collector.headers[-1]["x-key"] == "one"


def test_trace_of_the_client_continues(client: httpx2.Client, collector: Collector) -> None:
    task = create(client, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    ended(client, task)
    spans = of_task(collector, task)
    assert {span.trace for span in spans} == {TRACE}
    assert only(spans, "POST /tasks").parent == PARENT
    assert "COPY" in {span.name for span in spans}


def test_unsampled_trace_of_the_client_is_not_exported_and_the_task_runs(
    client: httpx2.Client, collector: Collector
) -> None:
    trace = "1" + TRACE[1:]
    task = create(client, {"traceparent": f"00-{trace}-{PARENT}-00"})
    assert ended(client, task)["state"]["code"] == "DONE"
    ended(client, later := create(client))
    of_task(collector, later)
    assert trace not in {span.trace for span in collector.spans()}
    assert task not in {span.attributes.get("longshore.task") for span in collector.spans() if span.kind == "CONSUMER"}


def test_a_poll_has_a_trace_of_its_own_and_a_probe_none(
    traced: Longshore, client: httpx2.Client, collector: Collector
) -> None:
    task = create(client)
    ended(client, task)
    httpx2.get(f"{traced.address}/readyz")
    spans = of_task(collector, task)

    def is_poll(span: Span) -> bool:
        return span.name == "GET /tasks/{id}" and span.attributes["longshore.task"] == task

    polls = [span for span in collector.until(lambda spans: any(is_poll(span) for span in spans)) if is_poll(span)]
    assert polls
    assert not {span.trace for span in polls} & {span.trace for span in spans}
    assert all(span.parent == "" for span in polls)
    assert not [span for span in collector.spans() if "/readyz" in span.attributes.get("url.path", "")]


def test_requested_run_is_in_the_trace_of_its_request(client: httpx2.Client, collector: Collector) -> None:
    task = create(client)
    ended(client, task)
    assert client.post(f"/tasks/{task}/execute").status_code == 200
    spans = of_task(collector, task, runs=2)
    assert len({span.trace for span in spans}) == 2
    executed = only(spans, "POST /tasks/{id}/execute")
    second = [span for span in spans if span.attributes.get("longshore.run") == 2]
    assert {span.name for span in second} == {WAIT, PROCESS}
    assert {(span.trace, span.parent) for span in second} == {(executed.trace, executed.id)}


def test_planned_run_is_in_the_trace_of_its_request(
    traced: Longshore, client: httpx2.Client, collector: Collector
) -> None:
    task = create(client, once="2099-01-01T00:00:00Z")
    traced.sql(
        "update longshore.tasks set due_at = now() + interval '1 second', waits_since = now() - interval '1 hour'"
        " where id = $1",
        task,
    )
    until(lambda: client.get(f"/tasks/{task}").json()["state"]["code"] == "DONE", "the run")
    spans = of_task(collector, task)
    request, wait = only(spans, "POST /tasks"), only(spans, WAIT)
    assert {span.trace for span in spans} == {request.trace}
    assert wait.began - request.began >= 1
    assert wait.ended - wait.began < 600, "it waits since it was due, not since it was made"


def test_each_later_run_of_a_schedule_has_a_trace_that_links_to_the_first(
    traced: Longshore, client: httpx2.Client, collector: Collector
) -> None:
    task = create(client, repeat="daily")
    for run in (1, 2, 3):
        until(lambda run=run: len(of_state(client, task, "DONE")) == run, "the run")  # type: ignore[misc]
        traced.sql("update longshore.tasks set due_at = now() where id = $1 and due_at is not null", task)
    until(lambda: len(of_state(client, task, "DONE")) == 4, "the last run")
    spans = of_task(collector, task, runs=4)
    request = only(spans, "POST /tasks")
    waits = {span.attributes["longshore.run"]: span for span in spans if span.name == WAIT}
    assert waits[1].trace == request.trace
    assert len({span.trace for span in spans}) == 4
    for run in (2, 3, 4):
        assert waits[run].parent == ""
        assert waits[run].links == [(request.trace, request.id)]
        of_run = [span for span in spans if span.trace == waits[run].trace]
        assert only(of_run, PROCESS).parent == waits[run].id
        assert "COPY" in {span.name for span in of_run}
    client.post(f"/tasks/{task}/cancel")


def of_state(client: httpx2.Client, task: int, state: str) -> list[dict[str, Any]]:
    return [run for run in client.get(f"/tasks/{task}/runs").json() if run["state"] == state]


def test_every_line_of_a_task_names_it_its_chain_and_its_trace(
    traced: Longshore, client: httpx2.Client, collector: Collector
) -> None:
    task = create(client, {"X-Request-Id": "made-here"})
    ended(client, task)
    client.get(f"/tasks/{task}", headers={"X-Request-Id": "polled-here"})
    trace = only(of_task(collector, task), "POST /tasks").trace
    created = line_of(traced, "made-here")
    assert (created["event"], created["chain"], created["task"], created["trace_id"]) == ("request", CHAIN, task, trace)
    polled = line_of(traced, "polled-here")
    assert (polled["chain"], polled["task"]) == (CHAIN, task)
    assert polled["trace_id"] not in ("", trace)
    of_run = [line for line in traced.logged() if line.get("task") == task and "request_id" not in line]
    assert [line["event"] for line in of_run] == ["run begins", "run done"]
    for line in of_run:
        assert (line["chain"], line["run"], line["attempt"], line["trace_id"]) == (CHAIN, 1, 1, trace)


def test_hidden_names_in_a_path_are_in_no_span_and_no_log_line(
    traced: Longshore, client: httpx2.Client, collector: Collector
) -> None:
    task = create(client)
    ended(client, task)
    with traced.client(chain=OTHER) as stranger:
        named = {"X-Request-Id": "stranger"}
        assert stranger.get(f"/tasks/{task}", headers=named).status_code == 404
        theirs = create(stranger, chain=OTHER)
        ended(stranger, theirs)
        of_task(collector, theirs)
    assert httpx2.get(f"{traced.address}/tasks/{task}", headers={"X-Request-Id": "nobody"}).status_code == 401
    refused = line_of(traced, "stranger")
    assert (refused["status"], refused["chain"]) == (404, OTHER)
    assert "task" not in refused
    assert not {"task", "chain"} & set(line_of(traced, "nobody"))

    owners = {row["id"]: row["chain_id"] for row in traced.sql("select id, chain_id from longshore.tasks")}
    task_spans = [span for span in collector.spans() if "longshore.task" in span.attributes]
    assert {span.attributes["longshore.chain"] for span in task_spans} >= {CHAIN, OTHER}
    for span in task_spans:
        assert owners[span.attributes["longshore.task"]] == span.attributes["longshore.chain"]
    for trace in {span.trace for span in collector.spans()}:
        together = {s.attributes.get("longshore.chain") for s in collector.spans() if s.trace == trace}
        assert len(together - {None}) <= 1


def test_spans_contain_no_secrets(traced: Longshore, client: httpx2.Client, collector: Collector) -> None:
    password, desc = "the password of somebody", "only they may read this"
    body = {**export_body(), "desc": desc, "debug": "a word of theirs"}
    rule = {"field_name": "kind", "field_type": "keyword", "operator": "is", "value": "word in a rule"}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    body["trigger"]["segment"] = segment
    task = client.post("/tasks", json=body).json()["id"]
    ended(client, task)
    url = client.get(f"/tasks/{task}/download_url").json()["url"]
    assert httpx2.get(url).status_code == 200
    httpx2.post(f"{traced.address}/auth/login", json={"username": "anna", "password": password})
    of_task(collector, task)
    collector.until(lambda spans: any(span.name == "POST /auth/login" for span in spans))
    collector.until(lambda spans: any(span.name.startswith("GET /results/") for span in spans))
    token = client.headers["authorization"].removeprefix("Bearer ")
    signature = url.split("signature=")[1].split("&")[0]
    for secret in (*token.split(":"), signature, password, desc, "a word of theirs", "word in a rule", "anna"):
        assert secret.encode() not in collector.raw, secret
