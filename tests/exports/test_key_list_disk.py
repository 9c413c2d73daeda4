"""The copy of a key list in the folder for temporary files, whose disk is full or missing."""

import resource
import tempfile
from pathlib import Path

import pytest

from longshore.errors import LongshoreError
from longshore.exports import run_errors
from tests.exports.changing_table import ChangingDatabase, ChangingTask


def task_of(world: ChangingDatabase, keys: int) -> ChangingTask:
    """Return a task with deletes, whose key list has some 8 bytes for each key."""
    task = ChangingTask(world.pool, world.folder)
    world.runner.run(world.writer.execute("truncate shop.things, shop.hidden"))
    insert = "insert into shop.things (id) select (random() * 1e15)::bigint from generate_series(1, $1::int)"
    world.runner.run(world.writer.execute(insert, keys))
    world.runner.run(task.create(segment=False))
    world.runner.run(task.run())
    return task


def failure(world: ChangingDatabase, task: ChangingTask) -> str:
    """Begin a run, which fails temporarily. Return what its log says."""
    attempt = world.runner.run(task.begin())
    with pytest.raises(LongshoreError) as caught:
        world.runner.run(task.export(attempt))
    world.runner.run(task.fail(attempt))
    assert run_errors.is_retryable(caught.value)
    return run_errors.describe_error(caught.value)


@pytest.mark.parametrize("keys", [500, 5000])  # of which a buffer of Python's holds all, and not all
def test_a_full_disk_for_temporary_files_is_named_while_a_key_list_is_copied(
    world: ChangingDatabase, keys: int
) -> None:
    task = task_of(world, keys)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 10, hard))  # larger writes end in an OSError, as on a full disk
    try:
        found = failure(world, task)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == "the temporary files of the key list cannot be written: File too large"


def test_a_missing_folder_for_temporary_files_is_named(
    world: ChangingDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = task_of(world, 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    found = failure(world, task)
    assert found == "the temporary files of the key list cannot be written: No such file or directory"
