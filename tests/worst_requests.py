"""The largest and oddest requests of every endpoint, and a chain that has as much of everything as one may."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
from litestar.types import ASGIApp

from longshore.access import clients, users
from longshore.access.audit import Actor
from longshore.access.tokens import Level, insert
from longshore.api.routes import NEEDED
from longshore.settings import Settings
from longshore.vault import Vault, open_vault
from tests.event_loop import MAX_SECONDS, AppAnswer, AppRequest, application, ask

CHAIN = 4711
TRIES = 8
PROXIES = "127.0.0.1, 10.0.0.0/8"
LIST = 8_192  # bytes of a header that is a list
HEAD = 250_000  # bytes of headers; the service takes few more
LINE = 60_000  # characters of a path, a query or a header; the server takes no longer ones
TASKS, LOG_ENTRIES, RUNS, SEGMENTS, SCHEDULES, DELIVERIES = 100, 1_000, 100, 100, 400, 100
PASSWORD = "correct horse battery staple"

QUOTES = '"\\\u0001é' * 6_000  # each of its characters is escaped, or of two bytes
TEXT = "x" * 60_000


TYPES = {"id": "number", "amount": "number", "kind": "keyword", "wallet_campaign_title": "text", "timestamp": "date"}


def rule(**values: Any) -> dict[str, Any]:
    given = {"field_name": "id", "operator": "is_one_of", **values}
    return {"field_type": TYPES[given["field_name"]], **given}


def segment(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"entity": "people", "index": "wallet-ledger", "join": "any", "chain_id": CHAIN, "rules": rules}


EXTREMES = {"operator": "is_between_date", "start_date": "1900-01-01T00:00:00Z", "end_date": "2200-12-31"}
SEGMENT_SHAPES = {
    "100 rules of 20 numbers": segment([rule(value=list(range(1_000_000, 1_000_020))) for _ in range(100)]),
    "more values than there may be": segment([rule(value=list(range(100, 220))) for _ in range(100)]),
    "2,000 numbers": segment([rule(value=list(range(100, 1_100))) for _ in range(2)]),
    "1,000 values of 50 characters": segment(
        [rule(field_name="kind", value=[f"{number:050}" for number in range(1_000)])]
    ),
    "45 texts of 1,000 characters": segment(
        [rule(field_name="wallet_campaign_title", operator="contains", value="%_\\" * 333) for _ in range(45)]
    ),
    "100 rules of dates in zones": segment(
        [rule(field_name="timestamp", timezone="America/New_York", **EXTREMES) for _ in range(100)]
    ),
    "100 rules of unknown fields": segment(
        [{"field_name": f"wallet_campain_{number}", "field_type": "text", "operator": "isnt"} for number in range(100)]
    ),
    "100 windows": segment(
        [
            rule(field_name="timestamp", operator="is_in_window", window="last_month", timezone="Asia/Tehran")
            for _ in range(100)
        ]
    ),
    "1,000 large numbers": segment(
        [rule(field_name="amount", value=[int("1" + f"{number:040}") for number in range(1_000)])]
    ),
}

ODD_VALUES: dict[str, Any] = {
    "deep arrays": b"[" * 30_000 + b"]" * 30_000,
    "unknown keys": {f"a{number}": 0 for number in range(5_500)},
    "an array of numbers": list(range(10_000)),
    "a number of 60,000 digits": b'{"chain":' + b"9" * LINE + b"}",
    "an exponent": b'{"chain":1e999999999}',
    "an exponent that no decimal has": b'{"chain":1e9999999999999999999}',
    "a decimal of 60,000 digits": b'{"chain":0.' + b"9" * LINE + b"}",
    "not JSON": b"\xff" * LINE,
}
TEXTS = {"a long text": TEXT, "a text of escapes": QUOTES, "marks out of order": "a" + "\u0316\u0301" * 14_000}

CRONS = {
    "each minute": "* * * * *",
    "once in 28 years": "0 0 29 2 */7",
    "leap days": "0 0 29 2 *",
    "long lists": ",".join(map(str, range(60))) + " 3 * * *",
    "a day that a zone leaves out": "30 2 * 3 0",
    "times that a zone always leaves out": "* 2 * 3 0#2",
}


def trigger(**values: Any) -> dict[str, Any]:
    given = {"once": "2100-01-01T00:00:00Z", **values}
    return {key: value for key, value in given.items() if value is not None}


TRIGGERS = {
    **{f"cron: {name}": trigger(cron=cron, once=None, timezone="America/New_York") for name, cron in CRONS.items()},
    "cron since 1900": trigger(
        once="1900-01-01T00:00:00Z", cron=CRONS["once in 28 years"], timezone="America/New_York"
    ),
    "daily since 1900": trigger(once="1900-01-01T00:00:00Z", repeat="daily", timezone="Africa/Monrovia"),
    "monthly until 2200": trigger(once="2199-12-31T23:59:59Z", repeat="monthly", until="2200-12-31T00:00:00Z"),
}


def task(**values: Any) -> dict[str, Any]:
    return {
        "chain": CHAIN,
        "desc": "worst",
        "target": {"action": "export", "export_index": "wallet-ledger", "export_format": "csv"},
        "trigger": trigger(),
        **values,
    }


class ChainContents(msgspec.Struct, frozen=True):
    """The contents of a chain after `fill`."""

    task: int
    """With a long log and many runs."""
    segment: UUID
    webhook: UUID
    delivery: UUID
    user: int


async def fill(connection: Any, vault: Vault) -> ChainContents:
    """Fill the chain CHAIN with tasks, log entries, runs, segments, schedules, webhooks and deliveries."""
    large = json.dumps(segment([rule(value=list(range(100, 220))) for _ in range(100)]))
    target = '{"action":"export","export_index":"wallet-ledger","export_format":"csv"}'
    ids = await connection.fetch(
        "insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, attempt_began_at,"
        " run, log_length, last_run_at) select $1, 'large', 'export', $2, $3, $4, 'DONE', now(), 0, 0, now()"
        f" from generate_series(1, {TASKS}) returning id",
        CHAIN, json.dumps({"once": "2026-01-01T00:00:00Z", "segment": json.loads(large)}), target, TEXT,
    )  # fmt: skip
    first = ids[-1]["id"]
    await connection.execute(
        "insert into longshore.task_logs (task_id, seq, at, msg)"
        f" select $1, n, now(), $2 || n from generate_series(0, {LOG_ENTRIES - 1}) n",
        first, '"\\é' * 300,
    )  # fmt: skip
    await connection.execute(
        "insert into longshore.runs (task_id, run, state, first_attempt, attempt, began_at, ended_at, attempt_began_at,"
        " progress_at, segment, manifest) select $1, n, 'ERROR', 1, 1, now(), now(), now(), now(), $2, '{}'"
        f" from generate_series(1, {RUNS}) n",
        first, large,
    )  # fmt: skip
    await connection.execute(
        f"update longshore.tasks set run = {RUNS}, log_length = {LOG_ENTRIES} where id = $1", first
    )
    for cron in CRONS.values():
        await connection.execute(
            "insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at)"
            " select $1, repeat('é<', 500), 'export', $2, $3, '', now() + interval '1 hour' * (1 + n % 3)"
            f" from generate_series(1, {SCHEDULES // len(CRONS)}) n",
            CHAIN, json.dumps({"cron": cron, "timezone": "America/New_York"}), target,
        )  # fmt: skip
    segments = await connection.fetch(
        "insert into longshore.segments (chain_id, name, index, segment)"
        f" select $1, 'large', 'wallet-ledger', $2 from generate_series(1, {SEGMENTS}) returning id",
        CHAIN, large,
    )  # fmt: skip
    webhook = uuid4()
    await connection.execute(
        "insert into longshore.webhooks (id, chain_id, url, events, secret)"
        " values ($1, $2, 'http://127.0.0.1:1/', '{task.done}', $3)",
        webhook, CHAIN, vault.seal(CHAIN, f"webhook {webhook}", b"secret"),
    )  # fmt: skip
    deliveries = await connection.fetch(
        "insert into longshore.webhook_deliveries (webhook_id, task_id, event, revision, payload, state, due_at, error)"
        f" select $1, 1, 'task.done', 1, $2, 'failed', null, $2 from generate_series(1, {DELIVERIES}) returning id",
        webhook, TEXT,
    )  # fmt: skip
    await connection.execute(
        "insert into longshore.audit (chain_id, actor_kind, actor, action, object, address, request_id, details)"
        " select $1, 'command', 'x', 'x', 'x', 'x', 'x', $2 from generate_series(1, 100)",
        CHAIN, json.dumps({"x": TEXT}),
    )  # fmt: skip
    actor = Actor("command", "test")
    user = await users.create(connection, actor, f"worst-{uuid4().hex[:8]}", PASSWORD, {CHAIN: Level.ADMIN})
    return ChainContents(first, segments[0]["id"], webhook, deliveries[0]["id"], user)


async def clear(connection: asyncpg.Connection) -> None:
    """Take away what `fill` and the requests made; the audit log stays."""
    for table in ("tasks", "segments", "webhooks"):
        await connection.execute(f"delete from longshore.{table} where chain_id = $1", CHAIN)


def _bodies(method: str, path: str, sound: dict[str, Any], parts: dict[str, Any]) -> Iterator[AppRequest]:
    """Yield a request with each odd body, and with each odd value in each of the sound body's keys."""
    for odd, value in ODD_VALUES.items():
        yield AppRequest(method, path, value, name=odd)
    for key in sound:
        for odd, value in (TEXTS | {"unknown keys": ODD_VALUES["unknown keys"], "an array": [0] * 20_000}).items():
            yield AppRequest(method, path, {**sound, key: value}, name=f"{odd} in {key}")
    for odd, value in parts.items():
        yield AppRequest(method, path, value, name=odd)


def bodies(filled: ChainContents) -> Iterator[tuple[str, AppRequest]]:
    """Yield the path and the worst requests that have a body, of all endpoints that take one."""
    tasks = {f"{name}, its segment": task(trigger=trigger(segment=each)) for name, each in SEGMENT_SHAPES.items()}
    tasks |= {name: task(trigger=each) for name, each in TRIGGERS.items()}
    tasks["2,000 fields"] = task(target={**task()["target"], "fields": [f"f{number}" for number in range(2_000)]})
    tasks["2,000 fields twice"] = task(target={**task()["target"], "fields": ["id"] * 2_000})
    tasks["a long text to keep"] = task(debug=TEXT)
    changes = {name: {key: each[key] for key in ("target", "trigger", "desc")} for name, each in tasks.items()}
    segments = {name: {"chain": CHAIN, "name": "worst", "segment": each} for name, each in SEGMENT_SHAPES.items()}
    previews: dict[str, dict[str, Any]] = {name: {"segment": each} for name, each in SEGMENT_SHAPES.items()}
    schedules = {name: {"trigger": each} for name, each in TRIGGERS.items()}
    previews["3,000 fields"] = {"segment": segment([rule(value=[1])]), "fields": ["id"] * 3_000}
    some = rule(value=[1])
    takes: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("POST", "/tasks", task(), tasks),
        ("PATCH", f"/tasks/{filled.task}", {"desc": "x", "target": task()["target"], "trigger": trigger()}, changes),
        ("POST", "/tasks/preview", {"trigger": trigger()}, schedules),
        ("POST", "/segments", segments["100 windows"], segments),
        ("PUT", f"/segments/{filled.segment}", segments["100 windows"], segments),
        ("POST", "/segments/preview", {"segment": segment([some]), "fields": ["id"]}, previews),
        ("POST", "/webhooks", {"chain": CHAIN, "url": "http://127.0.0.1:1/", "events": ["task.done"]}, {}),
        ("POST", "/users", {"username": "x" * 30, "password": PASSWORD, "level": "read"}, {}),
        ("PATCH", f"/users/{filled.user}", {"level": "admin"}, {}),
        ("POST", "/service_clients", {"name": "worst"}, {}),
        ("PATCH", "/service_clients/1", {"name": "worst"}, {}),
        (
            "POST", "/access_tokens", {"client_id": 1, "level": "read", "indexes": ["users"], "chains": [CHAIN]},
            {"many columns": {"client_id": 1, "level": "read", "hidden_columns": [f"usres.{n}" for n in range(500)]}},
        ),
        ("POST", "/auth/login", {"username": "x", "password": "y"}, {}),
        ("POST", "/auth/session", {"attempt_id": str(uuid4()), "passcode": "123456"}, {}),
        ("POST", "/auth/password", {"password": "x", "new_password": "y"}, {}),
        ("POST", f"/tasks/{filled.task}/runs/1/ack", {"a": 1}, {}),
    ]  # fmt: skip
    for method, path, sound, parts in takes:
        for asked in _bodies(method, path, sound, parts):
            yield path, asked


QUERIES = {
    "": "",
    "20,000 parameters": "&".join(f"{number:x}" for number in range(12_000)),
    "a long value": "status=" + "9" * LINE,
    "a number of many digits": "limit=" + "9" * LINE + "&offset=" + "9" * LINE + "&log_limit=" + "9" * LINE,
    "escapes": "index=" + "%C3%A9" * 10_000,
    "one name again and again": "limit=1&" * 7_500,
}
LARGEST_PAGE = {"the largest page": "limit=100", "the largest page of a log": "log_limit=1000"}
LISTS = {
    "If-Match": '"{}-1",', "If-None-Match": '"{}-1",', "Prefer": "wait={},", "Cookie": "a{}=b; ",
    "Accept-Encoding": "a{};q=0.5,", "delta-sharing-capabilities": "a{}=b;", "Content-Type": "a/b;c={}",
}  # fmt: skip
"""An item of each field that is a list."""


def listed(item: str, size: int) -> str:
    """Return a list of at most so many bytes whose items all differ."""
    return "".join(item.format(number) for number in range(size // len(item.format(10_000))))


HEADERS = {
    "8 KiB of ranges": {"Range": "bytes=" + listed("{0}-{0},", LIST)},
    "250 kB of ranges": {"Range": "bytes=" + listed("{0}-{0},", HEAD)},
    "a Range of commas": {"Range": "bytes=" + "," * (LIST - 6)},
    "a long Accept": {"Accept": "a/b;q=0.1," * 6_000},
    "a long key": {"Idempotency-Key": "x" * LINE, "Last-Event-ID": "9" * LINE},
    "a long address": {"HX-Current-URL": "http://" + "a." * 30_000, "HX-Request": "true"},
    **{f"{size} bytes of {name}": {name: listed(item, size)} for name, item in LISTS.items() for size in (LIST, HEAD)},
    "30,000 proxies": {"X-Forwarded-For": ",".join(["10.1.1.1"] * 30_000)},
    "2,000 headers": {f"x-{number}": "y" for number in range(2_000)},
}


def path_of(template: str, filled: ChainContents) -> str:
    """A path of an endpoint, of things that are there."""
    values = {
        "{location}": "x" * LINE, "{file_path}": "x" * 200, "{kind}": "x" * LINE, "{name}": "wallet-ledger",
        "{run}": "1", "{link}": str(uuid4()), "{delivery}": str(filled.delivery), "{chain}": str(CHAIN),
    }  # fmt: skip
    ids = {"tasks": filled.task, "segments": filled.segment, "webhooks": filled.webhook, "users": filled.user}
    parts = template.split("/")
    for number, part in enumerate(parts):
        parts[number] = str(ids.get(parts[number - 1], "1")) if part == "{id}" else values.get(part, part)
    return "/".join(parts)


def requests(method: str, template: str, filled: ChainContents) -> Iterator[AppRequest]:
    """Yield the worst requests of one endpoint, without a body."""
    path = path_of(template, filled)
    for name, query in (QUERIES | (LARGEST_PAGE if method == "GET" else {})).items():
        yield AppRequest(method, path, query=query, name=name)
    for name, headers in HEADERS.items():
        yield AppRequest(method, path, headers=headers, name=name)
    if "{id}" in template:
        yield AppRequest(method, template.replace("{id}", "9" * LINE), name="a long id")
        yield AppRequest(method, template.replace("{id}", "-" * LINE), name="an id of dashes")


def walk(filled: ChainContents) -> Iterator[tuple[str, AppRequest]]:
    """Yield the endpoint and the worst requests without a body, of all endpoints; those that end things come last."""
    for method, template in sorted(NEEDED, key=lambda endpoint: (endpoint[0] != "GET", endpoint[0] == "DELETE")):
        for asked in requests(method, template, filled):
            yield template, asked


class RequestTime(msgspec.Struct, frozen=True, order=True):
    """The processor time that one request took in the loop."""

    seconds: float
    method: str
    endpoint: str
    name: str
    status: int


async def measure(url: str, data: str) -> list[RequestTime]:
    """Fill a chain, send the worst requests of all endpoints, one after the other, and clear the chain again.

    One that takes too long is sent again, up to TRIES times, and counts as it did at best: processors are shared and
    caches are cold.
    """
    connection = await asyncpg.connect(url)
    try:
        filled = await fill(connection, open_vault(Settings(data=Path(data))))
        client = await clients.get_or_create(connection, Actor("command", "test"), CHAIN, "worst")
        id, secret = await insert(connection, client.id, Level.ADMIN)
        name = await connection.fetchval("select name from longshore.users where id = $1", filled.user)
        async with application(url, data, outbound_allow="127.0.0.1", trusted_proxies=PROXIES) as app:
            opened = await ask(app, AppRequest("POST", "/auth/login", {"username": name, "password": PASSWORD}))
            session = msgspec.json.decode(opened.body)
            credential = {
                "authorization": f"Bearer {id}:{secret}",
                "x-session-user-id": str(session["user_id"]),
                "x-session-key": session["session_key"],
                "x-session-chain-id": str(CHAIN),
            }
            return [
                await _took(app, template, asked, credential) for template, asked in [*bodies(filled), *walk(filled)]
            ]
    finally:
        await clear(connection)
        await connection.close()


async def _took(app: ASGIApp, template: str, asked: AppRequest, credential: dict[str, str]) -> RequestTime:
    if template.endswith("/execute"):  # no worker runs
        prefer = f"respond-async,{asked.headers.get('Prefer', '')}"
        asked = msgspec.structs.replace(asked, headers={**asked.headers, "Prefer": prefer})
    answers: list[AppAnswer] = []
    while len(answers) < TRIES and (not answers or answers[-1].seconds > MAX_SECONDS):
        answers.append(await ask(app, asked, credential.items()))
    best = min(answers, key=lambda answer: answer.seconds)
    return RequestTime(best.seconds, asked.method, template, asked.name, answers[0].status)
