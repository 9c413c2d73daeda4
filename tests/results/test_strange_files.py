"""Files and folders in the results folder that are not the service's own."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from longshore.results.local import LocalStore
from longshore.results.store import AttemptFiles, StoreError, copy_hashed
from longshore.tasks.model import ChainId, TaskId


@pytest.mark.parametrize("name", ["²", "٣", "9" * 30, "notes"])
def test_folder_that_is_no_attempt_keeps_no_other_from_being_cleaned_up(tmp_path: Path, name: str) -> None:
    store = LocalStore(tmp_path)
    for place in ("1/1/1", f"1/1/{name}", f"1/{name}/1", f"{name}/1/1"):
        (tmp_path / place).mkdir(parents=True)
        os.utime(tmp_path / place, (0, 0))
    assert [place.prefix for place in store.attempts(1)] == ["1/1/1/"]
    store.remove_abandoned(AttemptFiles(ChainId(1), TaskId(1), 2), [])
    assert sorted(path.name for path in (tmp_path / "1/1").iterdir()) == [name]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_the_store_cannot_remove_is_an_error_and_not_counted_as_removed(tmp_path: Path, kind: str) -> None:
    store = LocalStore(tmp_path / "results")
    task = tmp_path / "results/1/2"
    task.parent.mkdir(parents=True)
    if kind == "file":
        task.write_bytes(b"")
    else:  # as where an operator has moved a folder to another disk
        (tmp_path / "other").mkdir()
        task.symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match=r"cannot remove files: [A-Z]"):
        store.remove_task(ChainId(1), TaskId(2))
    store.remove_task(ChainId(1), TaskId(3))
    store.remove_attempt(AttemptFiles(ChainId(1), TaskId(3), 1))


def test_one_file_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for attempt in (1, 2, 3):
        (tmp_path / f"1/1/{attempt}").mkdir(parents=True)
    (tmp_path / "1/1/2").rmdir()
    (tmp_path / "1/1/2").write_bytes(b"")
    store.remove_abandoned(AttemptFiles(ChainId(1), TaskId(1), 3), [])
    assert [path.name for path in (tmp_path / "1/1").iterdir()] == ["2"]


def test_a_partition_folder_named_like_an_unfinished_file_stays_and_what_writers_left_goes(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for folder in ("spare.part", "keys", "pieces"):
        with store.create(f"1/1/1/items/sku={folder}/part-00001.csv", is_part=True) as file:
            file.write(b"id\n1\n")
            file.publish()
    left = tmp_path / "1/1/1/items/sku=spare.part/part-00002.csv.0badcafe.part"
    left.write_bytes(b"id")
    with store.create("1/1/1/A.manifest.json") as manifest:
        manifest.write(b"{}")
        manifest.publish()
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == [
        "1/1/1/A.manifest.json",
        *(f"1/1/1/items/sku={folder}/part-00001.csv" for folder in ("keys", "pieces", "spare.part")),
    ]


def test_result_that_is_removed_once_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with store.create("1/1/1/a.csv") as file:
        file.write(b"id\n1\n")
        file.publish()
    with store.open("1/1/1/a.csv") as opened:
        store.remove("1/1/1/a.csv")
        assert opened.read() == b"id\n1\n"
    assert not store.exists("1/1/1/a.csv")


def test_file_that_the_results_folder_leads_out_of_is_missing_for_every_reader(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "results")
    (tmp_path / "results/1/1/1").mkdir(parents=True)
    (tmp_path / "elsewhere.csv").write_bytes(b"x")
    (tmp_path / "results/1/1/1/a.csv").symlink_to(tmp_path / "elsewhere.csv")
    (tmp_path / "results/1/1/1/b.csv").mkdir()
    for name in ("a.csv", "b.csv"):
        assert not store.exists(f"1/1/1/{name}")
        with pytest.raises(FileNotFoundError):
            store.open(f"1/1/1/{name}")
        assert copy_hashed(store, f"1/1/1/{name}", bytearray().extend, threading.Event()) is None


def test_file_on_nfs_that_is_still_open_is_left_to_a_later_cleanup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any, **__: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    (tmp_path / "1/2/3").mkdir(parents=True)
    (tmp_path / "1/2/3/.nfs0000000000000001").write_bytes(b"x")
    monkeypatch.setattr(os, "unlink", refuse)
    LocalStore(tmp_path).remove_attempt(AttemptFiles(ChainId(1), TaskId(2), 3))
