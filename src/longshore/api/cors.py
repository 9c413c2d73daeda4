"""Middleware that says what pages of configured origins may send and read (setting `cors_origins`).

It wraps what refuses malformed requests, so that pages can read those answers too. The answer to a preflight request
does not count for a limit: browsers send them by themselves, and read no answer behind a preflight that is refused.
https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Collection

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from longshore.api.bodies import BytesResponse
from longshore.api.request_head import SINGLE_FIELDS

OF_THE_CONNECTION = {"Content-Encoding", "Origin", "Sec-Fetch-Site", "Transfer-Encoding"}
"""Fields that browsers set themselves, or that the API refuses."""

ALLOWED_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ALLOWED_HEADERS = [
    *(name for name in SINGLE_FIELDS.values() if name not in OF_THE_CONNECTION),
    "Accept", "Accept-Language", "Content-Language", "delta-sharing-capabilities", "fileidhash", "If-Match",
    "If-None-Match", "Prefer", "Range", "traceparent", "tracestate",
]  # fmt: skip
EXPOSED_HEADERS = [
    "Accept-Patch", "Accept-Ranges", "Allow", "Content-Disposition", "Content-Range", "delta-sharing-capabilities",
    "Delta-Table-Version", "ETag", "fileidhash", "Idempotent-Replayed", "Link", "Location", "Preference-Applied",
    "RateLimit", "RateLimit-Policy", "Repr-Digest", "Retry-After", "WWW-Authenticate", "X-Created-By", "X-Log-Length",
    "X-Request-Id", "X-Row-Count",
]  # fmt: skip
PREFLIGHT_SECONDS = 600  # that a browser may keep the answer to a preflight request

PREFLIGHT = {
    "Access-Control-Allow-Methods": ", ".join(ALLOWED_METHODS),
    "Access-Control-Allow-Headers": ", ".join(ALLOWED_HEADERS),
    "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
}
EXPOSED = (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode())
VARY = (b"vary", b"origin")


def with_cors(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Return the application for pages of these origins too. Cookies are never allowed."""
    allowed = {origin.encode() for origin in origins}

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        fields = dict(scope["headers"])
        origin = fields.get(b"origin")
        added = scope["state"].setdefault("headers", [])
        added.append(VARY)
        if origin not in allowed:
            await app(scope, receive, send)
            return
        added.append((b"access-control-allow-origin", origin))
        if _is_preflight(scope, fields):
            await BytesResponse(b"", PREFLIGHT, 204).to_asgi_response()(scope, receive, send)
        else:
            added.append(EXPOSED)
            await app(scope, receive, send)

    return wrapped


def _is_preflight(scope: HTTPScope, fields: dict[bytes, bytes]) -> bool:
    """Return whether a browser asks before a request. Another OPTIONS asks for the methods of its path."""
    return scope["method"] == "OPTIONS" and b"access-control-request-method" in fields
