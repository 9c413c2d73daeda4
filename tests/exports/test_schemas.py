"""A pinned schema: changes since are named, field by field, before anything is written."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import httpx2
import pytest

from longshore.database.connect import open_pool
from longshore.errors import LongshoreError
from longshore.exports import catalog, schemas
from longshore.exports.catalog import Catalog, fingerprint
from longshore.exports.columns import choices, shape_of
from longshore.exports.exporter import Exporter
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections, SourceDatabases
from longshore.results.local import LocalStore
from longshore.tasks import attempts, requests, run_ends
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message
from tests.locks import locked
from tests.service import CHAIN, Longshore, export_body
from tests.waiting import until

BEFORE = [("id", "number"), ("at", "date"), ("amount", "number")]


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (BEFORE[:2], "amount (number) was removed"),
        ([*BEFORE, ("kind", "keyword")], "kind (keyword) was added"),
        ([*BEFORE[:2], ("amount", "text")], "amount is text and was number"),
        ([BEFORE[0], BEFORE[2], BEFORE[1]], "the order is id, amount, at and was id, at, amount"),
        ([("sum", "number"), *BEFORE[1::-1]], "sum (number) was added; the order is at, id and was id, at"),
    ],
)
def test_every_kind_of_change_is_named(now: catalog.Shape, message: str) -> None:
    pinned = fingerprint(BEFORE)
    found = schemas.difference(pinned, BEFORE, now)
    assert found.startswith(f"the fields have changed: their fingerprint is {fingerprint(now)!r}, expected {pinned!r};")
    assert message in found
    assert "is not known" in schemas.difference(pinned, None, now)


def changed(tmp_path: Path) -> Catalog:
    """Return the shipped catalog without the ledger's `kind` and with `comment` as a keyword."""
    text = Path(catalog.__file__).with_name("catalog.toml").read_text()
    ledger = text.index("[wallet-ledger.fields]")
    ends = text.index("[products]")
    fields = [line for line in text[ledger:ends].splitlines() if not line.startswith("kind =")]
    fields = [line.replace('"text"', '"keyword"') if line.startswith("comment =") else line for line in fields]
    (tmp_path / "catalog.toml").write_text(text[:ledger] + "\n".join(fields) + "\n\n" + text[ends:])
    return catalog.load(str(tmp_path / "catalog.toml"))


def test_a_run_and_a_new_task_against_changed_fields_say_what_differs(
    idle_service: Longshore, idle_client: httpx2.Client, tmp_path: Path
) -> None:
    body = export_body(once="2199-01-01T00:00:00Z")
    body["target"]["schema"] = idle_client.get("/indexes/wallet-ledger").json()["schema"]
    answer = idle_client.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text
    chain, task, now = ChainId(CHAIN), TaskId(answer.json()["id"]), changed(tmp_path)
    message = r"; kind \(keyword\) was removed; comment is keyword and was text$"

    async def steps() -> None:
        async with open_pool(idle_service.url, size=3, name="test", **EXPORT_SESSION) as pool:
            # The source is never queried: the idle service has no tables to export.
            exporter = Exporter(
                pool, SourceDatabases(SourceConnections(pool, 0)), now, LocalStore(tmp_path / "results")
            )
            async with pool.acquire() as connection, connection.transaction():
                await requests.execute(connection, chain, task)
            attempt = await pool.fetchval("select attempt from longshore.tasks where id = $1", task)
            begun = await attempts.begin(pool, Message(task, attempt))
            assert begun is not None
            with pytest.raises(LongshoreError, match=message):
                await exporter.run(begun)
            await run_ends.fail(pool, begun.message, "seen")

    asyncio.run(steps())
    assert not (tmp_path / "results").exists()
    later = Longshore(idle_service.data, idle_service.url, catalog=str(tmp_path / "catalog.toml"))
    try:
        later.start_api()
        for asker, expected in ((CHAIN, message), (CHAIN + 1, "has not pinned before")):
            with later.client(chain=asker) as client:
                answer = client.post("/tasks", json=body | {"chain": asker})
            assert answer.status_code == 400, answer.text
            [violation] = answer.json()["errors"]
            assert violation["pointer"] == "/target/schema"
            assert re.search(expected, violation["detail"]), violation["detail"]
    finally:
        later.stop()


def test_a_malformed_fingerprint_is_refused(idle_client: httpx2.Client) -> None:
    for pinned in ("", "\x00", "x" * 16, "0" * 16):
        body = export_body(once="2199-01-01T00:00:00Z")
        body["target"]["schema"] = pinned
        answer = idle_client.post("/tasks", json=body)
        assert answer.status_code == 400, answer.text
        assert [violation["pointer"] for violation in answer.json()["errors"]] == ["/target/schema"]


# A change of a task waits here for a table that the test has locked: before it counts the bytes of the chain's tasks.
HELD = """
create table public.held ();
create function public.wait_for_held() returns trigger language plpgsql as $$
begin
    perform from public.held;
    return null;
end
$$;
create trigger a_wait after update of target on longshore.tasks for each row execute function public.wait_for_held();
"""
WAITING = "select count(*) from pg_locks where not granted"


def test_chain_pins_schemas_without_end_and_stores_the_fields_of_a_thousand(idle_service: Longshore) -> None:
    idle_service.sql(
        "insert into longshore.schemas (chain_id, fingerprint, fields)"
        " select 83, n, '[]' from generate_series(1, 999) n"
    )
    ledger = catalog.load("")["wallet-ledger"]
    with idle_service.client(chain=83) as client:
        for name in ("one", "two", "one"):
            fields = [{"name": "amount", "as": name}]
            body = export_body(chain=83, once="2126-05-26T12:00:00Z")
            body["target"] |= {"fields": fields, "schema": fingerprint(shape_of([("amount", name)], ledger))}
            answer = client.post("/tasks", json=body)
            assert answer.status_code == 201, answer.text
            assert client.delete(f"/tasks/{answer.json()['id']}").status_code == 204
    [row] = idle_service.sql("select count(*) from longshore.schemas where chain_id = 83")
    assert row["count"] == 1_000


def test_two_requests_that_pin_a_new_schema_do_not_wait_for_each_other(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    ledger = catalog.load()["wallet-ledger"]
    fields = list(ledger.fields)[2::-1]
    pinned = {"fields": fields, "schema": fingerprint(shape_of(choices(fields, ledger), ledger))}
    body = export_body(once="2199-01-01T00:00:00Z")
    task = idle_client.post("/tasks", json=body).json()
    body["target"] |= pinned
    run_script(idle_service.url, HELD)
    try:
        with ThreadPoolExecutor(2) as threads, locked(idle_service.url, "public.held"):
            changed = threads.submit(
                idle_client.patch, f"/tasks/{task['id']}", json={"target": task["target"] | pinned}
            )
            until(lambda: idle_service.sql(WAITING)[0]["count"] == 1, "the change to wait")
            created = threads.submit(idle_client.post, "/tasks", json=body)
            until(lambda: created.done() or idle_service.sql(WAITING)[0]["count"] == 2, "the new task")
            assert created.done(), "the new task waits for the schema that the change has stored"
            assert created.result().status_code == 201
        assert changed.result().status_code == 200
    finally:
        run_script(idle_service.url, "drop function public.wait_for_held() cascade; drop table public.held")


def run_script(url: str, script: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(script)
        await connection.close()

    asyncio.run(run())
