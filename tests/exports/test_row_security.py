"""Row-level security: an export whose query has no filter still has no row of another chain."""

import asyncio
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest

from longshore.database.connect import open_pool
from longshore.exports import catalog, row_security
from longshore.exports.snapshot import SourceConnections
from tests.service import CHAIN, Longshore, database_in, ended, export_body, exported

ROWS = 1000
TENTH = ROWS // 10
EVERYTHING = ROWS + 2 * TENTH


# A column that equals every chain, so that the condition on the chain takes all rows.
LOST_FILTER = """
create schema lost;
grant usage on schema lost to public;
create type lost.any_chain as (chain bigint);
create function lost.equals(lost.any_chain, bigint) returns boolean language sql immutable return true;
create operator lost.= (leftarg = lost.any_chain, rightarg = bigint, function = lost.equals);
alter table loyalty.wallet_ledger add column every lost.any_chain
"""


def lost_filter(folder: Path) -> Path:
    """Write a catalog whose query of the ledger takes every chain's rows."""
    text = (resources.files("longshore.exports") / "catalog.toml").read_text(encoding="utf-8")
    head = 'relation = "loyalty.wallet_ledger"\nchain = "chain_id"\n'
    assert text.count(head) == 1
    lost = 'relation = "loyalty.wallet_ledger"\nchain = "every"\nsearch_path = ["lost"]\n'
    file = folder / "catalog.toml"
    file.write_text(text.replace(head, lost))
    return file


@pytest.fixture(scope="module")
def service_without_filter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """Yield a service whose queries of the ledger have no filter. Tests leave the rights in it as they are."""
    data = tmp_path_factory.mktemp("forgetful")
    with database_in(data, ROWS) as url:
        service = Longshore(data, url, catalog=str(lost_filter(data)))
        for statement in LOST_FILTER.split(";"):
            service.sql(statement)
        try:
            service.start("worker")
            service.start_api()
            yield service
        finally:
            service.stop()


def test_an_export_that_forgot_its_filter_holds_the_rows_of_its_chain_alone(service_without_filter: Longshore) -> None:
    def rows(chain: int) -> int:
        with service_without_filter.client(chain=chain) as client:
            _, content = exported(client, export_body(chain=chain))
            return content.count(b"\r\n") - 1

    def previewed(chain: int) -> int:
        segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": chain, "rules": []}
        with service_without_filter.client(chain=chain) as client:
            counted: int = client.post("/segments/preview", json={"segment": segment}).json()["rows"]
            return counted

    assert [rows(CHAIN), rows(1765), previewed(1765)] == [ROWS, TENTH, TENTH]
    # The policy, not another condition, has excluded them.
    service_without_filter.sql("alter table loyalty.wallet_ledger disable row level security")
    try:
        assert [rows(1765), previewed(1765)] == [EVERYTHING, EVERYTHING]
    finally:
        service_without_filter.sql("alter table loyalty.wallet_ledger enable row level security")


def test_a_role_that_may_read_only_some_columns_still_holds_exports_to_their_chain(
    service_without_filter: Longshore,
) -> None:
    service_without_filter.sql("revoke select on loyalty.wallet_ledger from longshore_export")
    service_without_filter.sql(
        "grant select (id, chain_id, every, amount, timestamp) on loyalty.wallet_ledger to longshore_export"
    )
    body = export_body(chain=1765)
    body["target"]["fields"] = ["id", "amount"]
    try:
        with service_without_filter.client(chain=1765) as client:
            _, content = exported(client, body)
            assert content.count(b"\r\n") - 1 == TENTH
            body["target"]["fields"] = ["id", "balance"]
            task = ended(client, client.post("/tasks", json=body).json()["id"])
    finally:
        service_without_filter.sql(
            "revoke select (id, chain_id, every, amount, timestamp) on loyalty.wallet_ledger from longshore_export"
        )
        service_without_filter.sql("grant select on loyalty.wallet_ledger to longshore_export")
    assert task["state"]["code"] == "ERROR"
    assert "permission denied" in task["logs"][-2]["msg"]


def test_every_connection_of_an_export_is_held_to_its_chain(service: Longshore) -> None:
    index = catalog.load("")["wallet-ledger"]

    async def seen() -> list[list[int]]:
        async with open_pool(service.url, size=3, name="test") as pool:
            database = SourceConnections(pool, extra=2)
            async with database.snapshot() as (first, _):
                await row_security.restrict(first, index, 1765)
                async with database.connections(first, 2) as connections:
                    query = "select distinct chain_id from loyalty.wallet_ledger"
                    return [[row[0] for row in await each.fetch(query)] for each in connections]

    assert asyncio.run(seen()) == [[1765]] * 3


def test_the_role_that_exports_read_as_can_change_nothing(service: Longshore) -> None:
    rights = """
    select c.oid::regclass::text as relation, p.privilege
    from pg_class c
    cross join (values ('insert'), ('update'), ('delete'), ('truncate')) as p(privilege)
    where c.relkind in ('r', 'p', 'v') and c.relnamespace::regnamespace::text in ('loyalty', 'longshore')
      and has_table_privilege('longshore_export', c.oid, p.privilege)
    """
    assert service.sql(rights) == []
    readable = """
    select c.relname from pg_class c
    where c.relkind = 'r' and c.relnamespace = 'longshore'::regnamespace
      and has_table_privilege('longshore_export', c.oid, 'select')
    """
    assert [row[0] for row in service.sql(readable)] == ["audit"]


def test_a_role_of_the_services_own_may_still_append_to_the_audit_log(new_service: Callable[..., Longshore]) -> None:
    service = new_service(rows=ROWS)
    insert = """
    insert into longshore.audit (chain_id, actor_kind, actor, action, object, address, request_id)
    values (1764, 'command', 'test', 'test', 'test', '', ''), (1765, 'command', 'test', 'test', 'test', '', '')
    """
    service.sql("create role app")
    service.sql("grant usage on schema longshore to app")
    service.sql("grant select, insert on longshore.audit to app")
    seen = "select distinct chain_id from longshore.audit where action = 'test' order by 1"

    async def act() -> list[list[int]]:
        found = []
        async with open_pool(service.url, size=1, name="test") as pool, pool.acquire() as connection:
            async with connection.transaction():
                await connection.execute("set local role app")
                await connection.execute(insert)
                found.append([row[0] for row in await connection.fetch(seen)])
            async with connection.transaction():
                await row_security.restrict(connection, catalog.load("")["audit"], 1765)
                found.append([row[0] for row in await connection.fetch(seen)])
            async with connection.transaction():  # without a chain no row is visible
                await connection.execute("set local role longshore_export")
                found.append([row[0] for row in await connection.fetch(seen)])
        return found

    assert asyncio.run(act()) == [[1764, 1765], [1765], []]
