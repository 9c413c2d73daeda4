"""Tasks that export several times, and sessions that write meanwhile."""

import asyncio
import csv
import io
from typing import Any

import asyncpg
import httpx2

from longshore.database.connect import Connection
from longshore.exports.catalog import Index
from longshore.exports.increments import transactions
from tests.service import CHAIN, downloaded

TABLES = """
create schema shop;
create table shop.entries (
    id bigint primary key,
    chain_id bigint not null default 1764,
    at timestamptz not null default clock_timestamp(),
    kind text not null default 'sale',
    version bigint not null default 0,
    divisor int not null default 1
);
create view shop.entries_view as select * from shop.entries;
create materialized view shop.entries_kept as select * from shop.entries;
create table shop.parted (id bigint, chain_id bigint default 1764, at timestamptz default now()) partition by list (id);
create table shop.parted_1 partition of shop.parted for values in (1);
create table shop.parted_rest partition of shop.parted default;
"""

CATALOG = """
[entries]
description = "Entries."
relation = "shop.entries"
chain = "chain_id"
time = "at"
prefix = "Entry"
[entries.fields]
id = { type = "number", description = "Number." }
kind = { type = "keyword", description = "Kind." }
version = { type = "number", description = "Changes with each write." }
share = { type = "number", sql = "100 / divisor", description = "Fails where the divisor is 0." }

[replaced]
description = "A table that tests make, alter and replace."
relation = "shop.replaced"
chain = "chain_id"
time = "at"
prefix = "Entry"
totals = { amount = "id", per = "kind" }
[replaced.fields]
id = { type = "number", description = "Number." }
kind = { type = "keyword", description = "Kind." }

[baskets]
description = "Entries with a nested field, whose only value is not of its type."
relation = "shop.entries"
chain = "chain_id"
time = "at"
prefix = "Entry"
[baskets.fields]
id = { type = "number", description = "Number." }

[baskets.fields.items]
type = "nested"
sql = "json_build_array(json_build_object('price', kind))"
on_odd = "null"
description = "Items."
fields.price = { type = "number", description = "Price." }

[dice]
description = "Entries with an amount that is another one each time."
relation = "shop.entries"
chain = "chain_id"
time = "at"
prefix = "Entry"
totals = { amount = "cast", per = "kind" }
[dice.fields]
kind = { type = "keyword", description = "Kind." }
cast = { type = "number", sql = "round(random()::numeric, 6)", description = "Never twice the same." }
""" + "".join(
    f"""
[{name}]
description = "Another relation."
relation = "shop.{name}"
chain = "chain_id"
time = "at"
prefix = "Entry"
[{name}.fields]
id = {{ type = "number", description = "Number." }}
"""
    for name in ("entries_view", "entries_kept", "parted")
)


async def taken(
    connection: Connection, index: Index, start: str | None, end: str | None = None
) -> tuple[list[int], str]:
    """Return ids and next watermark of an increment from a watermark, read without the service."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await transactions.bounds(connection, index, start, end, first=2)
        sql = f"select id {index.from_clause} and ({found.condition.sql}) order by id"
        rows = await connection.fetch(sql, CHAIN, *found.condition.values)
    return [row["id"] for row in rows], found.end


class Session:
    """A connection that writes, statement by statement; it is in a transaction from `begin` to `commit`."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))

    def __call__(self, statement: str, *args: Any) -> list[Any]:
        return list(self._loop.run_until_complete(self._connection.fetch(statement, *args)))

    def insert(self, *ids: int, kind: str = "sale", chain: int = CHAIN) -> None:
        for id in ids:
            self("insert into shop.entries (id, kind, chain_id) values ($1, $2, $3)", id, kind, chain)

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


class Series:
    """One task of an index, run once with each `run`."""

    def __init__(
        self,
        client: httpx2.Client,
        incremental: bool | str = True,
        index: str = "entries",
        target: dict[str, Any] | None = None,
        **trigger: Any,
    ) -> None:
        self.client = client
        body = {
            "chain": CHAIN,
            "desc": "increments",
            "target": {
                "action": "export",
                "export_index": index,
                "export_format": "csv",
                "incremental": incremental,
                **(target or {}),
            },
            "trigger": {"once": "2199-01-01T00:00:00Z", **trigger},
        }
        answer = client.post("/tasks", json=body)
        assert answer.status_code == 201, answer.text
        self.id: int = answer.json()["id"]

    def execute(self) -> str:
        """Run once more and return the state that it ends in."""
        answer = self.client.post(f"/tasks/{self.id}/execute")
        assert answer.status_code == 200, answer.text
        code: str = answer.json()["code"]
        return code

    def run(self) -> list[dict[str, str]]:
        """Run once more and return the rows of the result."""
        assert self.execute() == "DONE", self.messages()
        return list(csv.DictReader(io.StringIO(self.content().decode())))

    def ids(self) -> list[int]:
        """Run once more and return the ids of the rows, in order."""
        return sorted(int(row["id"]) for row in self.run())

    def content(self) -> bytes:
        """Return the bytes of the last result."""
        return downloaded(self.client, self.id)

    def acknowledge(self, run: int) -> httpx2.Response:
        return self.client.post(f"/tasks/{self.id}/runs/{run}/ack")

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs as the API answers them, the first one first."""
        found: list[dict[str, Any]] = self.client.get(f"/tasks/{self.id}/runs", params={"limit": 100}).json()
        return found[::-1]

    def messages(self) -> list[str]:
        """Return the task's log."""
        task = self.client.get(f"/tasks/{self.id}", params={"log_limit": 1000}).json()
        return [entry["msg"] for entry in task["logs"]]
