"""Middleware for every request: an id, a line in the log, metrics, security headers, HEAD, and limits of the body.

It wraps the whole application, so that answers from before the routing have them too.
"""

import asyncio
import os
import re
import time
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    HTTPScope,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)
from prometheus_client import Counter, Histogram

from longshore.errors import ProblemError
from longshore.telemetry import tracing
from longshore.validation import ValidationError, Violation

log = structlog.get_logger()

REQUESTS = Counter("longshore_http_requests", "HTTP requests answered.", ["method", "status"])
SECONDS = Histogram(
    "longshore_http_request_seconds",
    "Seconds from a request to the last byte of its answer; ?wait: of requests that asked to wait.",
    ["method", "route"],
)

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

BODY_SECONDS = 10  # in which a body has to arrive: 64 KiB at most, of a query of a shared table 1 MiB
# Bounds for reading the rest of a refused body before the answer.
MAX_UNREAD_BYTES = 2 * 1024 * 1024
UNREAD_SECONDS = 1

# Against frames, scripts and reads of other sites, caches of personal data, and later requests without TLS.
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
OVER_TLS = (*SECURITY, (b"strict-transport-security", b"max-age=31536000"))
NAMES = frozenset(name for name, _ in OVER_TLS)

UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})  # requested every few seconds by machines
UNKNOWN = frozenset({401, 403, 404, 429})  # the task in the path may be another chain's
OF_TASK = "/tasks/{id}"
TASK_ID = re.compile("[0-9]{1,19}")

# Looking a metric up by its labels takes longer than counting.
_requests = cache(REQUESTS.labels)
_seconds = cache(SECONDS.labels)


def with_middleware(app: ASGIApp) -> ASGIApp:
    """Return an ASGI application behind this middleware."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        await _answer(app, scope, receive, send)

    return wrapped


async def _answer(app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
    request_id = _request_id(scope)
    scope.setdefault("state", {})["request_id"] = request_id
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    method, path = scope["method"], scope["path"]
    head = method == "HEAD"
    if head:  # RFC 9110, 9.3.2: as GET, without the content
        scope["method"] = "GET"
        scope["state"]["head"] = True
    began = time.perf_counter()
    status = 500
    security = OVER_TLS if scope["scheme"] == "https" else SECURITY
    fields = dict(scope["headers"])
    declared = b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"
    body = RequestBody(fields, receive) if declared else None

    async def answer(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [_with_head(*field) for field in message["headers"]]
            headers += [(b"x-request-id", request_id.encode()), *scope["state"].get("headers", ())]
            names = {name for name, _ in headers}  # in lower case, as ASGI demands
            if body is not None and not await body.read_rest() and b"connection" not in names:
                headers.append((b"connection", b"close"))
            headers += security if names.isdisjoint(NAMES) else [item for item in security if item[0] not in names]
            message = {**message, "headers": headers}
        elif head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    with _span(scope, method) as span:
        if (trace_id := tracing.trace_id()) is not None:
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
        try:
            await app(scope, receive if body is None else body.receive, answer)
        finally:
            for call in scope["state"].get("at_end", ()):
                call()
            seconds = time.perf_counter() - began
            label = method if method in METHODS else "other"
            _count(scope, label, status, seconds)
            log.info("request", method=method, path=path, status=status, ms=round(seconds * 1000, 1))
            if tracing.is_exporting():
                _complete_span(span, label, scope.get("path_template", ""), status)


def _count(scope: HTTPScope, label: str, status: int, seconds: float) -> None:
    """Count an answer in the metrics of its method and route, and name its task in the log."""
    route = scope.get("path_template", "")
    _requests(label, status).inc()
    _seconds(label, f"{route}?wait" if "waits" in scope["state"] else route).observe(seconds)
    # A refused path may hold more digits than Python makes a number of.
    if route.startswith(OF_TASK) and status not in UNKNOWN and TASK_ID.fullmatch(scope["path_params"]["id"]):
        bind_ids(task=int(scope["path_params"]["id"]))


def bind_ids(**ids: int) -> None:
    """Add ids such as `task` to the request's log lines and span, once they are known to be of the caller's chain."""
    structlog.contextvars.bind_contextvars(**ids)
    if tracing.is_exporting():
        tracing.add_attributes({f"longshore.{name}": id for name, id in ids.items()})


def _span(scope: HTTPScope, method: str) -> AbstractContextManager[Any]:
    """Return the server span of a request: https://opentelemetry.io/docs/specs/semconv/http/http-spans/.

    It has no query, as that may hold the signature of a download address.
    """
    if not tracing.is_exporting() or scope["path"] in UNTRACED:
        return tracing.NO_SPAN
    attributes: dict[str, str | int] = {
        "http.request.method": method if method in METHODS else "_OTHER",
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if (server := scope["server"]) is not None:
        attributes["server.address"] = server[0]
        if server[1] is not None:
            attributes["server.port"] = int(server[1])  # Granian gives text
    parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
    return tracing.span(method if method in METHODS else "HTTP", attributes, parent=parent, kind="server")


def _complete_span(span: Any, label: str, route: str, status: int) -> None:
    span.set_attributes({"http.response.status_code": status})
    if route:
        span.update_name(f"{'HTTP' if label == 'other' else label} {route}")
        span.set_attributes({"http.route": route})
    if status >= 500:
        tracing.mark_failed(str(status))


class RequestBody:
    """The body of a request: received within BODY_SECONDS of the first `receive`, and read to its end, within bounds.

    Before the answer, MAX_UNREAD_BYTES are read at most, for UNREAD_SECONDS.
    A body that is left unread on a connection would be taken for the next request, so the connection has to end then
    (RFC 9112, section 9.3).
    """

    def __init__(self, fields: dict[bytes, bytes], receive: Receive) -> None:
        """`fields`: of the request's head."""
        self._expects_continue = b"expect" in fields
        self._receive = receive
        self._whole = False
        self._is_answered = False
        self._over: float | None = None  # from the first `receive` on: the service may begin late

    async def receive(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        """Receive the next part of the body; after it, or once the answer has begun, wait for the connection's end.

        Raises ProblemError for a body that arrives too slowly, ValidationError for one that ends too early.
        """
        if self._whole or self._is_answered:
            return await self._receive()
        if self._over is None:
            self._over = asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._over):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError("too-slow", headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":  # Granian sends it for malformed chunks, too
            raise ValidationError([Violation("expected a whole body, in well-formed chunks where it is chunked", "")])
        self._whole = not message.get("more_body", False)
        return message

    async def read_rest(self) -> bool:
        """Read what is left of the body, within bounds, and return whether the connection can be used again.

        Reading would invite the body of a client that sent `Expect: 100-continue`, so that one is left unread.
        """
        if self._whole:
            return True
        if self._expects_continue:
            self._is_answered = True
            return False
        left = MAX_UNREAD_BYTES
        over = asyncio.get_running_loop().time() + UNREAD_SECONDS
        self._over = over if self._over is None else min(self._over, over)
        try:
            while not self._whole and left > 0:
                message = await self.receive()
                left -= len(message.get("body", b""))  # type: ignore[arg-type]  # bytes in every http.request
        except ProblemError:
            return False
        finally:
            self._is_answered = True
        return self._whole


def _with_head(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header field, with HEAD added to `Allow` where GET is allowed."""
    if name != b"allow":
        return name, value
    methods = {method.strip() for method in value.split(b",")}
    return name, b", ".join(sorted(methods | {b"HEAD"} if b"GET" in methods else methods))


def _request_id(scope: HTTPScope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return value.decode()
    return os.urandom(16).hex()
