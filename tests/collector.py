"""An OpenTelemetry collector for tests: takes spans over HTTP, as real ones do, and gives them to be looked at."""

import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

from tests.receiver import Receiver, receiving
from tests.service import CHAIN, export_body

WAIT, PROCESS = "wait longshore.run", "process longshore.run"


class Span(msgspec.Struct, frozen=True):
    """A span as it arrived."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    began: float
    ended: float
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool
    service: str
    instance: str


class Collector:
    """The spans that came, and every byte of them."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.raw = b""

    @property
    def address(self) -> str:
        return self._receiver.url

    def spans(self) -> list[Span]:
        """All spans that have come so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                received = self._receiver.received.get_nowait()
                assert received.path == "/v1/traces"
                self.headers.append(received.headers)
                self.raw += received.body
                self._spans += _read(received.body)
        return list(self._spans)

    def until(self, enough: Callable[[list[Span]], bool], timeout: float = 30) -> list[Span]:
        """All spans, once there are enough of them."""
        deadline = time.monotonic() + timeout
        while not enough(found := self.spans()):
            assert time.monotonic() < deadline, [(span.name, span.attributes) for span in found]
            time.sleep(0.02)
        return found


def _read(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for sent in scope.spans:
                yield _span(sent, about)


def _span(sent: Sent, about: dict[str, Any]) -> Span:
    return Span(
        name=sent.name,
        kind=Sent.SpanKind.Name(sent.kind).removeprefix("SPAN_KIND_"),
        trace=sent.trace_id.hex(),
        id=sent.span_id.hex(),
        parent=sent.parent_span_id.hex(),
        began=sent.start_time_unix_nano / 1e9,
        ended=sent.end_time_unix_nano / 1e9,
        attributes=_attributes(sent.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in sent.links],
        events=[(event.name, _attributes(event.attributes)) for event in sent.events],
        failed=sent.status.code == 2,
        service=about["service.name"],
        instance=about["service.instance.id"],
    )


def _attributes(found: Any) -> dict[str, Any]:
    def value(given: AnyValue) -> Any:
        return getattr(given, given.WhichOneof("value") or "string_value")

    pairs: list[KeyValue] = list(found)
    return {pair.key: value(pair.value) for pair in pairs}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""
    with receiving() as receiver:
        yield Collector(receiver)


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """The address of a collector that takes connections and never answers."""
    taken: list[socket.socket] = []

    def take(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(listening.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=take, args=(listening,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in taken:
                connection.close()
            assert taken, "nobody called"


def trace_to(monkeypatch: pytest.MonkeyPatch, address: str, delay: int = 50) -> None:
    """Let the processes that are started from here on send spans there, `delay` ms after they ended."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", str(delay))


def create(client: httpx2.Client, headers: dict[str, str] | None = None, chain: int = CHAIN, **trigger: Any) -> int:
    answer = client.post("/tasks", json=export_body(chain=chain, **trigger), headers=headers)
    assert answer.status_code == 201, answer.text
    id: int = answer.json()["id"]
    return id


def of_task(collector: Collector, task: int, runs: int = 1) -> list[Span]:
    """All spans of the traces that a task is in, once so many runs of it and the requests for them have ended."""

    def consumers(spans: list[Span]) -> list[Span]:
        return [s for s in spans if s.kind == "CONSUMER" and s.attributes["longshore.task"] == task]

    def over(spans: list[Span]) -> bool:
        found = consumers(spans)
        ran = {span.attributes["longshore.run"] for span in found if span.name == PROCESS}
        return len(ran) == runs and {span.parent for span in found} <= {"", *(span.id for span in spans)}

    spans = collector.until(over)
    traces = {span.trace for span in consumers(spans)}
    return [span for span in spans if span.trace in traces]


def only(spans: list[Span], name: str) -> Span:
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, [span.name for span in spans]
    return found[0]
