"""A table: its versions, schema and files, as any client of the protocol reads them."""

import io
import json
from decimal import Decimal

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longshore.access.tokens import Level, Scope
from tests.service import CHAIN, Longshore, ended
from tests.sharing.conftest import TABLES, Reader, new_name, shared, table_body


def table_of(url: str) -> pa.Table:
    """Return the rows at an address."""
    return pq.read_table(io.BytesIO(httpx2.get(url).raise_for_status().content))


def again(client: httpx2.Client, id: int) -> None:
    """Run a task once more."""
    assert client.post(f"/tasks/{id}/execute").status_code in (200, 202)
    assert ended(client, id)["state"]["code"] == "DONE"


def test_file_of_a_table_has_the_rows_and_columns_that_schema_and_statistics_tell(
    reader: Reader, ledger: tuple[int, str]
) -> None:
    answer = reader.query(ledger[1])
    assert answer.headers["delta-table-version"] == "1"
    assert answer.headers["delta-sharing-capabilities"] == "responseformat=parquet"
    assert answer.lines[0] == {"protocol": {"minReaderVersion": 1}}
    about = answer.lines[1]["metaData"]
    assert (about["name"], about["format"], about["partitionColumns"]) == (ledger[1], {"provider": "parquet"}, [])
    (file,) = answer.files
    found = table_of(file["url"])
    assert (about["numFiles"], about["size"]) == (1, file["size"])
    assert list(answer.schema) == found.column_names
    stats = json.loads(file["stats"], parse_float=Decimal)
    amounts = found.column("amount").drop_null().to_pylist()
    assert answer.schema["amount"] == "decimal(12,2)" and pa.types.is_decimal(found.schema.field("amount").type)
    assert (stats["minValues"]["amount"], stats["maxValues"]["amount"]) == (min(amounts), max(amounts))
    assert stats["numRecords"] == found.num_rows > 0
    assert stats["nullCount"] == {name: found.column(name).null_count for name in found.column_names}


def test_nested_fields_are_arrays_of_structs_in_the_schema(client: httpx2.Client, reader: Reader) -> None:
    _, name = shared(client, table_body(new_name(), "transactions"))
    answer = reader.query(name)
    nested = {column: kind for column, kind in answer.schema.items() if isinstance(kind, dict)}
    assert nested
    found = table_of(answer.files[0]["url"])
    for column, kind in nested.items():
        inner = found.schema.field(column).type.value_type
        assert [field["name"] for field in kind["elementType"]["fields"]] == [field.name for field in inner.fields]
    assert json.loads(answer.files[0]["stats"])["nullCount"].keys() == answer.schema.keys() - nested.keys()


def test_parts_and_partitions_are_files_of_the_table_that_keep_their_columns(
    client: httpx2.Client, reader: Reader
) -> None:
    body = table_body(new_name(), partition_by=[{"field": "kind"}], split={"rows": 3000}, fields=["id", "kind"])
    id, name = shared(client, body)
    answer = reader.query(name)
    listed = client.get(f"/tasks/{id}/runs/1/files", params={"limit": 1000}).json()
    assert [file["size"] for file in answer.files] == [file["bytes"] for file in listed]
    assert len(answer.files) > 2
    assert len({file["id"] for file in answer.files}) == len(answer.files)
    tables = [table_of(file["url"]) for file in answer.files]
    assert all(table.column_names == ["id", "kind"] for table in tables)
    assert [json.loads(file["stats"])["numRecords"] for file in answer.files] == [table.num_rows for table in tables]
    for file, table in zip(answer.files, tables, strict=True):
        stats = json.loads(file["stats"])
        ids = table.column("id").to_pylist()
        assert (stats["minValues"]["id"], stats["maxValues"]["id"]) == (min(ids), max(ids))
        assert file["partitionValues"] == {}
    rows = [table.num_rows for table in tables]
    assert len(reader.query(name, limitHint=1).files) == 1
    assert len(reader.query(name, limitHint=rows[0]).files) == 1
    assert len(reader.query(name, limitHint=rows[0] + 1).files) == 2
    assert reader.query(name, limitHint=0).files == []
    assert reader.query(name, limitHint=10**9).files[-1]["id"] == answer.files[-1]["id"]


def test_table_without_rows_has_one_empty_file(client: httpx2.Client, reader: Reader) -> None:
    rule = {"field_name": "kind", "field_type": "keyword", "operator": "is", "value": "no such kind"}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    _, name = shared(client, table_body(new_name(), trigger={"segment": segment}))
    (file,) = reader.query(name).files
    assert json.loads(file["stats"])["numRecords"] == table_of(file["url"]).num_rows == 0


def test_versions_are_runs_by_number_and_by_time(service: Longshore, client: httpx2.Client, reader: Reader) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"]))
    again(client, id)
    again(client, id)
    service.sql("update longshore.runs set ended_at = date '2026-05-01' + run * interval '1 d' where task_id = $1", id)
    assert reader.get(name, "version").headers["delta-table-version"] == "3"
    assert reader.client.head(f"{TABLES}/{name}").headers["delta-table-version"] == "3"
    first = reader.query(name, version=1)
    assert first.headers["delta-table-version"] == "1"
    assert (first.lines[1]["metaData"]["version"], first.files[0]["version"]) == (1, 1)
    assert first.files[0]["timestamp"] == 1_777_680_000_000  # 2026-05-02
    by_time = {
        "2026-05-02T00:00:00Z": 1,
        "2026-05-03T01:59:59+02:00": 1,
        "2026-05-03T12:00:00.5Z": 2,
        "2126-01-01T00:00:00Z": 3,
    }
    assert {text: int(reader.query(name, timestamp=text).headers["delta-table-version"]) for text in by_time} == by_time
    since = {"2020-01-01T00:00:00Z": 1, "2026-05-02T00:00:01Z": 2, "2026-05-04T00:00:00Z": 3}
    for text, number in since.items():
        answer = reader.get(name, "version", params={"startingTimestamp": text})
        assert answer.headers["delta-table-version"] == str(number)
    assert reader.get(name, "version", params={"startingTimestamp": "2026-05-04T00:00:01Z"}).status_code == 400
    about = reader.get(name, "metadata", params={"version": 2})
    assert json.loads(about.text.splitlines()[1])["metaData"]["version"] == 2
    assert reader.get(name, "metadata", params={"timestamp": "2026-05-01T00:00:00Z"}).status_code == 404
    ids = {reader.query(name, version=number).files[0]["id"] for number in (1, 2, 3)}
    assert len(ids) == 3
    assert reader.query(name, version=3).files[0]["id"] == reader.query(name).files[0]["id"]


def test_version_of_a_table_is_the_run_with_the_latest_interval(
    service: Longshore, client: httpx2.Client, reader: Reader
) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"]))
    again(client, id)
    service.sql("update longshore.runs set interval_end = '2026-01-01T00:00Z' where task_id = $1 and run = 2", id)
    assert reader.query(name).headers["delta-table-version"] == "1"
    assert reader.query(name, version=2).headers["delta-table-version"] == "2"
    service.sql("update longshore.runs set ended_at = date '2026-05-01' + run * interval '1 d' where task_id = $1", id)
    since = {"2026-05-01T00:00:00Z": "1", "2026-05-02T00:00:01Z": None}  # run 2 never was the version
    for text, number in since.items():
        answer = reader.get(name, "version", params={"startingTimestamp": text})
        assert answer.headers.get("delta-table-version") == number
    assert reader.query(name, timestamp="2026-05-04T00:00:00Z").headers["delta-table-version"] == "1"


def test_run_that_failed_or_is_under_way_is_no_version(
    service: Longshore, client: httpx2.Client, reader: Reader
) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"]))
    again(client, id)
    for state in ("ERROR", "INPROGRESS"):
        service.sql("update longshore.runs set state = $2 where task_id = $1 and run = 2", id, state)
        assert reader.query(name).headers["delta-table-version"] == "1"
        assert reader.get(name, "metadata", params={"version": 2}).status_code == 404


def test_newer_result_of_another_format_is_no_version_and_hides_no_older_one_behind_it(
    client: httpx2.Client, reader: Reader
) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"]))
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "csv", "fields": ["id"]}
    assert client.patch(f"/tasks/{id}", json={"target": target}).is_success
    again(client, id)
    shared_again = {**target, "export_format": "parquet", "share_as": name}
    assert client.patch(f"/tasks/{id}", json={"target": shared_again}).is_success
    assert reader.get(name, "metadata").status_code == 404
    assert reader.query(name, version=1).files
    again(client, id)
    assert reader.query(name).headers["delta-table-version"] == "3"


def test_client_that_takes_only_delta_gets_the_actions_of_a_log(reader: Reader, ledger: tuple[int, str]) -> None:
    name = ledger[1]
    plain = reader.query(name)
    answer = reader.query(name, {"delta-sharing-capabilities": "ResponseFormat=Delta;readerfeatures=deletionvectors"})
    assert answer.headers["delta-sharing-capabilities"] == "responseformat=delta"
    assert answer.lines[0] == {"protocol": {"deltaProtocol": {"minReaderVersion": 1, "minWriterVersion": 2}}}
    about = answer.lines[1]["metaData"]["deltaMetadata"]
    assert about["schemaString"] == plain.lines[1]["metaData"]["schemaString"]
    add = answer.files[0]["deltaSingleAction"]["add"]
    assert (add["size"], add["stats"]) == (plain.files[0]["size"], plain.files[0]["stats"])
    assert answer.files[0]["id"] == plain.files[0]["id"]
    assert table_of(add["path"]).num_rows > 0


def test_capabilities_that_the_server_lacks_are_answered_in_parquet(reader: Reader, ledger: tuple[int, str]) -> None:
    for capabilities in (
        "responseformat=delta,parquet;readerfeatures=x",
        "responseformat=parquet",
        "asyncquery=true",
        "x",
        ";=",
    ):
        answer = reader.query(ledger[1], {"delta-sharing-capabilities": capabilities})
        assert answer.headers["delta-sharing-capabilities"] == "responseformat=parquet"
        assert len(answer.lines) == 3
    answer = reader.query(ledger[1], {"delta-sharing-capabilities": "includeEndStreamAction=true"})
    assert answer.headers["delta-sharing-capabilities"] == "responseformat=parquet;includeendstreamaction=true"
    assert answer.lines[-1] == {
        "endStreamAction": {"minUrlExpirationTimestamp": answer.lines[-2]["file"]["expirationTimestamp"]}
    }


def test_ids_of_files_are_the_same_in_both_schemes_and_the_scheme_is_echoed(
    reader: Reader, ledger: tuple[int, str]
) -> None:
    plain = reader.query(ledger[1])
    for scheme in ("Parquet", "delta"):
        answer = reader.query(ledger[1], {"fileidhash": scheme})
        assert answer.headers["fileidhash"] == scheme.lower()
        assert answer.files[0]["id"] == plain.files[0]["id"]
    assert "fileidhash" not in plain.headers
    refused = reader.client.post(f"{TABLES}/{ledger[1]}/query", json={}, headers={"fileidhash": "md5"})
    assert (refused.status_code, refused.json()["errorCode"]) == (400, "INVALID_PARAMETER_VALUE")


def test_addresses_expire_within_an_hour_serve_ranges_and_end_with_the_token(
    service: Longshore, client: httpx2.Client, ledger: tuple[int, str]
) -> None:
    token = service.token(Level.READ)
    with httpx2.Client(base_url=service.address, headers={"Authorization": f"Bearer {token}"}) as opened:
        (file,) = Reader(opened).query(ledger[1]).files
    now = service.sql("select extract(epoch from now())::float8")[0][0]
    assert 3500 < file["expirationTimestamp"] / 1000 - now <= 3600
    assert httpx2.head(file["url"]).headers["content-length"] == str(file["size"])
    tail = httpx2.get(file["url"], headers={"Range": "bytes=-4"})
    assert (tail.status_code, tail.content) == (206, b"PAR1")
    links = client.get(f"/tasks/{ledger[0]}/links").json()
    assert links[0]["created_by"] == f"token {token.split(':')[0]}"
    with service.client(Level.ADMIN) as admin:
        entries = admin.get("/audit", params={"limit": 20}).json()
        found = {entry["action"] for entry in entries if (entry["details"] or {}).get("link") == links[0]["id"]}
        assert found == {"result.address", "result.download"}
        assert admin.delete(f"/access_tokens/{token.split(':')[0]}").status_code == 200
    assert httpx2.get(file["url"]).status_code == 403


def test_table_with_a_column_that_the_token_may_not_see_is_not_there(
    service: Longshore, client: httpx2.Client, reader: Reader, limited_reader: Reader
) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"]))
    assert limited_reader.query(name).files
    target = client.get(f"/tasks/{id}").json()["target"]
    assert client.patch(f"/tasks/{id}", json={"target": {**target, "fields": ["id", "amount"]}}).is_success
    assert limited_reader.query(name).files  # judged by what the version's run has read
    again(client, id)
    assert name in reader.names() and name not in limited_reader.names()
    for answer in (
        limited_reader.get(name), limited_reader.get(name, "version"), limited_reader.get(name, "metadata"),
        limited_reader.get(name, "changes"),
        limited_reader.get(name, "metadata", params={"version": 1}),
        limited_reader.client.post(f"{TABLES}/{name}/query", json={"version": 1}),
    ):  # fmt: skip
        assert answer.status_code == 404
    with service.client(Level.READ, scope=Scope(indexes=["users"])) as other:
        assert name not in Reader(other).names()
        assert Reader(other).get(name, "metadata").status_code == 404


def test_rules_of_a_hidden_column_hide_the_table_too(client: httpx2.Client, limited_reader: Reader) -> None:
    rule = {"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": 0}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    _, name = shared(client, table_body(new_name(), trigger={"segment": segment}, fields=["id"]))
    assert name not in limited_reader.names()
    assert limited_reader.get(name, "metadata").status_code == 404


@pytest.mark.parametrize("path", ["", "version", "metadata", "changes"])
def test_table_of_another_chain_is_answered_as_one_that_does_not_exist(
    service: Longshore, ledger: tuple[int, str], path: str
) -> None:
    with service.client(Level.ADMIN, chain=1765) as foreign:
        for share in ("1764", "1765", "17640"):
            tables = f"/delta-sharing/shares/{share}/schemas/exports/tables"
            there, nowhere = (Reader(foreign, tables).get(name, path) for name in (ledger[1], new_name()))
            assert (there.status_code, nowhere.status_code) == (404, 404)
            assert there.json()["errorCode"] == nowhere.json()["errorCode"] == "RESOURCE_DOES_NOT_EXIST"
