"""Results of many files in a bucket: a real S3 server (moto's) on this machine."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx2
import pytest

from longshore.exports.many_files import removed_after_error
from longshore.exports.snapshot import SourceConnections
from longshore.results.bucket import BucketStore
from longshore.results.store import AttemptFiles
from longshore.tasks.model import ChainId, TaskId
from tests.results.bucket import BUCKET, Relay, keys, unfinished
from tests.results.refusing import Server
from tests.service import CHAIN, Longshore, ended, export_body


def test_files_lie_below_their_folders_and_each_has_an_address(
    bucket: Any, new_service: Callable[..., Longshore]
) -> None:
    service = new_service(2_000, results_url=f"s3://{BUCKET}/exports", shard_rows="500")
    for _ in range(2):
        service.start("worker")
    service.start_api()
    body = export_body()
    body["target"] |= {"partition_by": [{"field": "kind"}], "split": {"rows": 300}}
    with service.client() as client:
        task = ended(client, client.post("/tasks", json=body).json()["id"])
        assert task["state"]["code"] == "DONE", task["logs"]
        manifest = client.get(f"/tasks/{task['id']}/runs/1/manifest").json()
        files = client.get(f"/tasks/{task['id']}/runs/1/files").json()
        below = f"exports/{CHAIN}/{task['id']}/1/"
        beside = [task["result"], task["result"] + ".jws"]
        assert keys(bucket) == sorted(below + path for path in [*beside, *(file["path"] for file in files)])
        assert [{**file, "url": None} for file in files] == [{**file, "url": None} for file in manifest["files"]]
        for file in files:
            answer = httpx2.get(file["url"])
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{file["path"].rpartition("/")[2]}"'
            assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
        assert httpx2.get(client.get(f"/tasks/{task['id']}/download_url").json()["url"]).json() == manifest
        assert client.delete(f"/tasks/{task['id']}").status_code == 204
    assert keys(bucket) == []


def test_files_of_an_attempt_without_a_manifest_are_found_and_removed(bucket: Any) -> None:
    store = BucketStore(f"s3://{BUCKET}/some/prefix")
    for attempt in (1, 2, 3):
        for name in ("a/k=Den%20Haag/part-00001.csv", "b/part-00001.csv"):
            with store.create(f"1/2/{attempt}/{name}", is_part=True) as file:
                file.write(b"x" * (9 << 20 if attempt == 2 else 1))
                file.publish()
    with store.create("1/2/2/A.manifest.json") as manifest:
        manifest.write(json.dumps({}).encode())
        manifest.publish()
    assert {file.attempt for file in store.attempts(2**40)} == {1, 2, 3}
    store.remove_abandoned(AttemptFiles(ChainId(1), TaskId(2), 2), ["1/2/2/A.manifest.json"])
    assert {key.split("/")[4] for key in keys(bucket)} == {"2", "3"}
    store.remove_attempt(AttemptFiles(ChainId(1), TaskId(2), 3))
    assert keys(bucket) == [
        f"some/prefix/1/2/2/{name}" for name in ("A.manifest.json", "a/k=Den%20Haag/part-00001.csv", "b/part-00001.csv")
    ]
    with store.open("1/2/2/a/k=Den%20Haag/part-00001.csv") as opened:
        assert len(opened.read()) == 9 << 20
    store.remove("1/2/2/A.manifest.json")
    assert keys(bucket) == []


def test_a_file_that_is_given_up_leaves_nothing(bucket: Any) -> None:
    store = BucketStore(f"s3://{BUCKET}/some/prefix")
    for size in (1, 20 << 20):
        file = store.create("1/2/3/a/part-00001.csv", is_part=True)
        file.write(bytes(size))
        file.close()
    assert (keys(bucket), unfinished(bucket)) == ([], [])


def test_a_worker_that_gives_up_a_complete_file_removes_none_that_another_one_has_written(bucket: Any) -> None:
    """As where the first one, which was lost, cannot read its file back."""
    store = BucketStore(f"s3://{BUCKET}/some/prefix")
    with store.create("1/2/3/a/part-00001.parquet", is_part=True) as lost:
        lost.write(b"rows")
        with store.create("1/2/3/a/part-00001.parquet", is_part=True) as other:
            other.write(b"rows")
            other.publish()
        lost.finish()
    assert keys(bucket) == ["some/prefix/1/2/3/a/part-00001.parquet"]


def test_error_of_an_export_is_the_first_one_where_the_store_then_refuses_to_remove_its_files(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relay
    server = Server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    server.refuse(403, "AccessDenied")
    store = BucketStore(f"s3://{BUCKET}")

    async def run() -> None:
        pool = asyncpg.create_pool("postgresql://nowhere.invalid")  # not open: the source answers nothing
        async with removed_after_error(store, "1/2/3/A.manifest.json"), SourceConnections(pool, 1).snapshot():
            raise AssertionError

    try:
        with pytest.raises(asyncpg.InterfaceError, match="not initialized"):
            asyncio.run(run())
    finally:
        server.close()
    assert server.requests
