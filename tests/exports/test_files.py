"""Results of many files: partitions, parts and bundles, through HTTP, worker and store."""

import csv
import gzip
import hashlib
import io
import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from longshore import Longshore as Client
from longshore.access.tokens import Level, Scope
from longshore.client import DownloadError
from longshore.errors import LongshoreError
from longshore.exports.verify import verify
from tests.service import CHAIN, Longshore, ended, export_body


@pytest.fixture
def client(service: Longshore) -> Iterator[httpx2.Client]:
    """Yield a client of the service with the demo's data, for chain 1764."""
    with service.client() as opened:
        yield opened


def files_body(format: str = "csv", index: str | list[str] = "wallet-ledger", **target: Any) -> dict[str, Any]:
    """Return the body of an export with more keys in its target."""
    body = export_body(format)
    if isinstance(index, list):
        del body["target"]["export_index"]
        body["target"]["export_indexes"] = index
    else:
        body["target"]["export_index"] = index
    body["target"] |= target
    return body


def done(client: httpx2.Client, body: dict[str, Any]) -> dict[str, Any]:
    """Return a new task once it is DONE."""
    created = client.post("/tasks", json=body)
    assert created.status_code == 201, created.text
    task = ended(client, created.json()["id"])
    assert task["state"]["code"] == "DONE", task["logs"]
    return task


def fetched(client: httpx2.Client, task: int, folder: Path, run: int = 1) -> dict[str, Any]:
    """Download all files of a run, page by page, and its manifest; return the manifest."""
    offset = 0
    while True:
        answer = client.get(f"/tasks/{task}/runs/{run}/files", params={"limit": 50, "offset": offset})
        assert answer.status_code == 200, answer.text
        for file in answer.json():
            content = httpx2.get(file["url"])
            assert content.status_code == 200, content.text
            assert hashlib.sha256(content.content).hexdigest() == file["sha256"]
            assert len(content.content) == file["bytes"]
            path = folder / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.content)
        offset += len(answer.json())
        if 'rel="next"' not in answer.headers.get("Link", ""):
            break
    found: dict[str, Any] = client.get(f"/tasks/{task}/runs/{run}/manifest").json()
    assert len(found["files"]) == offset
    return found


def fetched_and_verified(client: httpx2.Client, task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Download all files of the first run, and check them as `longshore verify` does; return the manifest."""
    manifest = fetched(client, task["id"], folder)
    address = client.get(f"/tasks/{task['id']}/download_url").json()["url"]
    text = httpx2.get(address).content
    (folder / task["result"]).write_bytes(text)
    assert json.loads(text) == manifest
    verify([folder / task["result"]])
    return manifest


def rows_of(folder: Path, manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of all CSV files of a manifest, each file with its own header."""
    found = []
    for file in manifest["files"]:
        with (folder / file["path"]).open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        assert len(rows) == file["rows"]
        found += rows
    return found


def test_split_by_rows_makes_parts_of_exactly_so_many_rows(small_client: httpx2.Client, tmp_path: Path) -> None:
    body = files_body(split={"rows": 300}) | {"chain": 1765}
    task = done(small_client, body)
    assert task["result"] == f"Wallet_Export-{task['id']}.manifest.json"
    manifest = fetched_and_verified(small_client, task, tmp_path)
    assert [file["rows"] for file in manifest["files"]] == [300] * 6 + [200]
    assert [file["path"] for file in manifest["files"]] == [f"wallet-ledger/part-{n:05}.csv" for n in range(1, 8)]
    whole = done(small_client, export_body(chain=1765))
    text = httpx2.get(small_client.get(f"/tasks/{whole['id']}/download_url").json()["url"]).text
    assert rows_of(tmp_path, manifest) == list(csv.DictReader(io.StringIO(text)))
    assert (
        manifest["indexes"][0]["totals"] == small_client.get(f"/tasks/{whole['id']}/runs/1/manifest").json()["totals"]
    )
    (run,) = small_client.get(f"/tasks/{task['id']}/runs").json()
    assert (run["rows"], run["bytes"]) == (2000, sum(file["bytes"] for file in manifest["files"]))
    assert run["sha256"] == hashlib.sha256((tmp_path / task["result"]).read_bytes()).hexdigest()


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet"])
def test_each_format_has_its_own_header_and_compression_in_each_part(
    small_client: httpx2.Client, tmp_path: Path, format: str
) -> None:
    compression = "zstd" if format == "parquet" else "gzip"
    task = done(small_client, files_body(format, split={"rows": 700}, compression=compression) | {"chain": 1765})
    manifest = fetched_and_verified(small_client, task, tmp_path)
    assert [file["rows"] for file in manifest["files"]] == [700, 700, 600]
    for file in manifest["files"]:
        path = tmp_path / file["path"]
        if format == "parquet":
            assert pq.read_metadata(path).num_rows == file["rows"]
            continue
        text = gzip.decompress(path.read_bytes()).decode()
        if format == "csv":
            assert len(list(csv.DictReader(io.StringIO(text)))) == file["rows"]
        elif format == "json":
            assert len(json.loads(text)) == file["rows"]
        else:
            assert len([json.loads(line) for line in text.splitlines()]) == file["rows"]


def test_each_part_begins_with_one_byte_order_mark(small_client: httpx2.Client, tmp_path: Path) -> None:
    task = done(small_client, files_body(split={"rows": 700}, csv={"bom": True}) | {"chain": 1765})
    files = fetched_and_verified(small_client, task, tmp_path)["files"]
    contents = [(tmp_path / file["path"]).read_bytes() for file in files]
    assert [content[: len(BOM_UTF8) + 2] for content in contents] == [BOM_UTF8 + b"id"] * 3
    assert [content.count(BOM_UTF8) for content in contents] == [1] * 3


def test_split_by_bytes_closes_a_part_shortly_after_so_many_bytes(client: httpx2.Client, tmp_path: Path) -> None:
    for format, size, most in (("csv", 400_000, 1.2), ("parquet", 200_000, 1.4)):
        folder = tmp_path / format
        folder.mkdir()
        manifest = fetched_and_verified(client, done(client, files_body(format, split={"bytes": size})), folder)
        *full, last = [file["bytes"] for file in manifest["files"]]
        assert len(full) >= 2
        assert all(size <= stored <= most * size for stored in full), full
        assert last <= most * size


def test_partitions_are_the_days_months_and_years_of_the_triggers_zone(client: httpx2.Client, tmp_path: Path) -> None:
    zone = ZoneInfo("America/New_York")
    for by, pattern in (("day", "%Y-%m-%d"), ("month", "%Y-%m"), ("year", "%Y")):
        folder = tmp_path / by
        folder.mkdir()
        body = files_body(partition_by=[{"field": "timestamp", "by": by}])
        body["trigger"]["timezone"] = zone.key
        manifest = fetched_and_verified(client, done(client, body), folder)
        counted: Counter[str] = Counter()
        for file in manifest["files"]:
            value = file["partition"][f"timestamp_{by}"]
            assert file["path"] == f"wallet-ledger/timestamp_{by}={value}/part-00001.csv"
            for row in rows_of(folder, {"files": [file]}):
                assert datetime.fromisoformat(row["timestamp"]).astimezone(zone).strftime(pattern) == value
                counted[value] += 1
        assert sum(counted.values()) == 20_000
        assert [file["partition"][f"timestamp_{by}"] for file in manifest["files"]] == sorted(counted)


def test_two_keys_make_two_levels_of_folders_and_split_cuts_within_them(client: httpx2.Client, tmp_path: Path) -> None:
    keys = [{"field": "kind"}, {"field": "timestamp", "by": "year"}]
    task = done(client, files_body("parquet", partition_by=keys, split={"rows": 3000}))
    manifest = fetched_and_verified(client, task, tmp_path)
    assert all(file["rows"] <= 3000 for file in manifest["files"])
    dataset = ds.dataset(tmp_path / "wallet-ledger", format="parquet")
    assert dataset.count_rows() == 20_000
    for file in manifest["files"]:
        table = pq.read_table(tmp_path / file["path"], partitioning=None)
        assert set(table["kind"].to_pylist()) == {file["partition"]["kind"]}
        years = {str(moment.year) for moment in table["timestamp"].to_pylist()}
        assert years == {file["partition"]["timestamp_year"]}
    by_folder: dict[str, list[int]] = {}
    for file in manifest["files"]:
        by_folder.setdefault(file["path"].rpartition("/")[0], []).append(file["rows"])
    assert all(rows[:-1] == [3000] * (len(rows) - 1) for rows in by_folder.values())


def test_arrow_reads_hive_partitions(client: httpx2.Client, tmp_path: Path) -> None:
    task = done(client, files_body("parquet", partition_by=[{"field": "timestamp", "by": "day"}]))
    manifest = fetched_and_verified(client, task, tmp_path)
    day = manifest["files"][1]["partition"]["timestamp_day"]
    dataset = ds.dataset(tmp_path / "wallet-ledger", format="parquet", partitioning="hive")
    assert dataset.count_rows() == 20_000
    assert dataset.count_rows(filter=ds.field("timestamp_day") == day) == manifest["files"][1]["rows"]


def test_a_bundle_has_all_indexes_from_one_snapshot(client: httpx2.Client, tmp_path: Path) -> None:
    rule = {"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": 0}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    body = files_body(
        index=["users", "wallet-ledger"], fields={"wallet-ledger": ["id", "amount", "kind"]},
        partition_by={"wallet-ledger": [{"field": "kind"}]},
    )  # fmt: skip
    body["trigger"]["segment"] = {"wallet-ledger": segment}
    task = done(client, body)
    assert task["result"] == f"Bundle_Export-{task['id']}.manifest.json"
    manifest = fetched_and_verified(client, task, tmp_path)
    users, ledger = manifest["indexes"]
    assert [users["index"], ledger["index"]] == ["users", "wallet-ledger"]
    assert (users["segment"], [field["name"] for field in ledger["fields"]]) == (None, ["id", "amount", "kind"])
    assert ledger["segment"]["rules"]
    amounts = [float(row["amount"]) for row in rows_of(tmp_path, {"files": manifest["files"][1:]})]
    assert len(amounts) == ledger["rows"] > 0
    assert min(amounts) > 0
    assert manifest["files"][0]["path"] == "users/part-00001.csv"
    assert manifest["rows"] == users["rows"] + ledger["rows"]


def test_an_index_without_rows_has_one_empty_part(client: httpx2.Client, tmp_path: Path) -> None:
    rule = {"field_name": "id", "field_type": "number", "operator": "is", "value": -1}
    for format in ("csv", "json", "parquet"):
        folder = tmp_path / format
        folder.mkdir()
        body = files_body(format, partition_by=[{"field": "kind"}], split={"rows": 10})
        body["trigger"]["segment"] = {
            "entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]
        }  # fmt: skip
        manifest = fetched_and_verified(client, done(client, body), folder)
        (file,) = manifest["files"]
        assert (file["path"], file["rows"], file["partition"]) == (f"wallet-ledger/part-00001.{format}", 0, {})


def test_the_same_request_over_the_same_rows_gives_the_same_files(client: httpx2.Client) -> None:
    body = files_body(
        "parquet", partition_by=[{"field": "timestamp", "by": "month"}], split={"bytes": 100_000}, compression="zstd"
    )
    found = []
    for _ in range(2):
        task = done(client, body)
        manifest = client.get(f"/tasks/{task['id']}/runs/1/manifest").json()
        found.append(manifest["files"])
    assert found[0] == found[1]


def test_more_than_ten_thousand_files_end_in_an_error(client: httpx2.Client, service: Longshore) -> None:
    keys = [{"field": "timestamp", "by": "day"}, {"field": "kind"}]
    created = client.post("/tasks", json=files_body(partition_by=keys, split={"rows": 1}))
    task = ended(client, created.json()["id"])
    assert task["state"]["code"] == "ERROR"
    assert "the export has more than 10,000 files" in task["logs"][-2]["msg"]
    below = service.data / "results" / str(CHAIN) / str(task["id"])
    assert [path for path in service.files() if path.is_relative_to(below)] == []


VIOLATIONS: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    (files_body("xlsx", split={"rows": 5}), {}, [("/target/export_format", "xlsx is one workbook")]),
    (
        files_body("xlsx", partition_by=[{"field": "kind"}]),
        {},
        [("/target/export_format", "xlsx is one workbook")],
    ),
    *(
        (files_body(index=index, incremental=True, deletes=True, **files), {}, [("/target/deletes", "of many files")])
        for index, files in (
            ("wallet-ledger", {"split": {"rows": 5}}),
            ("wallet-ledger", {"partition_by": [{"field": "kind"}]}),
            (["users"], {}),
        )
    ),
    (files_body(split={}), {}, [("/target/split", "expected either `rows` or `bytes`")]),
    (files_body(split={"rows": 1, "bytes": 1}), {}, [("/target/split", "expected either `rows` or `bytes`")]),
    (files_body(split={"rows": 0}), {}, [("/target/split/rows", "expected an integer of at least 1")]),
    (files_body(partition_by=[]), {}, [("/target/partition_by", "expected at least one field")]),
    (
        files_body(partition_by=[{"field": "kin"}]),
        {},
        [("/target/partition_by/0/field", 'did you mean "kind"')],
    ),
    (files_body(partition_by=[{"field": "timestamp"}]), {}, [("/target/partition_by/0/by", "is required for a date")]),
    (files_body(partition_by=[{"field": "amount"}]), {}, [("/target/partition_by/0/field", "amount is a number")]),
    (
        files_body(partition_by=[{"field": "kind", "by": "day"}]),
        {},
        [("/target/partition_by/0/by", "is for a date")],
    ),
    (
        files_body(partition_by=[{"field": "kind"}, {"field": "kind"}]),
        {},
        [("/target/partition_by/1", "is the name of another key")],
    ),
    (files_body(partition_by={"users": []}), {}, [("/target/partition_by", "only with `export_indexes`")]),
    (files_body(index=[]), {}, [("/target/export_indexes", "expected at least one index")]),
    (files_body(index=["users", "users"]), {}, [("/target/export_indexes/1", "is named before")]),
    (files_body(index=["users", "usrs"]), {}, [("/target/export_indexes/1", 'did you mean "users"')]),
    (files_body(index=["users"], export_index="users"), {}, [("/target/export_index", "got both")]),
    (files_body(index=["users"], incremental=True), {}, [("/target/incremental", "not supported with")]),
    (files_body(index=["users"], fields={"vouchers": ["id"]}), {}, [("/target/fields/vouchers", "not among")]),
    (
        files_body(index=["users", "wallet-ledger"], fields=["id", "kind"]),
        {},
        [("/target/fields/1", "(index users)")],
    ),
    (
        files_body(index=["users"]),
        {"segment_id": "0b9f1b0e-0000-4000-8000-000000000000"},
        [("/trigger/segment_id", "is for one index")],
    ),
    (files_body(index=["users"]), {"segment": {"vouchers": {}}}, [("/trigger/segment/vouchers", "is not among")]),
    (
        files_body(index=["users"]),
        {"segment": {"users": {"rules": []}}},
        [("/trigger/segment/users/entity", "required")],
    ),
]


@pytest.mark.parametrize(("body", "trigger", "expected"), VIOLATIONS)
def test_violations_of_many_files_name_place_and_correction(
    idle_client: httpx2.Client, body: dict[str, Any], trigger: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    answer = idle_client.post("/tasks", json={**body, "trigger": {**body["trigger"], **trigger}})
    assert answer.status_code == 400, answer.text
    errors = answer.json()["errors"]
    for at, message in expected:
        assert [error for error in errors if error["pointer"] == at and message in error["detail"]], errors


def test_a_page_of_files_is_one_link_whose_revocation_closes_all_of_it(client: httpx2.Client) -> None:
    task = done(client, files_body(split={"rows": 4000}))
    page = client.get(f"/tasks/{task['id']}/runs/1/files", params={"limit": 3}).json()
    rest = client.get(f"/tasks/{task['id']}/runs/1/files", params={"limit": 3, "offset": 3}).json()
    links = client.get(f"/tasks/{task['id']}/links").json()
    assert (len(page), len(rest), len(links)) == (3, 2, 2)
    assert httpx2.get(page[0]["url"]).headers["X-Row-Count"] == "4000"
    assert client.delete(f"/tasks/{task['id']}/links/{links[1]['id']}").status_code == 204
    assert [httpx2.get(file["url"]).status_code for file in [*page, *rest]] == [403] * 3 + [200] * 2
    swapped = page[0]["url"].replace("part-00001", "part-00002")
    assert httpx2.get(swapped).status_code == 403
    single = done(client, export_body())
    (only,) = client.get(f"/tasks/{single['id']}/runs/1/files").json()
    assert (only["path"], only["rows"], only["partition"]) == (single["result"], 20_000, {})
    assert httpx2.get(only["url"]).status_code == 200


def test_rights_to_a_bundle_need_the_rights_to_each_index(service: Longshore, client: httpx2.Client) -> None:
    task = done(client, files_body(index=["users", "wallet-ledger"]))
    with service.client(Level.WRITE, scope=Scope(indexes=["wallet-ledger"])) as limited:
        for path in ("manifest", "files", "download_url"):
            assert limited.get(f"/tasks/{task['id']}/runs/1/{path}").status_code == 403, path
        assert limited.get(f"/tasks/{task['id']}/download_url").status_code == 403
        refused = limited.post("/tasks", json=files_body(index=["wallet-ledger", "users"]))
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (403, "/target/export_indexes/1")
    with service.client(Level.WRITE, scope=Scope(hidden_columns=["wallet-ledger.kind"])) as limited:
        body = files_body(fields=["id"], partition_by=[{"field": "kind"}])
        refused = limited.post("/tasks", json=body)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (403, "/target/partition_by/0")
        seen = done(client, body)
        assert limited.get(f"/tasks/{seen['id']}/runs/1/files").status_code == 403


def test_deleting_a_task_removes_all_its_files_and_their_bytes(client: httpx2.Client, service: Longshore) -> None:
    before = service.sql("select result_bytes from longshore.chain_usage where chain_id = $1", CHAIN)[0][0]
    task = done(client, files_body(index=["users", "wallet-ledger"], split={"rows": 5000}))
    size = client.get(f"/tasks/{task['id']}/runs").json()[0]["bytes"]
    after = service.sql("select result_bytes from longshore.chain_usage where chain_id = $1", CHAIN)[0][0]
    assert after - before == size
    folder = service.data / "results" / str(CHAIN) / str(task["id"])
    assert sum(path.stat().st_size for path in folder.rglob("*.csv")) == size
    assert client.delete(f"/tasks/{task['id']}").status_code == 204
    assert not folder.exists()


def test_client_downloads_all_files_again_only_what_is_missing_and_reads_one_table(
    service: Longshore, tmp_path: Path
) -> None:
    with Client(service.address, service.token(), chain=CHAIN) as client:
        task = client.exports.create("wallet-ledger", format="parquet", partition_by=[{"field": "kind"}]).wait(60)
        manifest = task.download(tmp_path)
        verify([manifest])
        files = task.files(1)
        kept, gone = (tmp_path / file.path for file in files[:2])
        before = kept.stat().st_mtime_ns
        gone.unlink()
        assert task.download(tmp_path) == manifest
        assert (gone.is_file(), kept.stat().st_mtime_ns) == (True, before)
        assert task.to_arrow().num_rows == 20_000
        with pytest.raises(DownloadError, match="give a folder"):
            task.download(tmp_path / "file.parquet")


def test_verify_finds_a_changed_missing_or_foreign_file(client: httpx2.Client, tmp_path: Path) -> None:
    task = done(client, files_body(split={"rows": 8000}))
    manifest = fetched_and_verified(client, task, tmp_path)
    path, first = tmp_path / task["result"], tmp_path / manifest["files"][0]["path"]
    content = first.read_bytes()
    first.write_bytes(content[:-2] + b"\n\n")
    with pytest.raises(LongshoreError, match="was changed"):
        verify([path])
    first.unlink()
    with pytest.raises(LongshoreError, match="cannot be read"):
        verify([path])
    first.write_bytes(content)
    text = path.read_text()
    for old, new in (
        (manifest["files"][0]["path"], "../outside.csv"),
        ('"rows": 20000', '"rows": 20001'),
        (f'"bytes": {manifest["bytes"]}', f'"bytes": {manifest["bytes"] + 1}'),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(LongshoreError):
            verify([path])


def test_an_increment_of_many_files_is_given_again_until_it_is_acknowledged(
    client: httpx2.Client, tmp_path: Path
) -> None:
    task = done(client, files_body(incremental="on_ack", split={"rows": 7000}))
    assert client.post(f"/tasks/{task['id']}/execute").json()["code"] == "DONE"
    first, second = fetched(client, task["id"], tmp_path), fetched(client, task["id"], tmp_path, run=2)
    assert first["files"] == second["files"]
    assert (first["run"], second["run"]) == (1, 2)
    assert client.post(f"/tasks/{task['id']}/runs/2/ack").status_code == 200
    assert client.post(f"/tasks/{task['id']}/execute").json()["code"] == "DONE"
    third = fetched(client, task["id"], tmp_path, run=3)
    assert (third["rows"], len(third["files"])) == (0, 1)


def test_a_value_too_long_for_a_folder_ends_the_run_with_its_name(odd_values_client: httpx2.Client) -> None:
    created = odd_values_client.post("/tasks", json=files_body(index="odd", partition_by=[{"field": "code"}]))
    task = ended(odd_values_client, created.json()["id"])
    assert task["state"]["code"] == "ERROR"
    assert "the partition code = " in task["logs"][-2]["msg"]
    assert "partition by a field with shorter values" in task["logs"][-2]["msg"]
