"""Middleware that refuses requests whose head cannot be used, before anything else reads them.

- One `Host` field with a valid value (RFC 9112, section 3.2; RFC 9110, section 7.2).
- A path in normal form: one address for one thing, so that no proxy and no rule by path sees another path than the
  service does (RFC 3986, section 6.2.2).
- Fields that hold one value come once (RFC 9110, section 5.3): of two, some readers take the first, some the last.
- No content coding (RFC 9110, section 8.4), and no transfer coding but chunked (RFC 9112, section 6.1).
- At most MAX_HEAD_BYTES, and MAX_LIST_BYTES of each field that is a list: its items are parsed in the event loop.

Granian does not pass on the host of a target in absolute form (`GET http://host/path`), so `Host` counts there too.
"""

import ipaddress
import re
from collections import Counter
from itertools import chain

from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from longshore.api.bodies import BytesResponse
from longshore.api.guard import count_address
from longshore.api.middleware import METHODS
from longshore.api.problems import to_response
from longshore.api.service import AnyRequest
from longshore.errors import ProblemError
from longshore.validation import ValidationError, Violation, in_json

MAX_HEAD_BYTES = 256 * 1024
MAX_LIST_BYTES = 8 * 1024  # of a field that is a list, in all its lines

HOST = re.compile(
    rb"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]{0,5}))?"
)
MAX_PORT = 65_535
# Segments of RFC 3986's `pchar` that are not empty and no dots alone. No slash, backslash, letter, digit, `-`, `.` and
# `_` is encoded (section 6.2.2.2). `%7E` is allowed, as Java's URLEncoder writes a tilde.
PATH = re.compile(
    rb"/|(?:/(?!\.{1,2}(?:/|$))"
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]"
    rb"|%(?!2[D-Fd-f]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9Aa])[0-9A-Fa-f]{2})+)+"
)
DOUBLED = b"/delta-sharing//shares"
"""How a path begins that a client of the Delta Sharing protocol makes by adding `/shares` to an endpoint with a slash.
Other servers of the protocol take it, so it is an address of `/delta-sharing/shares` here too."""
CHAIN_PAGE = re.compile(rb"/console/[0-9]+/")
"""The address of a chain's console as it may be typed; all other addresses have no slash at their end."""
OF_THE_SERVER = "*"
"""The target of `OPTIONS *`, which asks about the whole service (RFC 9110, section 9.3.7)."""

SINGLE_FIELDS = {
    name.lower().encode(): name
    for name in (
        "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-Modified-Since", "If-Range",
        "If-Unmodified-Since", "Last-Event-ID", "Origin", "Sec-Fetch-Site", "Transfer-Encoding", "X-Request-Id",
        "X-Session-User-Id", "X-Session-Key", "X-Session-Chain-Id",
        "X-Spaaza-Session-User-Id", "X-Spaaza-Session-Key", "X-Spaaza-Session-Chain-Id",
    )
}  # fmt: skip
"""Fields that may come once, by their name in lower case."""

LIST_FIELDS = {
    name.lower().encode(): name
    for name in (
        "Accept-Encoding", "Content-Type", "Cookie", "delta-sharing-capabilities", "If-Match", "If-None-Match",
        "Prefer", "Range",
    )
}  # fmt: skip
"""Fields that the service reads as lists, of items or parameters, by their name in lower case."""

OTHER_NAMES = {name: name.replace(b"x-spaaza-", b"x-") for name in SINGLE_FIELDS if name.startswith(b"x-spaaza-")}
"""Fields that are also understood under another name, whose value must then be the same."""


def refuse_malformed(app: Litestar) -> ASGIApp:
    """Return the application behind a check of each request's head. All requests count for their address."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        if scope["raw_path"].startswith(DOUBLED):
            scope["path"] = scope["path"].replace("//", "/", 1)
            scope["raw_path"] = scope["raw_path"].replace(b"//", b"/", 1)
        elif CHAIN_PAGE.fullmatch(scope["raw_path"]):
            scope["path"], scope["raw_path"] = scope["path"][:-1], scope["raw_path"][:-1]
        error, for_server = _refusal(scope), _is_for_server(scope)
        if error is None and not for_server:
            await app(scope, receive, send)
            return
        scope["litestar_app"] = app  # as Litestar does, for `Request.app`
        request: AnyRequest = Request(scope, receive, send)
        answer = _methods_of_service(request) if error is None else to_response(request, error)
        await answer.to_asgi_response()(scope, receive, send)

    return checked


def _methods_of_service(request: AnyRequest) -> BytesResponse:
    try:
        count_address(request)
    except ProblemError as exceeded:
        return to_response(request, exceeded)
    return BytesResponse(b"", {"Allow": ", ".join(sorted(METHODS))}, 204)


def _refusal(scope: HTTPScope) -> ProblemError | None:
    """Return the problem of a request whose head cannot be used; None where it can."""
    fields = dict(scope["headers"])
    if violations := _head_violations(scope, fields):
        return ValidationError(violations)
    head_bytes = (
        len(scope["raw_path"]) + len(scope["query_string"]) + sum(map(len, chain.from_iterable(scope["headers"])))
    )
    if head_bytes > MAX_HEAD_BYTES:
        return ProblemError("head-too-large", f"The request's head has more than {MAX_HEAD_BYTES} bytes.")
    if head_bytes > MAX_LIST_BYTES and (name := _too_long_list(scope)) is not None:
        return ProblemError("head-too-large", f"The header field {name} has more than {MAX_LIST_BYTES} bytes.")
    if (coding := fields.get(b"content-encoding", b"").strip().lower()) not in (b"", b"identity"):
        detail = f"Expected a body without a content coding, got {in_json(coding.decode('latin-1'))}."
        return ProblemError("unsupported-coding", detail, {"accept-encoding": "identity"})
    if not PATH.fullmatch(scope["raw_path"]) and not _is_for_server(scope):
        return ProblemError("not-found", "There is nothing at this path; paths have one normal form here.")
    return None


def _too_long_list(scope: HTTPScope) -> str | None:
    """Return the name of a field that is a list of more than MAX_LIST_BYTES; None without one."""
    sizes = Counter[bytes]()
    for name, value in scope["headers"]:
        sizes[name] += len(value)
    return next((LIST_FIELDS[name] for name in sizes.keys() & LIST_FIELDS if sizes[name] > MAX_LIST_BYTES), None)


def _is_for_server(scope: HTTPScope) -> bool:
    return scope["path"] == OF_THE_SERVER and scope["method"] == "OPTIONS"


def _head_violations(scope: HTTPScope, fields: dict[bytes, bytes]) -> list[Violation]:
    """Return the violations of a request's header fields."""
    violations = []
    if (violation := _host_violation(scope)) is not None:
        violations.append(Violation(violation, parameter="Host"))
    names = [name for name, _ in scope["headers"]]
    if len(fields) < len(names):
        counts = Counter(name for name in names if name in SINGLE_FIELDS)
        violations += [
            Violation("expected once", parameter=SINGLE_FIELDS[name]) for name, count in counts.items() if count > 1
        ]
    for name, other in OTHER_NAMES.items():
        if name in fields and fields.get(other, fields[name]) != fields[name]:
            expected = f"expected the same value as in {SINGLE_FIELDS[other]}"
            violations.append(Violation(expected, parameter=SINGLE_FIELDS[name]))
    if fields.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        violations.append(Violation("expected chunked alone", parameter="Transfer-Encoding"))
    return violations


def _host_violation(scope: HTTPScope) -> str | None:
    """Return the violation of a request's Host fields; None where they are valid."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    # HTTP/1.0 needs no Host (RFC 9112, section 3.2). Granian passes an empty field where a request has none.
    if scope["http_version"] in ("1", "1.0") and hosts in ([], [b""]):
        return None
    if len(hosts) != 1:
        return f"expected one Host field, got {len(hosts)}"
    match = HOST.fullmatch(hosts[0])
    if match is None or int(match["port"] or 0) > MAX_PORT or not _is_literal(match["literal"]):
        return "expected a host and, where it is not the scheme's own, a port, such as exports.example.com:8080"
    return None


def _is_literal(text: bytes | None) -> bool:
    try:
        return text is None or bool(ipaddress.IPv6Address(text.decode()))
    except ValueError:
        return False
