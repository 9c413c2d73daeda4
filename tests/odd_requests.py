"""Requests that no client would send, made up byte by byte, for tests and `make fuzz`.

Each is one connection. Whatever is sent, the service must not answer 5xx: nobody without a credential can cause one,
and what a credential sends wrong is the sender's fault. No task has one of the ids, as some requests would wait for it.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.raw_http import request, sent

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get")
PATHS = (
    "/",
    "/sign-in",
    "/sign-in/passcode",
    "/healthz",
    "/readyz",
    "/docs",
    "/openapi.json",
    "/problems/forbidden",
    "/console/1764/tasks",
    "/console/1764/new",
    "/console/1764/tasks/{id}",
    "/console/1764/tasks/{id}/events",
    "/console/1764/tasks/{id}/pause",
    "/console/1764/tasks/{id}/resume",
    "/console/1764/tasks/{id}/backfill",
    "/console/static/console.js",
    "/docs/assets/swagger-ui.css",
    "/results/1764/{id}/1/x.csv",
    "/auth/login",
    "/auth/session",
    "/auth/sessions",
    "/tasks",
    "/tasks/preview",
    "/tasks/{id}",
    "/tasks/{id}/execute",
    "/tasks/{id}/cancel",
    "/tasks/{id}/pause",
    "/tasks/{id}/resume",
    "/tasks/{id}/backfill",
    "/tasks/{id}/backfills",
    "/tasks/{id}/backfills/{id}",
    "/tasks/{id}/progress",
    "/tasks/{id}/runs",
    "/tasks/{id}/runs/{id}",
    "/tasks/{id}/runs/latest",
    "/tasks/{id}/runs/{id}/manifest",
    "/tasks/{id}/runs/{id}/ack",
    "/tasks/{id}/runs/{id}/deliver",
    "/tasks/{id}/download_url",
    "/tasks/{id}/links",
    "/indexes",
    "/indexes/users",
    "/segments",
    "/segments/preview",
    "/segments/{id}",
    "/destinations",
    "/destinations/{id}",
    "/destination_kinds",
    "/webhooks",
    "/webhooks/{id}/deliveries",
    "/webhooks/{id}/secret",
    "/webhooks/{id}/enable",
    "/users",
    "/users/{id}",
    "/service_clients",
    "/service_clients/{id}",
    "/access_tokens",
    "/audit",
)
IDS = (
    "0",
    "4611686018427387904",
    "01",
    "1e1",
    "1.0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    30 * "9",
    "%00",
    "%ff",
    "%",
    "%zz",
    "%2F",
    "%2e%2e",
    "..",
    "x",
    "\u00e9",
    "6f1c1a52-6c5c-4a53-9f86-8f6d0d0f4a11",
    300 * "a",
    "1;a=b",
    "\\",
    "[",
    "*",
)
TAGS = (
    "*",
    '"1-1"',
    'W/"1-1"',
    '"1-1", "2-2"',
    '"',
    '""',
    "1-1",
    '"1-1-99999999999"',
    '"99999999999999999999-1"',
    ",,,",
    '"\xff"',
    5000 * '"a",',
    5000 * " ",
    "W/" * 2000,
)
VALUES = (
    "",
    " ",
    "*",
    "x",
    "[",
    "http://[",
    "http://a]/",
    "\xff\xfe",
    "0",
    "-1",
    "1e400",
    25 * "9",
    "a=b; a=c",
    "bytes=0-1",
    "bytes=-0",
    "bytes=" + 5000 * "9" + "-",
    "bytes=" + 300 * "0-0,",
    "wait=1e9",
    "wait=999999999",
    "respond-async",
    "retry-failed",
    2000 * "a",
    "unknown",
    "[::1]:80",
    "Bearer",
    "Bearer \xff:\xff",
    "Thu, 99 Jan 1970 00:00:00 GMT",
)
FIELDS = (
    "Cookie",
    "Range",
    "If-Range",
    "Prefer",
    "Last-Event-ID",
    "Idempotency-Key",
    "X-Request-Id",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "HX-Request",
    "HX-Current-URL",
    "Origin",
    "Sec-Fetch-Site",
    "traceparent",
    "Accept",
    "Accept-Encoding",
    "X-Session-User-Id",
    "X-Session-Key",
    "X-Session-Chain-Id",
    "Expect",
    "Upgrade",
    "TE",
)
HOSTS = (None, "", "[", "[::1", "a b", "a/b", "u@a", "a:x", "a:99999", "\xff", "a\r\nHost: b", "[::1]:80", "%zz")
QUERIES = (
    "",
    "?",
    "?limit=1e1",
    "?limit=1&limit=2",
    "?offset=-1",
    f"?offset={25 * '9'}",
    "?status=x",
    "?%",
    "?a=%00",
    "?=",
    "?&&",
    "?log_order=x",
    "?wait=x",
    "?expires=1&link=x&signature=x",
    "?campaign_id=1e1",
    "?%ff=%ff",
    "?limit=\xff",
)
MOMENTS = (
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "1899-12-31T23:59:59Z",
    "2200-12-31T23:59:59Z",
    "2201-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-03-29T02:30:00Z",
    "2016-12-31T23:59:60Z",
    "2026-05-26",
    "",
    "infinity",
    "-infinity",
    "now",
    "0000-00-00T00:00:00Z",
)
NUMBERS = (
    "0",
    "-1",
    "1e400",
    "-1e400",
    "1e-400",
    "1e10000",
    "1e9999999999999999999",
    "-1e-9999999999999999999",
    "9223372036854775808",
    "-9223372036854775809",
    400 * "9",
    "0.1",
    "1.0",
    "-0",
    "4294967296",
    "2147483648",
)
ODD = (
    *NUMBERS,
    "null",
    "true",
    "[]",
    "{}",
    '""',
    '"\\u0000"',
    '"\\ud800"',
    "NaN",
    '"' + 3000 * "a" + '"',
    "[[[[[[]]]]]]",
)


def odd_requests(seed: int, count: int, *credentials: str) -> Iterator[bytes]:
    """Make up requests, the same ones for the same seed, half of them with one of these header lines."""
    made = random.Random(seed)
    for _ in range(count):
        fields = [made.choice(credentials)] if credentials and made.random() < 0.5 else []
        path = made.choice(PATHS).replace("{id}", made.choice(IDS))
        if made.random() < 0.1:
            path = made.choice(
                ("/" + path, path + "/", path.replace("/", "//"), path + "%2F", "/." + path, path[1:], "*")
            )
        if made.random() < 0.4:
            path += made.choice(QUERIES)
        fields += [f"{name}: {made.choice(TAGS)}" for name in ("If-Match", "If-None-Match") if made.random() < 0.25]
        fields += [f"{made.choice(FIELDS)}: {made.choice(VALUES)}" for _ in range(made.randrange(4))]
        host = made.choice(HOSTS) if made.random() < 0.1 else "x"
        body, framing = _body(made)
        raw = path.encode("utf-8" if made.random() < 0.5 else "latin-1", "replace")
        # A client that waits would hold the test up.
        fields = [field for field in fields if not field.startswith("Prefer: wait")] + framing
        yield request(raw, *fields, method=made.choice(METHODS), host=host, body=body)


def _body(made: random.Random) -> tuple[bytes, list[str]]:
    if made.random() < 0.3:
        return b"", []
    media_type = made.choice((3 * ("application/json",)) + ("application/merge-patch+json", "text/csv", "\xff"))
    body = _json(made).encode("utf-8", "surrogatepass")
    if made.random() < 0.7:
        return body, [f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    size = made.choice((f"{len(body):x}", "zz", "-1", "0x1", "fffffffffffffffff", f"{len(body):x};" + 3000 * "a", ""))
    chunks = f"{size}\r\n".encode() + body + made.choice((b"\r\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\nX: y\r\n\r\n"))
    return chunks, [f"Content-Type: {media_type}", "Transfer-Encoding: chunked"]


def _json(made: random.Random) -> str:
    """A body of one of the endpoints with odd values in some of its fields, as text that no writer of JSON gives."""
    rule = {
        "field_name": "timestamp",
        "field_type": "date",
        "operator": "is_between_date",
        "start_date": "@",
        "end_date": "@",
    }
    amount = {"field_name": "amount", "field_type": "number", "operator": "is_between_number", "min": "#", "max": "#"}
    since = {
        "field_name": "timestamp",
        "field_type": "date",
        "operator": "relative_less_than",
        "time_factor": "year",
        "time_amount": "#",
    }
    segment = {
        "entity": "people",
        "index": "wallet-ledger",
        "join": "all",
        "chain_id": 1764,
        "rules": made.sample([rule, amount, since], made.randrange(4)),
    }
    trigger: dict[str, Any] = {"once": "@", "repeat": "daily", "until": "@", "timezone": "America/New_York"}
    if made.random() < 0.3:
        trigger = {"cron": made.choice(("* * * * *", "0 0 31 2 *", "0 0 29 2 1", "x", "@")), "once": "@", "until": "@"}
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv"}
    task = {"chain": 1764, "desc": "odd", "target": target, "trigger": {**trigger, "segment": segment}, "debug": ""}
    bodies: list[Any] = [
        task,
        {"trigger": trigger},
        {"segment": segment},
        {"chain": 1764, "name": "odd", "segment": segment},
        {"username": "a", "password": "b"},
        {"desc": None, "trigger": {"until": None, "once": "@"}},
        {"level": None},
        [],
        None,
        {"chain": "#", "url": "http://127.0.0.1:9/", "events": ["task.done"]},
        {"client_id": "#", "level": "read"},
    ]
    text = json.dumps(made.choice(bodies))
    for mark, values in (('"@"', [f'"{moment}"' for moment in MOMENTS]), ('"#"', NUMBERS)):
        while mark in text:
            text = text.replace(mark, made.choice(values if made.random() < 0.9 else ODD), 1)
    at = made.randrange(len(text) + 1)
    match made.randrange(12):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + made.choice(ODD) + text[at:]
        case 2:
            return made.choice((500, 2000, 30_000)) * "[" + text
        case 3:
            return text.replace("{", '{"desc": 1, "desc": 2, ', 1)
    return text


def count_answers(port: int, requests: Iterator[bytes]) -> dict[int, int]:
    """Send them and count the answers by status. Raises AssertionError at the first 5xx."""
    found: dict[int, int] = {}
    for data in requests:
        answer = sent(port, data)
        assert answer.status < 500, (data[:3000], answer)
        found[answer.status] = found.get(answer.status, 0) + 1
    return found
