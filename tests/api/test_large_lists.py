"""Bodies of 64 KiB that are wrong in thousands of places: the answer is no larger, and soon found."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from longshore.access import clients
from longshore.access.audit import Actor
from longshore.access.tokens import Level, insert
from tests.event_loop import MAX_SECONDS, AppAnswer, AppRequest, application, ask
from tests.service import Longshore
from tests.worst_requests import CHAIN, rule, segment, task

TRIES = 5
MAX_ANSWER_BYTES = 64 * 1024

NAMES = [f"f{number}" for number in range(6_500)]
NUMBERS = list(range(11_000))
KEYS = dict.fromkeys(NAMES[:4_500], "x")
WEBHOOK = {"chain": CHAIN, "url": "https://example.com/"}
TOKEN = {"client_id": 1, "level": "read"}


def export(**values: Any) -> dict[str, Any]:
    given = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv", **values}
    return task(target={key: value for key, value in given.items() if value is not None})


def several(*names: Any, **values: Any) -> dict[str, Any]:
    return export(export_index=None, export_indexes=names, **values)


BODIES: dict[str, tuple[str, Any]] = {
    "unknown events of a webhook": ("/webhooks", WEBHOOK | {"events": ["a"] * 15_000}),
    "events again and again": ("/webhooks", WEBHOOK | {"events": ["task.done"] * 5_000 + ["a"]}),
    "chains of a token": ("/access_tokens", TOKEN | {"chains": NUMBERS}),
    "indexes of a token": ("/access_tokens", TOKEN | {"indexes": NAMES}),
    "hidden columns of a token": ("/access_tokens", TOKEN | {"hidden_columns": NAMES}),
    "known hidden columns of a token": ("/access_tokens", TOKEN | {"hidden_columns": ["users.phone_number"] * 2_500}),
    "unknown indexes": ("/tasks", several(*NAMES)),
    "one index again and again": ("/tasks", several(*["wallet-ledger"] * 4_000)),
    "numbers as indexes": ("/tasks", several(*NUMBERS)),
    "unknown indexes with fields": (
        "/tasks", several(*NAMES[:2_500], fields={name: ["id"] for name in NAMES[1_500:4_000]}),
    ),
    "fields of unknown indexes": ("/tasks", several("users", fields={name: ["id"] for name in NAMES[:3_500]})),
    "schemas of unknown indexes": ("/tasks", several("users", schema=KEYS)),
    "segments of unknown indexes": ("/tasks", several("users") | {"trigger": {"once": "now", "segment": KEYS}}),
    "unknown fields": ("/tasks", export(fields=NAMES)),
    "one field again and again": ("/tasks", export(fields=["id"] * 12_000)),
    "unknown keys of partitions": ("/tasks", export(partition_by=[{"field": "x"}] * 4_000)),
    "unknown keys": ("/tasks", task(**KEYS)),
    "strings with U+0000": ("/tasks", export(fields=["\0"] * 6_500)),
    "columns of a preview": (
        "/segments/preview", {"segment": segment([rule(value=[1])]), "fields": ["x"] * 1_000},
    ),
    "values of rules": (
        "/segments", {"chain": CHAIN, "name": "x", "segment": segment([rule(operator=value) for value in NAMES[:600]])},
    ),
    "unknown settings of a destination": ("/destinations", {"name": "x", "kind": "s3", "settings": KEYS, "secret": {}}),
    "a key that is repeated once": (
        "/tasks", json.dumps(KEYS)[:-1].encode() + b', "f0": 1}',
    ),
    "many objects with a repeated key": (
        "/tasks", b'{"target": [' + b",".join([b'{"a":1,"a":1}'] * 4_500) + b"]}",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(service: Longshore) -> dict[str, AppAnswer]:
    """The answers to all bodies by an application of this process; of several, the one that was found soonest."""
    return asyncio.run(_answers(service))


async def _answers(service: Longshore) -> dict[str, AppAnswer]:
    connection = await asyncpg.connect(service.url)
    try:
        client = await clients.get_or_create(connection, Actor("command", "test"), CHAIN, "lists")
        id, secret = await insert(connection, client.id, Level.ADMIN)
    finally:
        await connection.close()
    credential = [("authorization", f"Bearer {id}:{secret}")]
    found: dict[str, AppAnswer] = {}
    async with application(service.url, str(service.data)) as app:
        for name, (path, body) in BODIES.items():
            for _ in range(TRIES):
                answered = await ask(app, AppRequest("POST", path, body), credential)
                if name not in found or answered.seconds < found[name].seconds:
                    found[name] = answered
                if answered.seconds <= MAX_SECONDS:
                    break
    return found


@pytest.mark.parametrize("name", BODIES)
def test_list_of_thousands_of_violations_is_answered_soon_and_with_a_bounded_list(
    answers: dict[str, AppAnswer], name: str
) -> None:
    answered = answers[name]
    assert (answered.status, json.loads(answered.body)["errors"] != []) == (400, True)
    assert len(answered.body) <= MAX_ANSWER_BYTES
    assert answered.seconds <= MAX_SECONDS
