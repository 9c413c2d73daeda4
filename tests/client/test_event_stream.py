"""The events of a task: as they come, cut anywhere, and after lost connections."""

import asyncio
import json
import time
from collections.abc import Iterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore import AsyncLongshore, Longshore
from longshore.client import NoAnswerError, UnauthorizedError
from longshore.client.event_stream import TaskEvent, task_event
from tests.client.scripted import EVENTS, HOLD, Scripted, chunk, json_answer

ODD = "a\u2028b\u2029c\x85d\x0be\u00e9\U0001f600"
TIMES = {"last_run_date": None, "last_modified": "2026-05-26T12:00:00Z", "created_date": "2026-05-26T12:00:00Z"}
TASK = {
    "id": 7, "chain": 1, "desc": "", "state": {"code": "INPROGRESS", **TIMES}, "trigger": {}, "target": {}, "logs": [],
}  # fmt: skip
STATE = json.dumps({"code": "DONE", **TIMES})
LINES = [":", "retry: 2000", "", "event: log", f"data: {json.dumps({'msg': ODD}, ensure_ascii=False)}", "id: 0-1", "",
         "event:state", f"data:{STATE[:8]}", f"data: {STATE[8:]}", "id: 1-1", "", "data", "", "event: progress",
         'data: {"run": 1, "attempt": 1, "rows": 2, "bytes": 3}', "",
         "event: novelty", "data: {}", "", "event: end", "data: null", ""]  # fmt: skip


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    server.add("/tasks/7", json_answer(TASK))
    yield server
    server.close()


def log(number: int) -> bytes:
    return chunk(f'event: log\ndata: {{"msg": "entry {number}"}}\nid: 0-{number}\n\n')


def events_of(stream: list[bytes]) -> list[TaskEvent]:
    """Return the events of a task whose stream arrives in these pieces."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/events"):
            return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter(stream))
        return httpx2.Response(200, json=TASK)

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as http_client:
        client = Longshore("http://127.0.0.1:1", "x:y", chain=1, http_client=http_client)
        return list(client.tasks.get(7).events())


@given(st.sampled_from(["\n", "\r", "\r\n"]), st.integers(1, 50))
def test_events_are_the_same_however_the_stream_is_cut(end: str, size: int) -> None:
    stream = (end.join(LINES) + end).encode() + (b"" if end != "\r" else b":")  # a byte behind a lone CR ends its line
    found = events_of([stream[at : at + size] for at in range(0, len(stream), size)])
    assert [event.kind for event in found] == ["log", "state", "progress", "end"]
    assert [event.id for event in found[:3]] == ["0-1", "1-1", ""]
    assert found[0].entry
    assert found[0].entry.msg == ODD
    assert found[1].state
    assert found[1].state.code == "DONE"
    assert found[2].progress
    assert (found[2].progress.rows, found[3].state) == (2, None)


def test_unknown_events_are_left_out_and_a_credential_that_ended_is_an_error() -> None:
    assert task_event(httpx2.ServerSentEvent("novelty", "{}", "")) is None
    with pytest.raises(UnauthorizedError):
        task_event(httpx2.ServerSentEvent("unauthorized", "null", ""))
    for garbage in ("<html>", "[" * 100_000):
        with pytest.raises(NoAnswerError):
            task_event(httpx2.ServerSentEvent("state", garbage, ""))


def test_stream_that_is_not_of_events_or_has_an_event_without_end_is_refused_at_once() -> None:
    with pytest.raises(NoAnswerError, match="not Longshore's"):
        events_of([b"data: " + b"x" * 1_000_000] * 11)

    def handle(request: httpx2.Request) -> httpx2.Response:
        return (
            httpx2.Response(200, html="<h1>Hello</h1>")
            if "events" in request.url.path
            else httpx2.Response(200, json=TASK)
        )

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as http_client:
        client = Longshore("http://127.0.0.1:1", "x:y", chain=1, http_client=http_client)
        with pytest.raises(NoAnswerError, match="not Longshore's"):
            next(client.tasks.get(7).events())


def test_events_come_while_the_stream_stays_open(scripted: Scripted) -> None:
    scripted.add("/tasks/7/events", [EVENTS, chunk("retry: 2000\n\n"), log(1), HOLD])
    began = time.monotonic()
    with Longshore(scripted.address, "x:y", chain=1) as client:
        first = next(client.tasks.get(7).events())
    assert (first.kind, first.id) == ("log", "0-1")

    async def run() -> TaskEvent:
        async with AsyncLongshore(scripted.address, "x:y", chain=1) as awaited:
            return await anext((await awaited.tasks.get(7)).events())

    assert asyncio.run(run()) == first
    assert time.monotonic() - began < HOLD / 2


def test_stream_is_opened_again_after_each_cut_however_far_they_are_apart(scripted: Scripted) -> None:
    retry = chunk("retry: 400\n\n")
    for number in (1, 2):
        scripted.add("/tasks/7/events", [EVENTS, retry, log(number), 1.2])
    scripted.add("/tasks/7/events", [EVENTS, retry, log(3), chunk("event: end\ndata: null\n\n")])
    began = time.monotonic()
    with Longshore(scripted.address, "x:y", chain=1, retry_for=1) as client:
        events = list(client.tasks.get(7).events())
    assert [event.id for event in events] == ["0-1", "0-2", "0-3", "0-3"]
    assert time.monotonic() - began > 2 * (1.2 + 0.4)  # the service asks for a pause before it is asked again
    opened = [headers for path, headers in scripted.seen if path.endswith("/events")]
    assert [headers.get("last-event-id") for headers in opened] == [None, "0-1", "0-2"]


def test_bytes_of_a_stream_come_as_they_are_sent(scripted: Scripted) -> None:
    scripted.add("/events", [EVENTS, chunk("first"), HOLD])
    began = time.monotonic()
    with Longshore(scripted.address, "x:y", chain=1) as client, client.stream("GET", "/events") as answer:
        assert next(iter(answer.chunks)) == b"first"
    assert time.monotonic() - began < HOLD / 2
