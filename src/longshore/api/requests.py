"""What every request gets, whatever answers it: an id, a line in the log, metrics, security headers, and HEAD.

Wraps the whole application, so that answers from before the routing have them as well.
"""

import re
import time
import uuid

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

log = structlog.get_logger()

REQUESTS = Counter("longshore_http_requests", "HTTP requests answered.", ["method", "status"])
SECONDS = Histogram(
    "longshore_http_request_seconds", "Seconds from a request to the last byte of its answer.", ["method"]
)

GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


def with_request_id(app: ASGIApp) -> ASGIApp:
    """Wrap an ASGI application."""

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

    async def answer(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [*message["headers"], (b"x-request-id", request_id.encode()), *SECURITY]
            message = {**message, "headers": headers}
        elif head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    try:
        await app(scope, receive, answer)
    finally:
        seconds = time.perf_counter() - began
        label = method if method in METHODS else "other"
        REQUESTS.labels(label, status).inc()
        SECONDS.labels(label).observe(seconds)
        log.info("request", method=method, path=path, status=status, ms=round(seconds * 1000, 1))


def _request_id(scope: HTTPScope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and GIVEN_ID.fullmatch(value):
            return value.decode()
    return uuid.uuid4().hex
