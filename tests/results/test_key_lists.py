"""Key lists live as long as their task: no sweep of results removes them, and each is a file of its own."""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from longshore.exports.increments.baseline import open_baseline
from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.store import ALL_ATTEMPTS, AttemptFiles, Store, StoreError
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.queue import Message
from longshore.tasks.watermarks import IncrementState
from tests.results.bucket import BUCKET

CHAIN, TASK = ChainId(1), TaskId(2)
FIRST, SECOND = (AttemptFiles(CHAIN, TASK, attempt) for attempt in (3, 4))


@pytest.fixture(params=["local", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path)
    bucket: Any = request.getfixturevalue("bucket")
    assert bucket
    return BucketStore(f"s3://{BUCKET}/some/prefix")


@pytest.fixture
def write(store: Store) -> Callable[[str], None]:
    """Return a function that writes a file at a location."""

    def write(location: str) -> None:
        with store.create(location) as file:
            file.write(b"keys")
            file.finish()
            file.publish()

    return write


def content(store: Store, location: str) -> bytes:
    with store.open(location) as file:
        return file.read()


def test_results_go_without_the_key_lists_of_their_task(store: Store, write: Callable[[str], None]) -> None:
    lists = [FIRST.key_list("20261126T120000000000"), SECOND.key_list("20261126T130000000000")]
    result = AttemptFiles(CHAIN, TASK, 3).location("a.csv")
    for location in (result, *lists):
        write(location)
    store.remove(result)
    store.remove_abandoned(AttemptFiles(CHAIN, TASK, 9), [])
    assert sorted(store.key_lists(CHAIN, TASK)) == sorted(lists)
    store.remove(lists[0])
    assert store.key_lists(CHAIN, TASK) == [lists[1]]
    assert content(store, lists[1]) == b"keys"
    store.remove_task(CHAIN, TASK)
    assert store.key_lists(CHAIN, TASK) == []


def test_attempts_of_equal_number_before_and_after_a_restore_have_lists_of_their_own(
    store: Store, write: Callable[[str], None]
) -> None:
    before, after = FIRST.key_list("20261126T120000000000"), FIRST.key_list("20261126T130000000000")
    write(before)
    write(after)
    store.remove(before)
    assert store.key_lists(CHAIN, TASK) == [after]


def test_a_list_that_was_not_published_leaves_others_alone(store: Store, write: Callable[[str], None]) -> None:
    kept = FIRST.key_list("20261126T120000000000")
    write(kept)
    with store.create(SECOND.key_list("20261126T130000000000")) as file:
        file.write(b"half")
    assert store.key_lists(CHAIN, TASK) == [kept]


def test_a_sweep_finds_key_lists_as_those_of_a_task(store: Store, write: Callable[[str], None], tmp_path: Path) -> None:
    write(FIRST.key_list("20261126T120000000000"))
    for folder in (tmp_path / "1" / "2").glob("*"):
        os.utime(folder, (0, 0))
    [found] = store.attempts(time.time() + 3600)
    assert found == AttemptFiles(CHAIN, TASK, ALL_ATTEMPTS)
    store.remove_attempt(found)
    assert store.key_lists(CHAIN, TASK) == []


def test_next_attempt_removes_key_lists_that_killed_workers_left_unfinished(
    store: Store, write: Callable[[str], None]
) -> None:
    began = datetime(2026, 11, 26, 13, tzinfo=UTC)
    complete, *older = (FIRST.key_list(f"20261126T{hour}0000000000") for hour in (11, 12, 13))
    later = SECOND.key_list("20261126T140000000000")
    write(complete)
    for location in (*older, later):
        leave_unfinished(store, location)
    leave_unfinished(store, complete)
    assert sorted(store.unfinished_key_lists(CHAIN, TASK)) == sorted([*older, later])
    attempt = Attempt(Message(TASK, 4), CHAIN, "export", "", "", 1, 2, 1, Interval(None, began))
    open_baseline(store, attempt, IncrementState(None, [], began), threading.Event())
    assert store.unfinished_key_lists(CHAIN, TASK) == [later]
    assert store.key_lists(CHAIN, TASK) == [complete]
    store.remove_task(CHAIN, TASK)
    assert store.unfinished_key_lists(CHAIN, TASK) == []


def leave_unfinished(store: Store, location: str) -> None:
    """Begin a file as a worker that is killed then."""
    if isinstance(store, LocalStore):
        store.create(location).write(b"half")
    else:
        assert isinstance(store, BucketStore)
        assert store.bucket is not None
        store.bucket.begin(location)


class KeepingStore(LocalStore):
    """A store that refuses to remove files."""

    def remove(self, _: str) -> None:
        raise StoreError("the results store cannot remove files: Read-only file system")


def test_run_goes_on_where_the_store_refuses_to_remove_old_key_lists(tmp_path: Path) -> None:
    store, began = KeepingStore(tmp_path), datetime(2026, 11, 26, 13, tzinfo=UTC)
    leave_unfinished(store, FIRST.key_list("20261126T120000000000"))
    attempt = Attempt(Message(TASK, 4), CHAIN, "export", "", "", 1, 2, 1, Interval(None, began))
    found = open_baseline(store, attempt, IncrementState(None, [], began), threading.Event())
    assert (found.location, found.continues_from) == (SECOND.key_list("20261126T130000000000"), None)
