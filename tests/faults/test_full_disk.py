"""Errors of the disk are reported in the task's log and leave no file behind (promise 7)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, Hold, assert_whole, files_of, messages
from tests.service import Longshore, ended


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(service: Longshore) -> Iterator[Path]:
    """The results folder, with room for a part of an export only."""
    folder = service.data / "results"
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        service.stop()  # it has files open there
        subprocess.run(["umount", str(folder)], check=True)
        service.start_api()


def test_file_removed_while_it_is_written_is_written_again(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    worker = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        [part] = [path for path in service.files() if path.suffix == ".part" and path.parts[-3] == str(task)]
        part.unlink()
    found = ended(client, task)
    assert messages(found) == [
        "READY -> INPROGRESS",
        "attempt 1 failed: the result could not be written: No such file or directory; the next one begins in 1 s",
        "attempt 2 begins",
        "success",
        "INPROGRESS -> DONE",
    ]
    assert_whole(service, client, found)
    worker.terminate()
    assert worker.wait(20) == 0


def test_full_disk_is_reported_in_the_log_and_free_space_lets_the_task_finish(
    service: Longshore, small_disk: Path, client: httpx2.Client, create: Create
) -> None:
    service.start("worker")
    task = create()
    found = ended(client, task)
    assert found["state"]["code"] == "ERROR"
    assert found["result"] == ""
    assert messages(found) == [
        "READY -> INPROGRESS",
        "attempt 1 failed: the disk for results is full; the next one begins in 1 s",
        "attempt 2 begins",
        "attempt 2 failed: the disk for results is full; the next one begins in 5 s",
        "attempt 3 begins",
        "failed: the disk for results is full",
        "INPROGRESS -> ERROR",
    ]
    assert files_of(service, task) == []

    mount("-o", "remount,size=64m", str(small_disk))
    answer = client.post(f"/tasks/{task}/execute")
    assert (answer.status_code, answer.json()["code"]) == (200, "DONE")
    found = ended(client, task)
    assert messages(found)[-3:] == ["ERROR -> INPROGRESS", "success", "INPROGRESS -> DONE"]
    assert_whole(service, client, found)
