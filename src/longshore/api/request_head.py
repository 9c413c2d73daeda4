"""Middleware that refuses requests whose head is not valid HTTP, before anything reads them.

One Host field with a valid value (RFC 9112, section 3.2; RFC 9110, section 7.2), and a path in normal form: one address
for one thing, so that no proxy and no rule by path sees another path than the service does (RFC 3986, section 6.2.2).
"""

import ipaddress
import re

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from longshore.api.middleware import METHODS
from longshore.api.problems import MEDIA_TYPE, problem
from longshore.validation import Violation

HOST = re.compile(
    rb"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]{0,5}))?"
)
MAX_PORT = 65_535
# Segments of RFC 3986's `pchar` that are not empty and no dots alone, without an encoded slash or backslash.
PATH = re.compile(
    rb"/|(?:/(?!(?:\.|%2[Ee]){1,2}(?:/|$))"
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%(?!2[Ff]|5[Cc])[0-9A-Fa-f]{2})+)+"
)
OF_THE_SERVER = "*"
"""The target of `OPTIONS *`, which asks about the whole service (RFC 9110, section 9.3.7)."""


def refuse_malformed(app: ASGIApp) -> ASGIApp:
    """Return the application behind a check of each request's head."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
        elif (violation := host_violation(scope)) is not None:
            await _answer(
                scope, send, "bad-request", "The request has one fault.", [Violation(violation, parameter="Host")]
            )
        elif scope["path"] == OF_THE_SERVER and scope["method"] == "OPTIONS":
            allow = [(b"allow", ", ".join(sorted(METHODS)).encode())]
            await send({"type": "http.response.start", "status": 204, "headers": allow})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif not PATH.fullmatch(scope["raw_path"]):
            await _answer(scope, send, "not-found", "There is nothing at this path; paths have one normal form here.")
        else:
            await app(scope, receive, send)

    return checked


def host_violation(scope: HTTPScope) -> str | None:
    """Return what is wrong with the Host fields of a request, or None."""
    given = [value for name, value in scope["headers"] if name == b"host"]
    # RFC 9112, section 3.2, asks it of HTTP/1.1 alone. Granian gives an empty field where a request has none.
    if scope["http_version"] in ("1", "1.0") and given in ([], [b""]):
        return None
    if len(given) != 1:
        return f"expected one Host field, got {len(given)}"
    match = HOST.fullmatch(given[0])
    if match is None or int(match["port"] or 0) > MAX_PORT or not _is_literal(match["literal"]):
        return "expected a host and, where it is not the scheme's own, a port, such as exports.example.com:8080"
    return None


def _is_literal(text: bytes | None) -> bool:
    try:
        return text is None or bool(ipaddress.IPv6Address(text.decode()))
    except ValueError:
        return False


async def _answer(
    scope: HTTPScope, send: Send, kind: str, detail: str, violations: list[Violation] | None = None
) -> None:
    found = problem(kind, detail, scope["state"]["request_id"], violations)
    body = msgspec.json.encode(found)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
