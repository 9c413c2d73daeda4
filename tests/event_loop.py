"""The application in the event loop of a test, and the processor time that each request takes in that loop.

`time.thread_time` counts the loop's thread alone: neither what runs in other threads, nor other processes, nor waiting.
"""

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import structlog
from litestar.types import ASGIApp

from longshore import settings_sources, web
from longshore.api.compression import with_compression
from longshore.api.middleware import with_middleware
from longshore.api.proxies import behind_proxies
from longshore.api.request_head import refuse_malformed
from longshore.telemetry import logs

STREAM_SECONDS = 0.1  # that an answer without an end is read
MAX_SECONDS = 0.05  # of the loop's processor time, for any request


class AppRequest(msgspec.Struct, frozen=True):
    """A request. `path` is sent as it is; `body` is sent as JSON unless it is bytes."""

    method: str
    path: str
    body: Any = None
    query: str = ""
    headers: dict[str, str] = {}
    name: str = ""
    """Its oddity."""


class AppAnswer(msgspec.Struct, frozen=True):
    """An answer, and the seconds of the loop's processor time that it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


@contextlib.asynccontextmanager
async def application(url: str, data: str, **more: str) -> AsyncIterator[ASGIApp]:
    """Run the application, with all that an API process has, in the running loop."""
    values = {"DATA": data, "DATABASE_URL": url, "CREDENTIAL_RATE": "", "ADDRESS_RATE": "", "LOG_FORMAT": "json"}
    values |= {name.upper(): value for name, value in more.items()}
    chosen = settings_sources.load({f"LONGSHORE_{name}": value for name, value in values.items()}).settings
    logs.configure(chosen)
    built = web.build(chosen)
    web.prepare(built)
    async with built.lifespan():
        gc.collect()
        gc.freeze()  # as `web.create` does
        try:
            app = with_middleware(with_compression(refuse_malformed(built)))
            yield behind_proxies(app, chosen.proxies) if chosen.proxies else app
        finally:
            gc.unfreeze()
            structlog.reset_defaults()


async def ask(app: ASGIApp, asked: AppRequest, headers: Iterable[tuple[str, str]] = ()) -> AppAnswer:
    """Send one request and read its answer; one without an end for STREAM_SECONDS."""
    body = (
        asked.body
        if isinstance(asked.body, bytes)
        else b""
        if asked.body is None
        else json.dumps(asked.body, separators=(",", ":")).encode()
    )
    given = {"host": "127.0.0.1", **dict(headers), **asked.headers}
    if asked.body is not None:
        given |= {"content-type": "application/json", "content-length": str(len(body))}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": asked.query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
    left = [{"type": "http.request", "body": body, "more_body": False}]
    gone = asyncio.Event()
    parts: list[bytes] = []
    start: dict[str, Any] = {}

    async def receive() -> Any:
        if left:
            return left.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            parts.append(message.get("body", b""))

    running = asyncio.ensure_future(app(scope, receive, send))  # type: ignore[arg-type]
    began = time.thread_time()
    endless = asked.path.endswith("/events")
    await asyncio.wait({running}, timeout=STREAM_SECONDS if endless else 60)
    gone.set()
    await running
    seconds = time.thread_time() - began
    fields = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return AppAnswer(start["status"], fields, b"".join(parts), seconds)
