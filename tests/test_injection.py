"""Nothing that a client sends becomes SQL: hundreds of attempts, in every string that reaches a query."""

import asyncio
import csv
import io
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx2
import msgspec
import pytest

from longshore.database.pinned_settings import PINNED_SETTINGS
from longshore.exports import catalog, formats
from longshore.exports.columns import FieldChoice, check_fields, choices, columns_of
from longshore.exports.row_query import row_query
from longshore.exports.segments.rules import Segment
from longshore.tasks.model import Interval
from tests.service import Longshore

CHAIN = 9
ROWS = 2000
PAYLOADS = [
    "' or '1'='1",
    "' or true --",
    "'; drop table loyalty.users; --",
    "'; update loyalty.wallet_ledger set amount = 0; --",
    '" or "1"="1',
    '"; drop table loyalty.users; --',
    '" from loyalty.users --',
    '", (select secret_sha256 from longshore.access_tokens limit 1) as "x',
    "$1",
    "$2",
    "$9",
    '"$2',
    "$$; drop schema loyalty cascade; $$",
    "$1::text) or (true",
    "\\'; select pg_sleep(9); --",
    "' || (select current_user) || '",
    "') or chain_id > 0 --",
    ") or (chain_id = 1764",
    "0) or (1=1",
    "chain_id",
    '"chain_id"',
    "timestamp; select 1",
    "/* */ or true",
    "%' or '%'='",
    "%",
    "_",
    "{0}",
    "{index.from_clause}",
    "%(chain)s",
    ":1",
    "?",
    "\u2019 or 1=1",
    "\uff07 or 1=1",
    "E'\\x27'",
    "U&'\\0027'",
    "\n; drop table loyalty.users;\n",
    "UTC' or 'a'='a",
    "1; vacuum",
    "NaN'::numeric",
    "\x00",
    "\x01\x02",
    '${jndi:"x"}',
]
ID = "00000000-0000-4000-8000-000000000000"


def rule(**more: Any) -> dict[str, Any]:
    return {"field_name": "kind", "field_type": "keyword", "operator": "is", "value": "manual"} | more


def date_rule(operator: str, **more: Any) -> dict[str, Any]:
    return {"field_name": "timestamp", "field_type": "date", "operator": operator, **more}


def segment_of(*rules: dict[str, Any], index: str = "wallet-ledger", **more: Any) -> dict[str, Any]:
    return {"entity": "people", "index": index, "join": "all", "chain_id": CHAIN, "rules": list(rules)} | more


# Where a string is a value, and how many of the chain's rows it must then take: none, or all that have a value.
VALUES: dict[str, Any] = {
    "is": (lambda p: segment_of(rule(value=p)), 0),
    "is_not": (lambda p: segment_of(rule(operator="is_not", value=p)), ROWS),
    "is_one_of": (lambda p: segment_of(rule(operator="is_one_of", value=["x", p])), 0),
    "starts_with": (lambda p: segment_of(rule(operator="starts_with", value=p)), 0),
    "text": (lambda p: segment_of(rule(field_name="wallet_campaign_title", field_type="text", value=p)), 0),
    "nested": (
        lambda p: segment_of(
            rule(field_name="items.sku", value=p, nested=True, nesting_path="items"), index="transactions"
        ),
        0,
    ),
}

# Where a string is none of the words that are known: always a 400 that names the place.
WORDS: dict[str, Any] = {
    "/segment/rules/0/field_name": lambda p: segment_of(rule(field_name=p)),
    "/segment/rules/0/field_type": lambda p: segment_of(rule(field_type=p)),
    "/segment/rules/0/operator": lambda p: segment_of(rule(operator=p)),
    "/segment/rules/0/nesting_path": lambda p: segment_of(
        rule(nested=True, nesting_path=p, field_name=f"{p}.sku"), index="transactions"
    ),
    "/segment/rules/0/window": lambda p: segment_of(date_rule("is_in_window", window=p)),
    "/segment/rules/0/timezone": lambda p: segment_of(date_rule("is_in_window", window="today", timezone=p)),
    "/segment/rules/0/time_factor": lambda p: segment_of(date_rule("relative_less_than", time_factor=p, time_amount=1)),
    "/segment/rules/0/start_date": lambda p: segment_of(date_rule("is_after_date", start_date=p)),
    "/segment/rules/0/value": lambda p: segment_of(date_rule("is_date", value=f"2026-01-01{p}")),
    "/segment/rules/0/max": lambda p: segment_of(
        rule(field_name="amount", field_type="number", operator="is_between_number", value=None, min=0, max=p)
    ),
    "/segment/join": lambda p: segment_of(rule(), join=p),
    "/segment/index": lambda p: segment_of(rule(), index=p),
}


@pytest.fixture(scope="module")
def client(service: Longshore) -> httpx2.Client:
    return service.client(chain=CHAIN)


def state_of_the_data(service: Longshore) -> Any:
    return service.sql(
        """
        select (select count(*) from loyalty.users), (select sum(amount) from loyalty.wallet_ledger),
               (select count(*) from longshore.access_tokens where revoked_at is null), count(*)
        from pg_catalog.pg_class where relnamespace in ('loyalty'::regnamespace, 'longshore'::regnamespace)
        """
    )


def pointers(answer: httpx2.Response) -> set[str]:
    assert answer.status_code == 400, answer.text
    return {violation["pointer"] for violation in answer.json()["errors"]}


@pytest.mark.parametrize("place", VALUES)
def test_a_value_is_never_read_as_sql(service: Longshore, client: httpx2.Client, place: str) -> None:
    before = state_of_the_data(service)
    make, expected = VALUES[place]
    for payload in PAYLOADS:
        answer = client.post("/segments/preview", json={"segment": make(payload), "fields": ["id"]})
        if "\x00" in payload:
            assert pointers(answer) == {"/segment/rules/0/value"}
            continue
        assert answer.status_code == 200, (payload, answer.text)
        assert (answer.json()["rows"], answer.json()["rows_are"]) == (expected, "exact"), payload
    assert state_of_the_data(service) == before


@pytest.mark.parametrize("place", WORDS)
def test_an_unknown_word_is_refused(client: httpx2.Client, place: str) -> None:
    for payload in PAYLOADS:
        answer = client.post("/segments/preview", json={"segment": WORDS[place](payload)})
        assert place in pointers(answer), payload


def test_names_and_ids_are_never_read_as_sql(service: Longshore, client: httpx2.Client) -> None:
    before = state_of_the_data(service)
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv"}
    for payload in PAYLOADS:
        body = {"chain": CHAIN, "name": payload, "segment": segment_of(rule())}
        created = client.post("/segments", json=body)
        if "\x00" in payload:
            assert pointers(created) == {"/name"}
        else:
            assert created.json()["name"] == payload
            assert client.delete(f"/segments/{created.json()['id']}").status_code == 204
        for id in (payload, f"{ID}{payload}"):
            path = f"/segments/{quote(id, safe='')}"
            assert client.get(path).status_code == 404, path
            task = {"chain": CHAIN, "desc": "", "target": target}
            trigger = {"once": "2199-01-01T00:00:00Z", "segment_id": id}
            assert pointers(client.post("/tasks", json={**task, "trigger": trigger})) == {"/trigger/segment_id"}
        unknown = {"segment": segment_of(rule()), "fields": [payload]}
        assert pointers(client.post("/segments/preview", json=unknown)) == {"/fields/0"}
    assert state_of_the_data(service) == before


def test_the_name_of_a_column_is_never_read_as_sql(client: httpx2.Client) -> None:
    for payload in PAYLOADS:
        fields = [{"name": "kind", "as": payload}, "id"]
        answer = client.post("/segments/preview", json={"segment": segment_of(rule()), "fields": fields})
        if "\x00" in payload or len(payload) > 63:
            assert pointers(answer) == {"/fields/0"}
            continue
        found = answer.json()
        assert answer.status_code == 200, (payload, answer.text)
        assert found["rows"] > 50
        assert all(list(row) == [payload, "id"] and row[payload] == "manual" for row in found["sample"])


def test_no_value_gets_out_of_the_copy_through_the_name_of_a_column(service: Longshore) -> None:
    """The copy of an export has its values put into its text, so names and values are tried against each other."""
    asyncio.run(copies(service.url))


async def copies(url: str) -> None:
    connection = await asyncpg.connect(url, server_settings=PINNED_SETTINGS)
    index = catalog.load()["wallet-ledger"]
    known = await connection.fetch("select id, kind from loyalty.wallet_ledger where chain_id = $1", CHAIN)
    expected = {(row["kind"], str(row["id"])) for row in known}
    for name in [payload for payload in PAYLOADS if len(payload) < 58 and "\x00" not in payload]:
        for shown, value in ((name, '" from loyalty.users --'), (f"{name} $2", f'"{name}"')):
            chosen = choices([FieldChoice("kind", shown), "id"], index)
            assert check_fields(chosen, index, "") == []
            columns = await columns_of(connection, index, chosen)
            segment = msgspec.convert(segment_of(rule(operator="is_not", value=value)), Segment)
            source = await row_query(connection, index, CHAIN, segment, Interval(None, datetime.now(UTC)))
            for format in ("csv", "jsonl"):
                rows = await copied(connection, format, columns, source)
                assert {tuple(row.values()) for row in rows} == expected, (shown, format)
                assert all(list(row) == [shown, "id"] for row in rows), (shown, format)
    await connection.close()


async def copied(connection: Any, name: str, columns: Any, source: Any) -> list[dict[str, str]]:
    format = formats.new_format(name, formats.FileSpec(columns))
    content = bytearray(format.begin())

    async def take(data: bytes) -> None:
        content.extend(format.frame(data))

    await connection.copy_from_query(format.query(source.sql), *source.values, output=take, **format.options())
    if name == "csv":
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    return [{key: str(value) for key, value in msgspec.json.decode(line).items()} for line in content.splitlines()]


def test_there_are_at_least_five_hundred_attempts() -> None:
    assert len(PAYLOADS) * (len(VALUES) + len(WORDS) + 6) >= 500
