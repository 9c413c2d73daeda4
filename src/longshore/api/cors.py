"""The header fields that pages of configured origins may send and read (setting `cors_origins`)."""

from litestar.config.cors import CORSConfig

from longshore.api.request_head import SINGLE_FIELDS
from longshore.settings import Settings

OF_THE_CONNECTION = {"Content-Encoding", "Origin", "Sec-Fetch-Site", "Transfer-Encoding"}
"""Fields that browsers set themselves, or that the API refuses."""

ALLOWED_HEADERS = [
    *(name for name in SINGLE_FIELDS.values() if name not in OF_THE_CONNECTION),
    "delta-sharing-capabilities", "If-Match", "If-None-Match", "Prefer", "Range", "traceparent", "tracestate",
]  # fmt: skip
EXPOSED_HEADERS = [
    "Accept-Patch", "Accept-Ranges", "Allow", "Content-Disposition", "Content-Range", "Delta-Table-Version", "ETag",
    "Idempotent-Replayed", "Link", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Repr-Digest",
    "Retry-After", "WWW-Authenticate", "X-Created-By", "X-Log-Length", "X-Request-Id", "X-Row-Count",
]  # fmt: skip


def cors_config(chosen: Settings) -> CORSConfig | None:
    """Return what pages of the configured origins may do; None without any. Cookies are never allowed."""
    if not chosen.origins:
        return None
    return CORSConfig(
        allow_origins=chosen.origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        allow_credentials=False,
    )
