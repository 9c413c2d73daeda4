"""Bundles: writers keep invariants between three tables, and every bundle holds them; two single tasks do not."""

import asyncio
import csv
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.service import CHAIN, Longshore, database_in, ended, export_body

BUNDLES = 100

TABLES = """
create schema shop;
create table shop.people (id bigint primary key, chain_id bigint not null, name text not null);
create table shop.baskets (
    id bigint primary key, chain_id bigint not null, person bigint not null, total numeric not null
);
create table shop.items (
    id bigserial primary key, chain_id bigint not null, basket bigint not null, amount numeric not null
);
create index on shop.items (basket)
"""

CATALOG = """
[people]
description = "Who buys."
relation = "shop.people"
chain = "chain_id"
prefix = "People"
[people.fields]
id = { type = "number", description = "Number." }
name = { type = "text", description = "Name." }

[baskets]
description = "What they bought."
relation = "shop.baskets"
chain = "chain_id"
prefix = "Basket"
totals = { amount = "total", per = "chain_id" }
[baskets.fields]
id = { type = "number", description = "Number." }
person = { type = "number", description = "Who bought it." }
total = { type = "number", description = "The sum of its items." }
chain_id = { type = "number", description = "Chain." }

[items]
description = "Items of baskets."
relation = "shop.items"
chain = "chain_id"
prefix = "Item"
[items.fields]
id = { type = "number", description = "Number." }
basket = { type = "number", description = "Its basket." }
amount = { type = "number", description = "Price." }
"""

BUY = """
with buyer as (insert into shop.people values ($1::bigint, $2::bigint, 'person ' || $1::bigint) returning id),
item as (
    insert into shop.items (chain_id, basket, amount)
    select $2, $1, n * 1.25 from generate_series(1, 1 + $1::bigint % 5) n
    returning amount
)
insert into shop.baskets select $1, $2, id, (select sum(amount) from item) from buyer
"""

# One item of a basket changes, and the total with it; or the basket goes with its items and its buyer.
CHANGE = """
with changed as (
    update shop.items set amount = amount + 1
    where id = (select max(id) from shop.items where basket = $1)
    returning amount
)
update shop.baskets set total = total + (select count(*) from changed) where id = $1
"""
REMOVE = """
with items as (delete from shop.items where basket = $1), baskets as (delete from shop.baskets where id = $1)
delete from shop.people where id = $1
"""


class Writers:
    """Threads that buy, change and remove baskets, each in one statement, until they are stopped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in (1, 2)]
        self.errors: list[BaseException] = []

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, first: int) -> None:
        try:
            asyncio.run(self._writing(first))
        except BaseException as error:
            self.errors.append(error)

    async def _writing(self, first: int) -> None:
        connection = await asyncpg.connect(self._url)
        basket = first
        while not self._over.is_set():
            await connection.execute(BUY, basket, CHAIN)
            await connection.execute(CHANGE, basket)
            if basket > 400:
                await connection.execute(CHANGE, basket - 200)
                await connection.execute(REMOVE, basket - 400)
            basket += 2
        await connection.close()


@pytest.fixture(scope="module")
def shop_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """Yield a service whose tables are written to all the time."""
    data = tmp_path_factory.mktemp("bundles")
    (data / "catalog.toml").write_text(CATALOG)
    with database_in(data) as url:
        longshore = Longshore(data, url, catalog=str(data / "catalog.toml"), worker_tasks="8", chain_tasks="8")
        for statement in TABLES.split(";"):
            longshore.sql(statement)
        try:
            longshore.start("worker")
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def broken(people: list[dict[str, str]], baskets: list[dict[str, str]], items: list[dict[str, str]]) -> list[str]:
    """Return what contradicts the invariants of the writers."""
    sums: dict[str, float] = defaultdict(float)
    for item in items:
        sums[item["basket"]] += float(item["amount"])
    known = {person["id"] for person in people}
    found = [f"basket {one['id']} has no buyer" for one in baskets if one["person"] not in known]
    found += [
        f"basket {one['id']} is not its items" for one in baskets if float(one["total"]) != sums.pop(one["id"], 0)
    ]
    return found + [f"items of {basket}, which is not there" for basket in sums]


def test_indexes_of_a_bundle_agree_in_a_hundred_runs_where_two_single_tasks_differ(shop_service: Longshore) -> None:
    bundle = export_body()
    bundle["target"] = {"action": "export", "export_indexes": ["people", "baskets", "items"], "export_format": "csv"}
    with Writers(shop_service.url) as writers, shop_service.client() as client:
        tasks = [client.post("/tasks", json=bundle).json()["id"] for _ in range(BUNDLES)]
        rows = 0
        for task in tasks:
            done(client, task)
            folder = result_of(shop_service, task).parent
            manifest = json.loads(result_of(shop_service, task).read_text())
            found = [rows_in(folder / file["path"]) for file in manifest["files"]]
            assert broken(*found) == [], task
            rows += len(found[1])
        assert writers.errors == []
        assert rows > BUNDLES, "the bundles have next to nothing in them"
        assert any(broken(*singly(shop_service, client)) for _ in range(100)), "single tasks hold the invariants too"


def singly(service: Longshore, client: httpx2.Client) -> list[list[dict[str, str]]]:
    """Export the three indexes by a task each; return their rows."""
    tasks = []
    for index in ("people", "baskets", "items"):
        body = export_body()
        body["target"]["export_index"] = index
        tasks.append(client.post("/tasks", json=body).json()["id"])
    for task in tasks:
        done(client, task)
    return [rows_in(result_of(service, task)) for task in tasks]


def done(client: httpx2.Client, task: int) -> dict[str, Any]:
    found = ended(client, task)
    assert found["state"]["code"] == "DONE", found["logs"]
    return found


def result_of(service: Longshore, task: int) -> Path:
    (row,) = service.sql("select location from longshore.runs where task_id = $1", task)
    return service.data / "results" / str(row["location"])
