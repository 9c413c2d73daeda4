"""The local store: result files in a folder, written aside and seen whole or not at all (promise 3).

Each attempt has a folder of its own, `CHAIN/TASK/ATTEMPT/NAME`, so that two attempts never meet in one file. Which of
them counts is for the task row to say; what no row names is removed by the task's next attempt.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from longshore.errors import LongshoreError
from longshore.tasks.model import ChainId, TaskId

PART = ".part"
FLUSH = 16 << 20  # bytes
CHUNK = 1 << 20  # bytes
NUMBER = re.compile(r"[0-9]{1,18}")  # of a chain, a task or an attempt; what else lies there is not ours
LEVELS = 4  # folders above a file: attempt, task, chain, store


class StoreError(LongshoreError):
    """The results store cannot be used as it is set up; trying again does not help."""


class StoreUnavailableError(LongshoreError):
    """The results store did not do what it was asked to, and may when it is asked again."""


class PartFile:
    """A new file that is written from one end to the other. Blocking."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(_create(path), "wb", buffering=0)
        self._dirty = 0

    def write(self, data: bytes) -> None:
        """Append. Raises OSError, for example when the disk is full."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._dirty += len(data)
        if self._dirty >= FLUSH and hasattr(os, "posix_fadvise"):
            # Linux begins to write what it is asked to forget and does not wait: so little is left for the fsync.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._dirty = 0

    def make_safe(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """End, however often."""
        self._file.close()


class ResultFile:
    """A result being written. Leaving the `with` block without `publish` removes it.

    Blocking: to be used from a thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + PART)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = PartFile(self._part)
        self.write = self._file.write
        self._published = False

    def finish(self) -> None:
        """End the writing. What was written can be read, and nobody sees it yet."""

    def open(self) -> IO[bytes]:
        """Open what was written, to be read, before it is published."""
        return self._part.open("rb")

    def publish(self, suffix: str = "", beside: bytes = b"") -> None:
        """Make the file safe on disk and give it its final name.

        `beside`: what to put next to it, in a file of that suffix; nothing without a suffix.
        """
        self._file.make_safe()
        self._file.close()
        if suffix:
            with os.fdopen(_create(self._path.with_name(self._path.name + suffix)), "wb") as file:
                file.write(beside)
                file.flush()
                os.fsync(file.fileno())
        self._part.rename(self._path)
        for folder in self._path.parents[:LEVELS]:
            _make_safe(folder)
        self._published = True

    def __enter__(self) -> "ResultFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End; what was not published is removed."""
        self._file.close()
        if not self._published:
            shutil.rmtree(self._path.parent, ignore_errors=True)


def _make_safe(folder: Path) -> None:
    # A name is safe on disk once its folder is: https://man7.org/linux/man-pages/man2/fsync.2.html
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


class Abandonable(msgspec.Struct, frozen=True):
    """The place of what an attempt wrote."""

    chain: ChainId
    task: TaskId
    attempt: int

    @property
    def prefix(self) -> str:
        """What the locations of its files begin with."""
        return f"{self.chain}/{self.task}/{self.attempt}/"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


class OutsideError(ValueError):
    """A path leads out of the results folder."""


class LocalStore:
    """Result files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def location(self, chain: ChainId, task: TaskId, attempt: int, name: str) -> str:
        """Where an attempt's result belongs, relative to the store."""
        return f"{chain}/{task}/{attempt}/{name}"

    def create(self, location: str) -> ResultFile:
        """Begin a result."""
        return ResultFile(self.path(location))

    def remove(self, location: str) -> None:
        """Remove a result with all that lies beside it."""
        shutil.rmtree(self.path(location).parent, ignore_errors=True)

    def remove_task(self, chain: ChainId, task: TaskId) -> None:
        """Remove all that a task has left."""
        shutil.rmtree(self._folder / str(chain) / str(task), ignore_errors=True)

    def remove_attempt(self, place: Abandonable) -> None:
        """Remove all that an attempt has left."""
        shutil.rmtree(self._folder / place.prefix, ignore_errors=True)

    def attempts(self, before: float) -> list[Abandonable]:
        """The places of all attempts that were last written in before that time (seconds since 1970)."""
        found = []
        for folder, folders, _ in os.walk(self._folder):  # which takes no notice of what vanishes meanwhile
            names = Path(folder).relative_to(self._folder).parts
            if len(names) < LEVELS - 1:
                continue
            folders.clear()
            with contextlib.suppress(FileNotFoundError):
                if all(NUMBER.fullmatch(name) for name in names) and Path(folder).stat().st_mtime < before:
                    chain, task, attempt = map(int, names)
                    found.append(Abandonable(ChainId(chain), TaskId(task), attempt))
        return found

    def remove_abandoned(self, chain: ChainId, task: TaskId, attempt: int, kept: Collection[str]) -> None:
        """Remove what attempts before `attempt` left behind, except the results that are `kept`."""
        keep = {self.path(location).parent for location in kept}
        folder = self._folder / str(chain) / str(task)
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if NUMBER.fullmatch(path.name) and int(path.name) < attempt and path not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def read(self, location: str) -> Iterator[bytes] | None:
        """The bytes of a result, or None when it is gone. Blocking."""
        path = self.open_path(location)
        return None if path is None else _chunks(path)

    def open_path(self, location: str) -> Path | None:
        """The file of a result, or None when it is gone, or when a link there leads out of the folder."""
        try:
            path = self.path(location)
        except OutsideError:
            return None
        return path if path.is_file() else None

    def path(self, location: str) -> Path:
        """Where a result lies, whether it is there or not. Raises OutsideError."""
        path = (self._folder / location).resolve()
        if self._folder not in path.parents:
            raise OutsideError(f"{location!r} lies outside the store")
        return path
