"""OpenTelemetry traces: one for each run, from the request for it to its last COPY.

Tracing is on if the environment names a collector (OTEL_EXPORTER_OTLP_ENDPOINT), and is configured by OTEL_* variables
alone. Otherwise spans record nothing. The trace that a task's spans belong to is kept in its row as a
`traceparent` (https://www.w3.org/TR/trace-context/), so any process can add to it: `with tracing.span("shard",
parent=traceparent):`.

Error messages may quote a row or a parameter, so spans have the type and the traceback of an error, not its message;
the log has it, under the same `trace_id`.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

ADDRESSES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_TIMEOUT_SECONDS = 5.0  # for the last spans when the process ends

Attributes = Mapping[str, str | int | float | bool]
Kind = Literal["internal", "server", "client", "consumer"]

NO_SPAN: AbstractContextManager[Any] = contextlib.nullcontext(INVALID_SPAN)
NO_TRACER = NoOpTracer()

_tracer: Tracer = NO_TRACER  # one for each process, as OpenTelemetry's provider


def is_exporting() -> bool:
    """Return whether this process exports traces."""
    return _tracer is not NO_TRACER


def is_configured(environment: Mapping[str, str]) -> bool:
    """Return whether the environment configures an exporter of spans."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return any(environment.get(name) for name in ADDRESSES) and not disabled and exporter != "none"


@contextlib.asynccontextmanager
async def exporting(process: str) -> AsyncIterator[None]:
    """Export traces while the context is open, if the environment configures that; send the last spans at its end.

    `process`: `api` or `worker`, for the name of the service if the environment has none.
    """
    global _tracer  # noqa: PLW0603  # one for each process, so that no function needs it as a parameter
    if not is_configured(os.environ):
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from longshore import __version__

    usual = {
        "service.name": f"longshore-{process}",
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    resource = Resource.create({**usual, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("longshore", __version__)
    try:
        yield
    finally:
        _tracer = NO_TRACER
        # A daemon thread, so that a collector that hangs does not keep the process alive.
        flushing = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_TIMEOUT_SECONDS)


@contextlib.contextmanager
def span(  # noqa: PLR0913 (the options of a span, by keyword)
    name: str,
    attributes: Attributes | None = None,
    *,
    parent: str | None = None,
    link: str | None = None,
    started_seconds_ago: float = 0.0,
    kind: Kind = "internal",
) -> Iterator[Span]:
    """Return a span as a context; an error that leaves the context marks it as failed.

    `parent`, `link`: the `traceparent` of the span's parent, and of one that it links to. Without a parent, the current
    span is the parent, or the span begins a trace. The context yields the span, for `set_attributes`.
    """
    before = parent and _remote(parent)
    linked = link and _remote(link)
    found = _tracer.start_span(
        name,
        context=set_span_in_context(before) if before else None,
        kind=SpanKind[kind.upper()],
        attributes=attributes,
        links=[Link(linked.get_span_context())] if linked else (),
        start_time=time.time_ns() - int(started_seconds_ago * 1e9),
    )
    with use_span(found, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield found
        except Exception as error:
            record_error(error)
            raise


def add_attributes(attributes: Attributes) -> None:
    """Add attributes to the current span."""
    get_current_span().set_attributes(attributes)


def record_error(error: BaseException) -> None:
    """Record an error in the current span and mark the span as failed."""
    kind = type(error).__qualname__
    where = "".join(traceback.format_tb(error.__traceback__))
    get_current_span().add_event("exception", {"exception.type": kind, "exception.stacktrace": where})
    mark_failed(kind)


def mark_failed(kind: str) -> None:
    """Mark the current span as failed; `kind`: the type of the error, from a small set."""
    found = get_current_span()
    found.set_attributes({"error.type": kind})
    found.set_status(StatusCode.ERROR)


def current() -> str | None:
    """Return the `traceparent` of the current span; None without a span."""
    context = _context()
    return context and f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def trace_id() -> str | None:
    """Return the id of the current trace; None if it is not exported."""
    context = _context()
    return f"{context.trace_id:032x}" if context and context.trace_flags.sampled else None


def _context() -> SpanContext | None:
    found = get_current_span().get_span_context()
    return found if found.is_valid else None


def _remote(traceparent: str) -> Span | None:
    """Return the remote span that a `traceparent` names; None if it is invalid."""
    found = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context()))
    return found if found.get_span_context().is_valid else None
