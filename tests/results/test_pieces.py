"""Results that several workers write: on the disk, and as one multipart upload to a real S3 server."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.results import s3_assembly, s3_requests
from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.local_files import LocalAssembly
from longshore.results.s3_assembly import MIN_PART_BYTES, PART_BYTES, ObjectAssembly, UnfitPieceError, UploadedPiece
from longshore.results.s3_requests import S3Requests
from longshore.results.store import AttemptFiles, Piece, PieceNumber, Store, StoreUnavailableError
from longshore.tasks.model import ChainId, TaskId
from tests.exports.test_shards import CATALOG, ROWS, SHARD_ROWS, SOURCE
from tests.results.bucket import BUCKET, Relay, keys, unfinished
from tests.service import CHAIN, Longshore, ended, export_body
from tests.waiting import until

NAME = f"{CHAIN}/1/2/Wallet_Export-1.csv"
KEY = f"some/prefix/{NAME}"


def bucket_of(store: BucketStore) -> S3Requests:
    assert store.bucket is not None
    return store.bucket


@pytest.fixture
def store(bucket: Any) -> BucketStore:
    assert bucket
    return BucketStore(f"s3://{BUCKET}/some/prefix")


def written(store: Store, upload: str, number: int, content: bytes, trial: int = 1, count: int = 3) -> Piece:
    file = store.piece(NAME, upload, PieceNumber(number, count, trial))
    try:
        for start in range(0, len(content), 1 << 20):
            file.write(content[start : start + (1 << 20)])
        return file.end()
    finally:
        file.close()


def assembly_of(store: BucketStore) -> ObjectAssembly:
    return ObjectAssembly(bucket_of(store), NAME, partial(store.open, NAME))


CONTENTS = [os.urandom(2 * PART_BYTES + 12345), os.urandom(MIN_PART_BYTES + 1), os.urandom(99)]
WHOLE = b"".join(CONTENTS)


def test_pieces_written_apart_make_one_object_with_its_manifest_and_headers(bucket: Any, store: BucketStore) -> None:
    assembly = assembly_of(store)
    pieces = {number: written(store, assembly.upload, number, CONTENTS[number]) for number in (2, 0, 1)}
    for number in range(3):
        assembly.add(pieces[number])
    assert keys(bucket) == []
    assert assembly.finish() == (len(WHOLE), hashlib.sha256(WHOLE).digest())
    assembly.publish({".manifest.json": b"{}"})
    assembly.close()
    assert keys(bucket) == [KEY, f"{KEY}.manifest.json"]
    found = bucket.get_object(Bucket=BUCKET, Key=KEY)
    assert found["ContentDisposition"] == 'attachment; filename="Wallet_Export-1.csv"'
    assert found["ContentType"] == "text/csv; charset=utf-8"
    assert found["Body"].read() == WHOLE
    assert unfinished(bucket) == []


def test_pieces_written_apart_make_one_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assembly = LocalAssembly(store.path(NAME))
    pieces = [written(store, "", number, content) for number, content in enumerate(CONTENTS)]
    for found in pieces:
        assembly.add(found)
    assert assembly.finish() == (len(WHOLE), hashlib.sha256(WHOLE).digest())
    assembly.publish({".json": b"{}"})
    assembly.close()
    assert (tmp_path / NAME).read_bytes() == WHOLE
    assert sorted(path.name for path in (tmp_path / NAME).parent.iterdir()) == [
        "Wallet_Export-1.csv",
        "Wallet_Export-1.csv.json",
    ]
    with pytest.raises(FileNotFoundError):  # a late worker has no folder to write to
        written(store, "", 1, b"late", trial=2)


def test_assembly_that_is_closed_unpublished_leaves_nothing(bucket: Any, store: BucketStore, tmp_path: Path) -> None:
    assembly = assembly_of(store)
    assembly.add(written(store, assembly.upload, 0, CONTENTS[0]))
    assembly.close()
    assert (keys(bucket), unfinished(bucket)) == ([], [])
    local = LocalStore(tmp_path)
    other = LocalAssembly(local.path(NAME))
    other.add(written(local, "", 0, CONTENTS[0]))
    written(local, "", 1, CONTENTS[1])
    other.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_late_parts_of_a_lost_worker_do_not_change_the_result(store: BucketStore) -> None:
    assembly = assembly_of(store)
    upload = assembly.upload
    found = written(store, upload, 0, CONTENTS[0], trial=2)
    written(store, upload, 0, os.urandom(len(CONTENTS[0])), trial=1)  # written too late, after the other trial
    assembly.add(found)
    assert assembly.finish() == (len(CONTENTS[0]), hashlib.sha256(CONTENTS[0]).digest())
    assembly.close()


def test_a_small_piece_in_the_middle_is_refused_and_an_empty_one_is_not(store: BucketStore) -> None:
    assembly = assembly_of(store)
    assembly.add(written(store, assembly.upload, 0, CONTENTS[1]))
    assembly.add(written(store, assembly.upload, 1, b""))
    assembly.add(written(store, assembly.upload, 2, CONTENTS[2]))
    with pytest.raises(UnfitPieceError):
        assembly.add(Piece(1, parts=[(1, "")]))
    assert assembly.finish()[0] == len(CONTENTS[1]) + len(CONTENTS[2])
    assembly.close()


def test_a_piece_of_more_parts_than_it_has_numbers_for_is_refused(
    store: BucketStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_assembly, "MAX_PARTS", 12)
    assembly = assembly_of(store)
    piece = written(store, assembly.upload, 0, bytes(60 << 20), count=2)
    assert piece == Piece(60 << 20)
    with pytest.raises(UnfitPieceError, match="more than its share"):
        assembly.add(piece)
    assembly.close()


def test_piece_in_a_folder_that_lost_bytes_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assembly = LocalAssembly(store.path(NAME))
    piece = written(store, "", 0, CONTENTS[0])
    (found,) = (path for path in tmp_path.rglob("*") if path.name == piece.name)
    os.truncate(found, piece.size - 1)
    with pytest.raises(StoreUnavailableError, match=f"has {piece.size - 1} bytes of {piece.size}"):
        assembly.add(piece)
    assembly.close()


def test_outage_of_the_store_for_seconds_is_retried(store: BucketStore, relay: Relay) -> None:
    assembly = assembly_of(store)
    relay.fail = 1
    back = threading.Timer(5, setattr, (relay, "fail", 0))
    back.start()
    assembly.add(written(store, assembly.upload, 0, CONTENTS[0]))
    assert relay.dropped > 2
    assert assembly.finish() == (len(CONTENTS[0]), hashlib.sha256(CONTENTS[0]).digest())
    assembly.close()
    back.join()


def test_encryption_asked_for_in_the_environment_is_passed_on_for_both_objects(
    bucket: Any, store: BucketStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "AES256")
    assembly = assembly_of(store)
    assembly.add(written(store, assembly.upload, 0, b"x", count=1))
    assembly.finish()
    assembly.publish({".manifest.json": b"{}"})
    assembly.close()
    for key in keys(bucket):
        assert bucket.head_object(Bucket=BUCKET, Key=key)["ServerSideEncryption"] == "AES256"


def test_assembly_succeeds_while_one_connection_in_five_is_dropped(store: BucketStore, relay: Relay) -> None:
    assembly = assembly_of(store)
    relay.fail = 5
    for number, content in enumerate(CONTENTS):
        assembly.add(written(store, assembly.upload, number, content))
    assert assembly.finish() == (len(WHOLE), hashlib.sha256(WHOLE).digest())
    assert relay.dropped
    assembly.close()


def test_closing_a_piece_does_not_wait_for_an_unavailable_store(store: BucketStore, relay: Relay) -> None:
    assembly = assembly_of(store)
    file = store.piece(NAME, assembly.upload, PieceNumber(0, 1, 1))
    relay.fail = 1
    file.write(CONTENTS[0])
    until(lambda: relay.dropped > 2, "the server to be asked again")
    began = time.monotonic()
    file.close()
    assert time.monotonic() - began < s3_requests.RETRY_SECONDS / 2
    relay.fail = 0
    assembly.close()


def test_uploads_that_killed_workers_left_behind_are_found_and_aborted(bucket: Any, store: BucketStore) -> None:
    for key in ("1/2/1/a.csv", "1/2/2/a.csv", "1/3/1/a.csv"):
        UploadedPiece(bucket_of(store), key, bucket_of(store).begin(key), PieceNumber(0, 1, 1)).close()
    store.remove_abandoned(AttemptFiles(ChainId(1), TaskId(2), 1), [])
    assert sorted(upload["Key"] for upload in unfinished(bucket)) == [
        f"some/prefix/{key}" for key in ("1/2/2/a.csv", "1/3/1/a.csv")
    ]
    (first, second) = sorted(store.attempts(2**40), key=lambda place: place.task)
    assert (first.task, first.attempt, second.task, second.attempt) == (2, 2, 3, 1)
    store.remove_attempt(first)
    store.remove_task(ChainId(1), TaskId(3))
    assert unfinished(bucket) == []


def test_aborted_upload_is_an_error_that_names_the_store(store: BucketStore) -> None:
    assembly = assembly_of(store)
    assembly.add(written(store, assembly.upload, 0, CONTENTS[1]))
    bucket_of(store).abort(bucket_of(store).unfinished())
    with pytest.raises(StoreUnavailableError, match="out of reach"):
        assembly.finish()
    assembly.close()


def test_upload_one_of_whose_parts_was_replaced_is_a_transient_error_with_the_stores_code(store: BucketStore) -> None:
    assembly = assembly_of(store)
    written(store, assembly.upload, 0, CONTENTS[1])
    assembly.add(Piece(MIN_PART_BYTES, parts=[(1, '"another"')]))
    with pytest.raises(StoreUnavailableError, match=r"refused the parts of an upload \(InvalidPart\)"):
        assembly.finish()
    assembly.close()


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("jurisdiction", ["", "eu."])
def test_file_in_r2_is_written_by_one_worker_as_all_parts_of_an_upload_must_have_one_size(
    monkeypatch: pytest.MonkeyPatch, jurisdiction: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://0123456789abcdef.{jurisdiction}r2.cloudflarestorage.com")
    results = BucketStore(f"s3://{BUCKET}")
    assert not results.can_assemble
    assert results.is_shared, "files of their own"


def test_parts_of_one_workers_upload_have_one_size(bucket: Any, store: BucketStore) -> None:
    with store.create(NAME) as file:
        for size in (PART_BYTES - 1, 2, 700_001, 3 * PART_BYTES, 99):
            file.write(bytes(size))
        file.publish()
    parts = [bucket.head_object(Bucket=BUCKET, Key=KEY, PartNumber=number)["ContentLength"] for number in range(1, 6)]
    assert parts == [PART_BYTES] * 4 + [700_101]


def test_only_folders_and_s3_are_shared_stores(tmp_path: Path, store: BucketStore) -> None:
    for shared in (LocalStore(tmp_path), store):
        assert shared.is_shared and shared.can_assemble
    elsewhere = BucketStore("gs://some/where")
    assert not elsewhere.is_shared and not elsewhere.can_assemble


def prepared(new_service: Callable[..., Longshore], **settings: str) -> Longshore:
    service = new_service(results_url=f"s3://{BUCKET}/exports", shard_rows=SHARD_ROWS, **settings)
    (service.data / "catalog.toml").write_text(CATALOG, encoding="utf-8")
    for statement in SOURCE.strip().removesuffix(";").split(";\n"):
        service.sql(statement)
    for _ in range(2):
        service.start("worker", catalog=str(service.data / "catalog.toml"))
    service.start_api(catalog=str(service.data / "catalog.toml"))
    return service


def exported(client: httpx2.Client, body: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    task = ended(client, client.post("/tasks", json=body).json()["id"])
    assert task["state"]["code"] == "DONE", task
    run = client.get(f"/tasks/{task['id']}/runs").json()[0]
    content = httpx2.get(client.get(f"/tasks/{task['id']}/download_url").json()["url"], timeout=60).content
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (run["sha256"], run["bytes"])
    return run, content


def test_an_export_of_many_shards_is_one_object_in_the_bucket(
    bucket: Any, new_service: Callable[..., Longshore]
) -> None:
    service = prepared(new_service)
    with service.client() as client:
        for format in ("csv", "json"):
            run, content = exported(client, export_body(format))
            assert run["rows"] == ROWS
            assert content.count(b"quoted") == ROWS
            assert client.get(f"/tasks/{client.get('/tasks').json()[0]['id']}/runs/1/manifest").json()["totals"]
    until(lambda: service.log_file.read_text().count('"event":"shard done"') == 6, "the last word of each shard")
    assert unfinished(bucket) == []
    assert service.files() == []


def test_an_export_whose_parts_would_be_too_small_is_written_by_one_worker(
    bucket: Any, new_service: Callable[..., Longshore]
) -> None:
    service = prepared(new_service)
    with service.client() as client:
        for more in ({}, {"incremental": True, "deletes": True}):  # a key list outlives the parts
            body = export_body("csv")
            body["target"] |= {"fields": ["id", "amount"], **more}
            run, content = exported(client, body)
            assert (run["rows"], len(content.splitlines())) == (ROWS, ROWS + 1)
    assert service.log_file.read_text().count('"event":"export not cut"') == 2
    assert unfinished(bucket) == []
