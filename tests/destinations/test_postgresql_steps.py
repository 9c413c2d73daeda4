"""The test of a PostgreSQL destination: each failure names the right or the setting that is missing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from longshore.destinations.kind import DestinationError
from tests.debian_postgres import DebianPostgres
from tests.destinations.warehouse import Warehouse, a_load
from tests.service import free_port

ALL = ["resolve", "connect", "authenticate", "schema", "create table", "copy", "merge", "drop"]


def last(warehouse: Warehouse, **changes: Any) -> tuple[str, str]:
    """The name of the step that fails, and its detail; all steps before it are good ones in their order."""
    steps = warehouse.test(**changes)
    assert [step.ok for step in steps] == [True] * (len(steps) - 1) + [False]
    assert [step.step for step in steps] == ALL[: len(steps)]
    assert warehouse.secret.password not in steps[-1].detail
    return steps[-1].step, steps[-1].detail


def test_all_steps_of_a_good_destination_succeed_and_leave_nothing(warehouse: Warehouse) -> None:
    for _ in range(2):
        steps = warehouse.test()
        assert [(step.step, step.ok, step.detail) for step in steps] == [(name, True, "") for name in ALL]
    warehouse.load(a_load({"id": "int8"}, [("1",)]))
    assert all(step.ok for step in warehouse.test())
    tables = "select relname from pg_class where relnamespace = to_regnamespace($1) and relkind = 'r' order by 1"
    assert warehouse.sql(tables, f'"{warehouse.settings.schema}"') == [("_longshore_deliveries",), ("orders",)]


@pytest.mark.parametrize(
    ("changes", "step", "detail"),
    [
        ({"allow": ()}, "resolve", "not public; the operator can allow its network (LONGSHORE_OUTBOUND_ALLOW)"),
        ({"host": "127.0.0.1"}, "connect", "certificate is refused"),
        ({"sslrootcert": ""}, "connect", "set sslrootcert"),
        ({"password": "wrong"}, "authenticate", "check the username and the password"),
        ({"username": "missing"}, "authenticate", "check the username and the password"),
        ({"username": "unencrypted", "password": "u"}, "authenticate", "pg_hba.conf"),
        ({"database": "missing"}, "authenticate", "create the database, or correct the setting database"),
        ({"schema": "missing"}, "schema", 'there is no schema "missing"'),
        ({"schema": "information_schema"}, "create table", 'grant usage, create on schema "information_schema"'),
    ],
)  # fmt: skip
def test_failure_names_what_to_change(warehouse: Warehouse, changes: dict[str, Any], step: str, detail: str) -> None:
    found, shown = last(warehouse, **changes)
    assert found == step
    assert detail in shown


def test_closed_port_fails_the_connection(warehouse: Warehouse) -> None:
    assert last(warehouse, port=free_port())[0] == "connect"


def test_server_without_tls_fails_the_connection(warehouse_18: Warehouse) -> None:
    *_, step = warehouse_18.test(sslmode="require")
    assert (step.step, step.ok, "does not offer TLS" in step.detail) == ("connect", False, True)


@pytest.fixture
def strict(warehouse_server: DebianPostgres) -> Iterator[DebianPostgres]:
    """A database in which nothing is granted to everybody."""
    warehouse_server.sql("create database strict")
    warehouse_server.sql("revoke all on database strict from public")
    yield warehouse_server
    warehouse_server.sql("drop database strict with (force)")


def test_missing_rights_are_named_one_after_the_other(warehouse: Warehouse, strict: DebianPostgres) -> None:
    def failing(**changes: Any) -> tuple[str, str]:
        return last(warehouse, database="strict", schema="sales", **changes)

    step, detail = failing()
    assert (step, 'grant connect on database "strict" to the role' in detail) == ("authenticate", True)
    strict.sql("grant connect on database strict to loader")
    assert failing()[0] == "schema"
    strict.sql("create schema sales", database="strict")
    step, detail = failing()
    assert (step, 'grant usage, create on schema "sales" to the role' in detail) == ("schema", True)
    strict.sql("grant usage on schema sales to loader", database="strict")
    step, detail = failing()
    assert (step, 'grant usage, create on schema "sales" to the role' in detail) == ("create table", True)
    strict.sql("grant create on schema sales to loader", database="strict")
    step, detail = failing()
    assert (step, "grant temporary on database" in detail) == ("copy", True)
    strict.sql("grant temporary on database strict to loader")
    assert all(step.ok for step in warehouse.test(database="strict", schema="sales"))
    strict.sql("create table sales._longshore_deliveries ()", database="strict")
    step, detail = failing()
    assert (step, "grant select, insert, update, delete on" in detail) == ("create table", True)


def test_new_table_takes_its_rows_without_a_temporary_table(warehouse: Warehouse, strict: DebianPostgres) -> None:
    strict.sql("grant connect on database strict to loader")
    strict.sql("create schema sales; grant usage, create on schema sales to loader", database="strict")
    own = msgspec.structs.replace(warehouse.settings, database="strict", schema="sales")
    to = Warehouse(strict.url(database="strict"), own, warehouse.secret)
    columns = {"id": "int8", "name": "text"}
    assert to.load(a_load(columns, [("1", "one"), ("2", None)])).rows == 2
    assert to.sql("select id, name from sales.orders order by id") == [(1, "one"), (2, None)]
    with pytest.raises(DestinationError, match="grant temporary on database"):
        to.load(a_load(columns, [("3", "three")], run=2))


def test_read_only_role_is_named_as_such(warehouse: Warehouse, warehouse_server: DebianPostgres) -> None:
    warehouse_server.sql("alter role loader set default_transaction_read_only = on")
    try:
        step, detail = last(warehouse)
    finally:
        warehouse_server.sql("alter role loader reset default_transaction_read_only")
    assert (step, "read-only: connect to the primary" in detail) == ("create table", True)


def test_grants_and_tables_of_the_docs_are_enough(warehouse: Warehouse, strict: DebianPostgres) -> None:
    page = (Path(__file__).parents[2] / "docs" / "destinations-postgresql.md").read_text(encoding="utf-8")
    role, made = re.findall(r"```sql\n(.*?)```", page, re.S)
    _, *grants = role.replace("database warehouse", "database strict").replace("to longshore", "to loader").split(";")
    for grant in filter(str.strip, grants):
        strict.sql(grant, database="strict")
    assert all(step.ok for step in warehouse.test(database="strict", schema="loyalty"))
    strict.sql("revoke create on schema loyalty from loader", database="strict")
    strict.sql(made + "create table loyalty.orders (id bigint, name text)", database="strict")
    for table in ("orders", "_longshore_deliveries"):
        strict.sql(f"grant select, insert, update, delete on loyalty.{table} to loader", database="strict")
    own = msgspec.structs.replace(warehouse.settings, database="strict", schema="loyalty")
    load = a_load({"id": "int8", "name": "text"}, [("1", "one")], "merge")
    assert not Warehouse(strict.url(database="strict"), own, warehouse.secret).load(load).already_loaded
    assert strict.sql("select count(*) from loyalty.orders", database="strict")[0][0] == 1
