"""Checks of the results store, by writing, reading, signing and deleting one small result; and of the disk."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx2

from longshore.errors import LongshoreError, first_line
from longshore.findings import Finding
from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.open import RESULTS, open_store
from longshore.results.store import AttemptFiles, Store
from longshore.settings import Settings
from longshore.tasks.model import ChainId, TaskId

MIN_FREE_BYTES = 1 << 30
MIN_FREE_SHARE = 0.05
SERVICE_TASK = ChainId(0), TaskId(0)  # which no task has
CONTENT = b"written by longshore doctor\n"


def check_store(settings: Settings) -> list[Finding]:
    """Write, read, sign and delete one small result. Blocking."""
    try:
        store = open_store(settings)
    except LongshoreError as error:
        return [Finding("store", f"{first_line(error)}; correct LONGSHORE_RESULTS_URL and its settings")]
    location = AttemptFiles(*SERVICE_TASK, secrets.randbelow(1 << 31)).location("doctor.txt")
    folders = _missing_folders(store, location)
    try:
        return _try_steps(store, location)
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):  # it was not made, or has other files by now
                folder.rmdir()


def _missing_folders(store: Store, location: str) -> list[Path]:
    """Return the folders of a result that are not there yet, the innermost first."""
    if not isinstance(store, LocalStore):
        return []
    return [folder for folder in store.path(location).parents if not os.access(folder, os.F_OK)]


def _try_steps(store: Store, location: str) -> list[Finding]:
    findings: list[Finding] = []
    for step, remedy, act in _steps(store, location):
        try:
            act()
        except (LongshoreError, OSError, httpx2.HTTPError, AssertionError) as error:
            findings.append(Finding("store", f"a result cannot be {step}: {first_line(error)}; {remedy}"))
            if step == "written":
                return findings
    return findings or [Finding("store", "a result was written, read and deleted", "ok")]


def _steps(store: Store, location: str) -> list[tuple[str, str, Callable[[], None]]]:
    """Return the steps in their order: a participle for the message, the remedy, the function."""

    def write() -> None:
        with store.create(location) as file:
            file.write(CONTENT)
            file.publish()

    def read() -> None:
        with store.open(location) as file:
            assert file.read() == CONTENT, "it is not what was written"

    def remove() -> None:
        store.remove(location)
        assert not store.exists(location), "it is still there"

    def sign() -> None:
        assert isinstance(store, BucketStore)
        assert store.exists(location), "it is not there"
        (address,) = store.presigned_urls([location], 60)
        assert httpx2.get(address, timeout=10).content == CONTENT, "its presigned address does not work"

    def list_uploads() -> None:
        assert isinstance(store, BucketStore) and store.bucket is not None
        store.bucket.require_listing()

    if not isinstance(store, BucketStore):
        remedy = "let the service's user write to the folder `results` in LONGSHORE_DATA"
        return [("written", remedy, write), ("read", remedy, read), ("deleted", remedy, remove)]
    steps = [
        ("written", "grant s3:PutObject, or what the message names", write),
        ("read", "grant s3:GetObject", read),
        ("downloaded by its presigned address", "let clients reach the store's address", sign),
        ("deleted", "grant s3:ListBucket and s3:DeleteObject", remove),
    ]
    if store.bucket is not None:
        uploads = "cleaned of unfinished uploads", "grant s3:ListBucketMultipartUploads or set a lifecycle rule"
        steps.append((*uploads, list_uploads))
    return steps


def check_disks(settings: Settings) -> list[Finding]:
    """Check the free space of the data folder, and of its results where they are on another file system."""
    folders = [_nearest(settings.data), _nearest(settings.data / RESULTS)]
    disks = {folder.stat().st_dev: folder for folder in reversed(folders)}
    return [_check_disk(folder) for folder in reversed(disks.values())]


def _nearest(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists and can be reached."""
    resolved = path.resolve()
    return next(folder for folder in (resolved, *resolved.parents) if os.access(folder, os.F_OK))


def _check_disk(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    shown = f"{_size(usage.free)} of {_size(usage.total)} are free in {folder}"
    if usage.free < max(MIN_FREE_BYTES, MIN_FREE_SHARE * usage.total):
        return Finding("disk", f"only {shown}; make room, or set LONGSHORE_RESULT_DAYS to fewer")
    return Finding("disk", shown, "ok")


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
