"""What every request gets, whatever answers it: an id, a line in the log, metrics, security headers, HEAD, an end.

Wraps the whole application, so that answers from before the routing have them as well.
"""

import asyncio
import os
import re
import time
from functools import cache

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

log = structlog.get_logger()

REQUESTS = Counter("longshore_http_requests", "HTTP requests answered.", ["method", "status"])
SECONDS = Histogram(
    "longshore_http_request_seconds", "Seconds from a request to the last byte of its answer.", ["method", "route"]
)

GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
BODILESS = frozenset({"GET", "HEAD"})  # what a body means there is not defined, and nobody here reads one
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

BODY_SECONDS = 10  # that a body may take to come; it has 64 KiB at most

# Kept out: other sites' frames, scripts and reads, caches of what is personal, and a later request in the clear.
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

# Finding a metric by its labels takes longer than counting.
_requests = cache(REQUESTS.labels)
_seconds = cache(SECONDS.labels)


class TooSlowError(Exception):
    """The body did not come in time."""


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
    security = OVER_TLS if scope["scheme"] == "https" else SECURITY

    async def answer(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [*message["headers"], (b"x-request-id", request_id.encode()), *scope["state"].get("headers", ())]
            given = {name for name, _ in headers}  # in lower case, as ASGI demands
            headers += security if given.isdisjoint(NAMES) else [item for item in security if item[0] not in given]
            message = {**message, "headers": headers}
        elif head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    try:
        await app(scope, receive if method in BODILESS else _in_time(receive), answer)
    finally:
        seconds = time.perf_counter() - began
        label = method if method in METHODS else "other"
        _requests(label, status).inc()
        _seconds(label, scope.get("path_template", "")).observe(seconds)
        log.info("request", method=method, path=path, status=status, ms=round(seconds * 1000, 1))


def _in_time(receive: Receive) -> Receive:
    """Receive, but no longer than a body may take; what comes after the body is the end of the connection."""
    over = asyncio.get_running_loop().time() + BODY_SECONDS
    whole = False

    async def received() -> HTTPReceiveMessage | WebSocketReceiveMessage:
        nonlocal whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(over):
                message = await receive()
        except TimeoutError:
            raise TooSlowError from None
        whole = not message.get("more_body", False)
        return message

    return received


def _request_id(scope: HTTPScope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and GIVEN_ID.fullmatch(value):
            return value.decode()
    return os.urandom(16).hex()
