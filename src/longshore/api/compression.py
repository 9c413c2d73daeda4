"""Middleware that compresses JSON answers with gzip, where the client accepts that (RFC 9110, section 12.5.3).

An answer that holds a secret is never compressed: its length would depend on how much of the secret a request repeats,
which an observer of TLS can measure (BREACH, https://www.breachattack.com). So these answers are not compressed:

- to other methods than GET, as a secret that is shown once is in the answer to a POST;
- with signed addresses or a token, see SECRET_PATHS;
- to requests with a cookie, which a page of another site can make a browser send as often as it likes.

Result files are served as they are stored: their lengths, ranges and digests are of those bytes.

An answer with an `ETag` is not compressed either. A strong tag is of one sequence of bytes (RFC 9110, section 8.8.3.3),
and a tag for each coding would no longer be `"<id>-<revision>"`, which clients compare with the revisions of webhooks.
"""

import asyncio

from isal import igzip
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, HTTPScope, Message, Receive, Scope, Send

SECRET_PATHS = frozenset(
    {
        "/delta-sharing/profile",
        "/tasks/{id}/download_url",
        "/tasks/{id}/runs/{run}/download_url",
        "/tasks/{id}/runs/{run}/files",
    }
)
"""Paths whose answers to GET have signed addresses or a token."""

RESULT_FILES = "/results/{location}"

MEDIA_TYPES = (b"application/json", b"application/problem+json")
MIN_BYTES = 1024  # a smaller answer fits one packet anyway
# igzip compresses 64 KiB in 0.3 ms; what is larger would hold the event loop.
MAX_LOOP_BYTES = 64 * 1024
LEVEL = 1
UNCOMPRESSED_FIELDS = (b"content-encoding", b"etag")  # fields of answers that stay as they are
VARY = (b"vary", b"accept-encoding")


def with_compression(app: ASGIApp) -> ASGIApp:
    """Return an ASGI application whose JSON answers are compressed."""

    async def compressed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "GET":
            await app(scope, receive, send)
        else:
            await app(scope, receive, _CompressedAnswer(scope, send).send)

    return compressed


class _CompressedAnswer:
    """The messages of one answer, of which the first waits for the second one, which has the body."""

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._start: HTTPResponseStartEvent | None = None

    async def send(self, message: Message) -> None:
        """Send a message of the answer, compressed where that is possible."""
        if message["type"] == "http.response.start":
            if _is_json(message) and self._scope.get("path_template") not in (*SECRET_PATHS, RESULT_FILES):
                self._start = {**message, "headers": [*message["headers"], VARY]}
                return
        elif (start := self._start) is not None and message["type"] == "http.response.body":
            self._start = None
            body = message["body"]
            if not message.get("more_body") and len(body) >= MIN_BYTES and accepts_gzip(self._scope):
                body = _gzip(body) if len(body) <= MAX_LOOP_BYTES else await asyncio.to_thread(_gzip, body)
                message = {**message, "body": body}
                fields = [field for field in start["headers"] if field[0] != b"content-length"]
                fields += [(b"content-encoding", b"gzip"), (b"content-length", str(len(body)).encode())]
                start = {**start, "headers": fields}
            await self._send(start)
        await self._send(message)


def accepts_gzip(scope: HTTPScope) -> bool:
    """Return whether a request accepts gzip at least as readily as no coding, and has no cookie."""
    if any(name == b"cookie" for name, _ in scope["headers"]):
        return False
    field = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding")
    codings: dict[str, float] = {}
    for part in field.decode("latin-1").split(","):
        coding, _, weight = part.partition(";")
        codings[coding.strip().lower()] = _weight(weight)
    gzip = codings.get("gzip", codings.get("x-gzip", codings.get("*", 0.0)))
    return gzip > 0 and gzip >= codings.get("identity", 0.0)


def _weight(parameter: str) -> float:
    """Return the weight in `q=0.5`; 1 without one, 0 for one that cannot be read."""
    name, _, value = parameter.partition("=")
    if not name.strip():
        return 1.0
    try:
        return float(value) if name.strip().lower() == "q" else 1.0
    except ValueError:
        return 0.0


def _is_json(start: HTTPResponseStartEvent) -> bool:
    fields = dict(start["headers"])
    media_type = fields.get(b"content-type", b"").partition(b";")[0].strip()
    return start["status"] != 206 and media_type in MEDIA_TYPES and fields.keys().isdisjoint(UNCOMPRESSED_FIELDS)


def _gzip(body: bytes) -> bytes:
    return igzip.compress(body, LEVEL, mtime=0)
