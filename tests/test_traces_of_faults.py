"""Traces of what goes wrong: a lost worker, errors, a collector that does not answer; of what stops, and of nothing."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.collector import PROCESS, WAIT, collecting, create, hanging, of_task, only, trace_to
from tests.faults.held import ROWS, TAKEN_OVER, Hold, messages, write_source
from tests.service import Longshore, ended, free_port

EXPORTING = 25  # seconds that what takes a moment may take on a busy machine; a collector would hold it up for longer


def test_an_attempt_whose_worker_is_lost_and_the_next_one_are_in_one_trace(
    new_service: Callable[..., Longshore], monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        trace_to(monkeypatch, collector.address)
        service = new_service(heartbeat_timeout="1")
        catalog = str(write_source(service))
        service.start_api(catalog=catalog)
        lost = service.start("worker", catalog=catalog)
        with service.client() as client, Hold.row(service, ROWS) as last_row:
            task = create(client)
            last_row.reached()
            collector.until(lambda spans: any(span.name == "COPY" for span in spans))
            lost.send_signal(signal.SIGKILL)
            lost.wait()
            last_row.release()
            service.start("worker", catalog=catalog)
            assert messages(ended(client, task)) == TAKEN_OVER
            spans = of_task(collector, task)
        request = only(spans, "POST /tasks")
        attempt = only(spans, PROCESS)  # that of the worker that was lost has no end
        waits = [span for span in spans if span.name == WAIT]
        assert [span.attributes["longshore.attempt"] for span in waits] == [1, 2]
        assert {span.parent for span in (*waits, attempt)} == {request.id}
        assert attempt.attributes["longshore.attempt"] == 2
        first = [span for span in spans if span.name == "COPY" and span.parent != attempt.id]
        second = [span for span in spans if span.name == "COPY" and span.parent == attempt.id]
        assert first
        assert {span.trace for span in first} == {request.trace}
        assert sum(span.attributes["longshore.rows"] for span in second) == ROWS
        assert {span.instance for span in first} == {waits[0].instance} != {attempt.instance} == {waits[1].instance}
        found = next(line for line in service.logged() if line["event"] == "lost attempt found")
        assert (found["task"], found["attempt"]) == (task, 1)


def test_errors_mark_their_spans_as_failed_without_their_messages(
    new_service: Callable[..., Longshore], monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        trace_to(monkeypatch, collector.address)
        service = new_service(rows=100)
        service.start("worker")
        service.start_api()
        with service.client() as client:
            token = client.headers["authorization"]
            service.sql("alter table loyalty.wallet_ledger rename to away")
            task = create(client)
            assert ended(client, task)["state"]["code"] == "ERROR"
            service.sql("alter table longshore.runs rename to away")
            assert client.get(f"/tasks/{task}/runs", params={"offset": "7"}).status_code == 500
            spans = of_task(collector, task)
            attempt = only(spans, PROCESS)
            failing = collector.until(lambda spans: any(span.attributes.get("error.type") == "500" for span in spans))
        assert attempt.failed
        assert attempt.attributes["error.type"] == "UndefinedTableError"
        [(event, about)] = attempt.events
        assert event == "exception"
        assert about["exception.type"] == "UndefinedTableError"
        assert "in run" in about["exception.stacktrace"]
        assert "finish" not in {span.name for span in spans}
        request = next(span for span in failing if span.attributes.get("error.type") == "500")
        assert request.failed
        assert request.name == "GET /tasks/{id}/runs"
        assert [about["exception.type"] for _, about in request.events] == ["UndefinedTableError"]
        collector.spans()
        for secret in (token.split(":")[1], "does not exist", "a test", "offset=7", "select "):
            assert secret.encode() not in collector.raw, secret


def test_a_process_that_stops_sends_its_last_spans(
    new_service: Callable[..., Longshore], monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        trace_to(monkeypatch, collector.address, delay=3_600_000)
        service = new_service(rows=100)
        worker, api = service.start("worker"), service.start_api()
        with service.client() as client:
            task = create(client)
            ended(client, task)
        assert collector.spans() == []
        worker.terminate()
        assert worker.wait(20) == 0
        assert {span.name for span in collector.spans()} == {WAIT, PROCESS, "plan", "COPY", "publish", "finish"}
        api.terminate()
        assert api.wait(20) == 0
        assert "POST /tasks" in {span.name for span in collector.spans()}


@pytest.mark.parametrize("how", ["away", "hangs"])
def test_collector_that_does_not_answer_delays_nothing(
    new_service: Callable[..., Longshore], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(hanging()) if how == "hangs" else f"http://127.0.0.1:{free_port()}"
        trace_to(monkeypatch, address)
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")  # which the polls fill
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(2 * EXPORTING))
        service = new_service(rows=20_000)
        worker, api = service.start("worker"), service.start_api()
        slowest = 0.0
        with service.client() as client:
            ended(client, create(client))  # the worker has begun
            for _ in range(3):
                began = time.monotonic()
                task = create(client)
                assert ended(client, task)["state"]["code"] == "DONE"
                assert time.monotonic() - began < EXPORTING
            for _ in range(1000):
                began = time.monotonic()
                assert client.get(f"/tasks/{task}").status_code == 200
                slowest = max(slowest, time.monotonic() - began)
        assert slowest < EXPORTING
        for process in (worker, api):
            began = time.monotonic()
            process.terminate()
            assert process.wait(60) == 0
            assert time.monotonic() - began < EXPORTING


@pytest.mark.parametrize("traced", [False, True])
def test_process_without_tracing_imports_no_sdk_and_no_exporter(
    new_service: Callable[..., Longshore], monkeypatch: pytest.MonkeyPatch, traced: bool
) -> None:
    with collecting() as collector:
        trace_to(monkeypatch, collector.address)
        if not traced:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        service = new_service(rows=100)
        monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # lists every import on standard error
        worker, api = service.start("worker"), service.start_api()
        monkeypatch.delenv("PYTHONPROFILEIMPORTTIME")
        with service.client() as client:
            assert ended(client, create(client))["state"]["code"] == "DONE"
        for process in (worker, api):
            process.terminate()
            assert process.wait(20) == 0
        loaded = service.log_file.read_text()
        assert " longshore.worker.process\n" in loaded
        assert " longshore.web\n" in loaded
        for module in ("opentelemetry.sdk", "opentelemetry.exporter", "requests"):
            assert (f" {module}\n" in loaded) is traced, module
        assert bool(collector.spans()) is traced
        rows = service.sql("select traceparent from longshore.tasks where chain_id <> 0")
        assert [row["traceparent"] is not None for row in rows] == [traced]
