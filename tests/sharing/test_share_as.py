"""`share_as`: which targets may have it, and one name for one table."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from longshore.exports import catalog
from longshore.exports.catalog import Field, FieldType
from longshore.exports.columns import Column
from longshore.exports.delta_schema import UnsuitedColumnError, table_schema
from longshore.exports.target import ExportTarget
from longshore.exports.target.check import check_target
from longshore.validation import Violation, convert
from tests.exports.engine import index_over
from tests.sharing.conftest import Reader, new_name, shared, table_body

TARGET = {"action": "export", "export_index": "wallet-ledger", "export_format": "parquet", "share_as": "Ledger_2026"}
FUTURE = "2126-05-26T12:00:00Z"


def violations(**changes: Any) -> dict[str, str]:
    """Return the violations of a changed target, by their pointers."""
    target = {key: value for key, value in {**TARGET, **changes}.items() if value is not None}
    found: list[Violation] = []
    convert(ExportTarget, target, "", found)
    return {each.pointer or "": each.detail for each in [*found, *check_target(target, catalog.load(), "", {})]}


def test_parquet_of_one_index_may_be_shared_in_one_file_or_in_many() -> None:
    assert violations() == {}
    assert violations(split={"rows": 1000}, partition_by=[{"field": "timestamp", "by": "day"}]) == {}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"export_format": "csv"}, "/export_format"),
        ({"export_format": "xlsx"}, "/export_format"),
        ({"incremental": True}, "/incremental"),
        ({"incremental": "on_ack"}, "/incremental"),
        ({"export_index": None, "export_indexes": ["users", "vouchers"]}, "/export_indexes"),
        ({"share_as": ""}, "/share_as"),
        ({"share_as": "a b"}, "/share_as"),
        ({"share_as": "a.b"}, "/share_as"),
        ({"share_as": "é"}, "/share_as"),
        ({"share_as": "a\n"}, "/share_as"),
        ({"share_as": "a" * 256}, "/share_as"),
        ({"share_as": 7}, "/share_as"),
        ({"fields": ["id", {"name": "kind", "as": "ID"}]}, "/fields/1"),
        ({"fields": [{"name": "kind", "as": "kind of change"}]}, "/fields/0"),
    ],
    ids=str,
)
def test_target_that_cannot_be_a_table_is_refused_at_the_key_that_is_wrong(
    changes: dict[str, Any], pointer: str
) -> None:
    assert list(violations(**changes)) == [pointer]


@pytest.mark.parametrize("names", [["sku", "unit price"], ["sku", "SKU"]], ids=str)
def test_names_inside_a_nested_field_suit_a_table_or_are_refused_with_advice(names: list[str]) -> None:
    inner = {name: Field(FieldType.KEYWORD, "") for name in names}
    items = Field(FieldType.NESTED, "", fields=inner)
    index = index_over("public.orders", id=FieldType.NUMBER, items=items)
    target = {**TARGET, "export_index": "orders"}
    (found,) = check_target(target, {"orders": index}, "", {})
    assert (found.pointer, "leave it out of `fields`" in found.detail) == ("/share_as", True)
    (found,) = check_target({**target, "fields": ["id", "items"]}, {"orders": index}, "", {})
    assert found.pointer == "/fields/1"
    assert check_target({**target, "fields": ["id"]}, {"orders": index}, "", {}) == []
    columns = [Column("id", index.fields["id"], '"id"', "int8"), Column("items", items, '"items"', "jsonb")]
    with pytest.raises(UnsuitedColumnError, match="leave the nested field out of `fields`"):
        table_schema(columns)
    assert table_schema(columns[:1])


def test_changes_with_deletes_are_no_table() -> None:
    assert {"/incremental", "/deletes"} <= violations(incremental=True, deletes=True).keys()


def test_name_of_a_table_is_taken_once_in_a_chain_in_any_case(
    client: httpx2.Client, small_client: httpx2.Client
) -> None:
    name = new_name()
    first = client.post("/tasks", json=table_body(name, trigger={"once": FUTURE})).json()["id"]
    taken = client.post("/tasks", json=table_body(name.upper(), trigger={"once": FUTURE}))
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/share-name-taken")
    elsewhere = table_body(name, trigger={"once": FUTURE})
    elsewhere["chain"] = 1765
    assert small_client.post("/tasks", json=elsewhere).status_code == 201
    other = client.post("/tasks", json=table_body(new_name(), trigger={"once": FUTURE})).json()
    changed = client.patch(f"/tasks/{other['id']}", json={"target": {**other["target"], "share_as": name}})
    assert (changed.status_code, changed.json()["type"]) == (409, "/problems/share-name-taken")
    assert client.get(f"/tasks/{other['id']}").json()["target"] == other["target"]
    assert client.delete(f"/tasks/{first}").status_code == 204
    assert client.patch(f"/tasks/{other['id']}", json={"target": {**other["target"], "share_as": name}}).is_success


def test_of_many_requests_for_a_name_at_once_one_gets_it(client: httpx2.Client) -> None:
    body = table_body(new_name(), trigger={"once": FUTURE})
    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(
            answer.status_code for answer in threads.map(lambda _: client.post("/tasks", json=body), "x" * 8)
        )
    assert statuses == [201, *[409] * 7]


def test_patch_shares_and_unshares_the_results_that_are_there(client: httpx2.Client, reader: Reader) -> None:
    body = table_body(new_name(), fields=["id"])
    name = body["target"].pop("share_as")
    id, _ = shared(client, body, name)
    merge = {"content-type": "application/merge-patch+json"}
    assert reader.get(name, "metadata").status_code == 404
    assert client.patch(f"/tasks/{id}", json={"target": {"share_as": name}}, headers=merge).is_success
    (file,) = reader.query(name).files
    assert "stats" not in file  # they are recorded where the run is shared
    assert client.patch(f"/tasks/{id}", json={"target": {"share_as": f"{name}_2"}}, headers=merge).is_success
    assert reader.get(name, "metadata").status_code == 404
    assert reader.get(f"{name}_2", "metadata").status_code == 200
    assert client.patch(f"/tasks/{id}", json={"target": {"share_as": None}}, headers=merge).is_success
    assert reader.get(f"{name}_2", "metadata").status_code == 404
    assert httpx2.get(file["url"]).status_code == 200  # addresses that were given out stay good
