"""After a restore of the service's database, attempts get numbers again whose files still lie in the store."""

from pathlib import Path
from typing import Any

import pytest

from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.store import AttemptFiles, PieceNumber, Store
from longshore.tasks.model import ChainId, TaskId
from tests.results.bucket import BUCKET, keys, unfinished

CHAIN, TASK = ChainId(1), TaskId(2)
NAME = AttemptFiles(CHAIN, TASK, 3).location("a.csv")


@pytest.fixture(params=["local", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path)
    request.getfixturevalue("bucket")
    return BucketStore(f"s3://{BUCKET}/some/prefix")


def content(store: Store, location: str) -> bytes:
    with store.open(location) as file:
        return file.read()


def publish(store: Store, location: str, content: bytes) -> None:
    with store.create(location) as file:
        file.write(content)
        file.finish()
        file.publish({".manifest.json": content})


def test_an_attempt_publishes_where_a_lost_one_of_its_number_has_published(store: Store) -> None:
    kept = AttemptFiles(CHAIN, TASK, 2).location("a.csv")
    for location in (kept, NAME):
        publish(store, location, b"lost")
    store.remove_abandoned(AttemptFiles(CHAIN, TASK, 3), [kept])
    assert not store.exists(NAME)
    publish(store, NAME, b"new")
    assert content(store, NAME) == b"new"
    assert content(store, f"{NAME}.manifest.json") == b"new"
    assert content(store, kept) == b"lost"


def test_an_attempt_of_many_files_has_none_of_a_lost_one_of_its_number(store: Store) -> None:
    parts = [f"{CHAIN}/{TASK}/3/items/part-0000{number}.csv" for number in (1, 2)]
    for lost, written in ((True, parts), (False, parts[:1])):
        store.remove_abandoned(AttemptFiles(CHAIN, TASK, 3), [])
        for location in written:
            with store.create(location, is_part=True) as file:
                file.write(b"lost" if lost else b"new")
                file.publish()
        with store.create(f"{CHAIN}/{TASK}/3/A.manifest.json") as manifest:
            manifest.write(b"{}")
            manifest.publish({".jws": b"signature"})
    assert content(store, parts[0]) == b"new"
    assert not store.exists(parts[1])


def test_shards_are_assembled_where_a_lost_attempt_of_the_same_number_was_interrupted(
    store: Store, request: pytest.FixtureRequest
) -> None:
    lost = store.assemble(NAME)
    piece = store.piece(NAME, lost.upload, PieceNumber(0, 1, 1))
    piece.write(b"lost")
    piece.end()  # the worker and its coordinator are killed here
    store.remove_abandoned(AttemptFiles(CHAIN, TASK, 3), [])
    if isinstance(store, BucketStore):
        bucket: Any = request.getfixturevalue("bucket")
        assert (keys(bucket), unfinished(bucket)) == ([], [])
    assembly = store.assemble(NAME)
    piece = store.piece(NAME, assembly.upload, PieceNumber(0, 1, 1))
    piece.write(b"new")
    assembly.add(piece.end())
    assembly.finish()
    assembly.publish()
    assembly.close()
    assert content(store, NAME) == b"new"
