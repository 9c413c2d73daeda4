"""The protocol's own Python client reads what the source holds, from a folder and from a bucket."""

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from longshore.access.tokens import Level, Scope
from tests.service import CHAIN, Longshore, ended
from tests.sharing.python_client import ClientError, PythonClient, profile_file
from tests.sharing.worlds import Tables

LEDGER = f"select * from loyalty.wallet_ledger where chain_id = {CHAIN} order by id"
BASKETS = f"select * from loyalty.transactions where chain_id = {CHAIN} order by id"
EDGES = f"select * from edges.values where chain_id = {CHAIN} order by id"
ITEM = ("sku", "price", "returned")


@pytest.fixture
def profile(world: Tables, tmp_path: Path) -> Path:
    """A profile file of a read token for chain 1764."""
    return profile_file(world.service, tmp_path)


def source_rows(service: Longshore, statement: str, *nested: str) -> list[dict[str, Any]]:
    """Return rows of the source, with the members of its items in their order."""
    rows = [dict(row) for row in service.sql(statement)]
    for row in rows:
        if row.get("items") is not None:
            items = json.loads(row["items"], parse_float=Decimal)
            row["items"] = [{name: item.get(name) for name in nested} for item in items]
    return rows


def same(found: list[dict[str, Any]], source: list[dict[str, Any]]) -> None:
    """Assert that a table has the rows of its source, by the columns that the table has."""
    assert len(found) == len(source)
    for got, expected in zip(sorted(found, key=lambda row: row["id"]), source, strict=True):
        assert got == {name: expected[name] for name in got}


def test_all_tables_of_the_token_are_listed(world: Tables, profile: Path, python_client: PythonClient) -> None:
    listed = python_client.ask("list", profile=str(profile))
    assert sorted(listed) == sorted(f"{CHAIN}.exports.{name}" for name in world.tasks)


def test_table_of_one_file_has_the_rows_of_the_source(
    world: Tables, profile: Path, python_client: PythonClient
) -> None:
    found = python_client.rows(profile, f"{CHAIN}.exports.ledger")
    assert len(found) > 1000
    same(found, source_rows(world.service, LEDGER))


def test_table_of_many_files_with_nested_items_has_the_rows_of_the_source(
    world: Tables, profile: Path, python_client: PythonClient
) -> None:
    found = python_client.rows(profile, f"{CHAIN}.exports.Baskets")
    files = world.service.sql("select count(*) from longshore.run_files where task_id = $1", world.tasks["Baskets"])
    assert files[0][0] > 2
    names = ("sku", "name", "category", "quantity", "price", "returned")
    source = source_rows(world.service, BASKETS, *names)
    for row in source:
        row["vouchers"] = None if row["vouchers"] is None else " ".join(row["vouchers"])
    same(found, source)


@pytest.mark.parametrize("table", ["edges", "pairs"])
def test_values_at_the_edges_of_their_types_equal_the_source(
    world: Tables, profile: Path, python_client: PythonClient, table: str
) -> None:
    found = python_client.rows(profile, f"{CHAIN}.exports.{table}")
    same(found, source_rows(world.service, EDGES, *ITEM))
    by_id = {row["id"]: row for row in found}
    assert by_id[1]["widest"] == Decimal("1234567890123456789012345678.0123456789")
    assert by_id[2]["at"] == datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)
    assert by_id[3]["words"] == "" and by_id[4]["words"] is None


def test_values_in_the_delta_format_equal_the_source(world: Tables, profile: Path, python_client: PythonClient) -> None:
    """The client reads this format by the Delta kernel, which takes an address that it does not know for a path."""
    for table in ("edges", "pairs"):
        found = python_client.rows(profile, f"{CHAIN}.exports.{table}", use_delta_format=True)
        same(found, source_rows(world.service, EDGES, *ITEM))
    assert not python_client.rows(profile, f"{CHAIN}.exports.nobody", use_delta_format=True)


def test_schema_names_the_exact_types(world: Tables, profile: Path, python_client: PythonClient) -> None:
    assert world.tasks
    schema = python_client.ask("schema", profile=str(profile), table=f"{CHAIN}.exports.edges")
    kinds = {field["name"]: field["type"] for field in schema["fields"]}
    items = kinds.pop("items")
    assert kinds == {
        "id": "long", "at": "timestamp", "day": "date", "price": "decimal(14,2)", "widest": "decimal(38,10)",
        "figure": "decimal(38,4)", "ratio": "double", "flag": "boolean", "words": "string",
    }  # fmt: skip
    inner = {field["name"]: field["type"] for field in items["elementType"]["fields"]}
    assert (items["type"], inner) == ("array", {"sku": "string", "price": "decimal(38,2)", "returned": "boolean"})


@pytest.mark.parametrize("limit", [0, 1, 3, 5, 1000])
def test_limit_gives_so_many_rows(world: Tables, profile: Path, python_client: PythonClient, limit: int) -> None:
    source = source_rows(world.service, EDGES, *ITEM)
    for table in ("edges", "pairs"):
        found = python_client.rows(profile, f"{CHAIN}.exports.{table}", limit=limit)
        assert len(found) == min(limit, len(source))
        assert all(row in [{name: each[name] for name in row} for each in source] for row in found)


def test_table_without_rows_has_its_columns(world: Tables, profile: Path, python_client: PythonClient) -> None:
    assert world.tasks
    columns = python_client.ask("load", profile=str(profile), table=f"{CHAIN}.exports.nobody")
    columns.pop("")
    assert list(columns)[:3] == ["id", "member_number", "username"]
    assert not any(columns.values())


def test_names_are_read_in_any_case(world: Tables, profile: Path, python_client: PythonClient) -> None:
    assert world.tasks
    assert python_client.rows(profile, f"{CHAIN}.EXPORTS.bASKETS", limit=1)


def test_earlier_versions_are_read_by_number_and_by_time(
    world: Tables, profile: Path, python_client: PythonClient
) -> None:
    service, task = world.service, world.tasks["pairs"]
    table = f"{CHAIN}.exports.pairs"
    before = source_rows(service, EDGES, *ITEM)
    first = python_client.ask("version", profile=str(profile), table=table)
    service.sql(f"insert into edges.values (id, chain_id, words) values (7, {CHAIN}, 'new')")
    try:
        with service.client() as client:
            assert client.post(f"/tasks/{task}/execute").status_code == 200
            assert ended(client, task)["state"]["code"] == "DONE"
        assert python_client.ask("version", profile=str(profile), table=table) == first + 1
        same(python_client.rows(profile, table), source_rows(service, EDGES, *ITEM))
        same(python_client.rows(profile, table, version=first), before)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        later = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert len(python_client.rows(profile, table, timestamp=later)) == len(before) + 1, now
        for wrong in ({"version": first + 9}, {"version": 0}, {"timestamp": "2000-01-01T00:00:00Z"}):
            with pytest.raises(ClientError, match=r"HTTPError: (400|404)"):
                python_client.rows(profile, table, **wrong)
    finally:
        service.sql("delete from edges.values where id = 7")
        with service.client() as client:  # so that the table has the rows of its source for the other tests
            client.post(f"/tasks/{task}/execute")
            ended(client, task)


def test_tables_of_other_chains_and_of_no_task_are_404(
    world: Tables, tmp_path: Path, python_client: PythonClient
) -> None:
    other = profile_file(world.service, tmp_path, chain=1765)
    assert python_client.ask("list", profile=str(other)) == []
    for table in (f"{CHAIN}.exports.ledger", "1765.exports.ledger", "1765.other.ledger", "9.exports.ledger"):
        with pytest.raises(ClientError, match="HTTPError: 404"):
            python_client.rows(other, table)


def test_table_with_a_hidden_column_is_404_for_the_token_and_others_are_read(
    world: Tables, tmp_path: Path, python_client: PythonClient
) -> None:
    for scope in (Scope(hidden_columns=["wallet-ledger.amount"]), Scope(indexes=["edges"])):
        narrow = profile_file(world.service, tmp_path, scope=scope)
        listed = python_client.ask("list", profile=str(narrow))
        assert f"{CHAIN}.exports.ledger" not in listed and f"{CHAIN}.exports.edges" in listed
        assert len(python_client.rows(narrow, f"{CHAIN}.exports.edges")) == 6
        with pytest.raises(ClientError, match="HTTPError: 404"):
            python_client.rows(narrow, f"{CHAIN}.exports.ledger")


def test_revoked_token_reads_nothing(world: Tables, profile: Path, python_client: PythonClient) -> None:
    id = json.loads(profile.read_text())["bearerToken"].partition(":")[0]
    assert python_client.rows(profile, f"{CHAIN}.exports.edges", limit=1)
    with world.service.client(Level.ADMIN) as admin:
        assert admin.delete(f"/access_tokens/{id}").status_code == 200
    deadline = time.monotonic() + 10  # the check of a token is cached for one second
    # Where the token ends between the list and the file, the client reports the file's address.
    with pytest.raises(ClientError, match=r"HTTPError: 401|FileNotFoundError"):
        while time.monotonic() < deadline:
            python_client.rows(profile, f"{CHAIN}.exports.edges", limit=1)
