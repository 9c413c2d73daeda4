"""The local store: results in a folder. A result is written under another name and renamed when complete (promise 3).

Each attempt has a folder of its own, `CHAIN/TASK/ATTEMPT/NAME`, so that two attempts never write one file. The task row
says which attempt counts; the task's next attempt removes files that no row names.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from longshore.results.store import (
    KEY_LIST,
    KEYS,
    OF_TASK,
    AttemptFiles,
    Piece,
    PieceNumber,
    StoreError,
    StoreUnavailableError,
)
from longshore.tasks.model import ChainId, TaskId

PART = ".part"
PIECES = "pieces"  # folder of the pieces of a result
FLUSH_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
NUMBER = re.compile(r"[0-9]{1,18}")  # of a chain, a task or an attempt; other names are not the service's
LEVELS = 4  # folders above a file: attempt, task, chain, store


class PartFile:
    """A new file that is written sequentially."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(_create(path), "wb", buffering=0)
        self._dirty = 0

    def write(self, data: bytes) -> None:
        """Append. Raises OSError, for example if the disk is full."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._dirty += len(data)
        if self._dirty >= FLUSH_BYTES and hasattr(os, "posix_fadvise"):
            # On this advice Linux begins to write the pages and does not wait, so little is left for the fsync.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._dirty = 0

    def sync(self) -> None:
        """Wait until the file is on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. May be called again."""
        self._file.close()


class LocalFile:
    """A result that one worker writes, under another name until it is published."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + PART)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = PartFile(self._part)
        self.write = self._file.write
        self._published = False

    def finish(self) -> None:
        """Do nothing: an open file can be read."""

    def open(self) -> IO[bytes]:
        """Open the unpublished file for reading."""
        return self._part.open("rb")

    def publish(self, suffix: str = "", beside: bytes = b"") -> None:
        """Sync the file and the file beside it, give the file its final name, and sync the folders."""
        self._file.sync()
        self._file.close()
        if suffix:
            with os.fdopen(_create(self._path.with_name(self._path.name + suffix)), "wb") as file:
                file.write(beside)
                file.flush()
                os.fsync(file.fileno())
        self._part.rename(self._path)
        for folder in self._path.parents[:LEVELS]:
            _sync(folder)
        self._published = True

    def __enter__(self) -> "LocalFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file unless it was published."""
        self._file.close()
        if not self._published:
            shutil.rmtree(self._path.parent, ignore_errors=True)


class LocalResultFile:
    """One of the many files of a result, under a name of the writer's own until it is complete."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
        self._file = PartFile(self._part)
        self.write = self._file.write

    def end(self) -> None:
        """Sync the file and give it its name; publishing the result syncs the folders."""
        self._file.sync()
        self._file.close()
        self._part.rename(self._path)

    def close(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)


class LocalPiece:
    """A piece in a file of its own, in a folder beside the result."""

    def __init__(self, result: Path, name: str) -> None:
        self._name = name
        self._path = result.parent / PIECES / name
        self._file = PartFile(self._path)
        self._size = 0
        self._ended = False

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)

    def end(self) -> Piece:
        self._file.close()  # after which other machines see it on NFS; the result is synced, not its pieces
        self._ended = True
        return Piece(self._size, name=self._name)

    def close(self) -> None:
        self._file.close()
        if not self._ended:
            self._path.unlink(missing_ok=True)


class LocalAssembly:
    """A result that each piece is appended to; the piece is removed."""

    upload = ""

    def __init__(self, result: Path) -> None:
        self._folder = result.parent / PIECES
        self._file = LocalFile(result)
        self._folder.mkdir(mode=0o700)  # here only, so that a late worker does not create it again
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, piece: Piece) -> None:
        path, before = self._folder / piece.name, self._size
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                self._hash.update(chunk)
                self._file.write(chunk)
                self._size += len(chunk)
        if (read := self._size - before) != piece.size:  # a shared folder may lose what was not flushed
            raise StoreUnavailableError(f"a part of the result has {read} bytes of {piece.size}")
        path.unlink()

    def finish(self) -> tuple[int, bytes]:
        return self._size, self._hash.digest()

    def open(self) -> IO[bytes]:
        return self._file.open()

    def publish(self, suffix: str = "", beside: bytes = b"") -> None:
        shutil.rmtree(self._folder, ignore_errors=True)  # pieces of lost workers
        self._file.publish(suffix, beside)

    def close(self) -> None:
        self._file.close()


def place_of(names: Sequence[str]) -> AttemptFiles | None:
    """Return the place whose folder below the store has these names; None where it is not the service's."""
    chain, task, last = names
    if not NUMBER.fullmatch(chain) or not NUMBER.fullmatch(task) or not (last == KEYS or NUMBER.fullmatch(last)):
        return None
    return AttemptFiles(ChainId(int(chain)), TaskId(int(task)), OF_TASK if last == KEYS else int(last))


def _sync(folder: Path) -> None:
    # A name is on disk once its folder is: https://man7.org/linux/man-pages/man2/fsync.2.html
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


class LocalStore:
    """The store for results below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    is_shared = True
    presigns = False

    def location(self, chain: ChainId, task: TaskId, attempt: int, name: str) -> str:
        return f"{chain}/{task}/{attempt}/{name}"

    def create(self, location: str) -> LocalFile:
        return LocalFile(self.path(location))

    def begin_file(self, location: str) -> LocalResultFile:
        return LocalResultFile(self.path(location))

    def publish_files(self, location: str, manifest: bytes) -> None:
        path = self.path(location)
        for left in path.parent.rglob(f"*{PART}"):  # of writers that were given up
            left.unlink(missing_ok=True)
        for folder, _, _ in os.walk(path.parent):
            _sync(Path(folder))
        with LocalFile(path) as file:
            file.write(manifest)
            file.publish()

    def open(self, location: str) -> IO[bytes]:
        return self.path(location).open("rb")

    def assemble(self, location: str) -> LocalAssembly:
        return LocalAssembly(self.path(location))

    def piece(self, location: str, upload: str, number: PieceNumber) -> LocalPiece:  # noqa: ARG002  # of the protocol
        return LocalPiece(self.path(location), f"{number.number}-{number.trial}")

    def remove(self, location: str) -> None:
        shutil.rmtree(self.path(location).parent, ignore_errors=True)

    def remove_task(self, chain: ChainId, task: TaskId) -> None:
        shutil.rmtree(self._folder / str(chain) / str(task), ignore_errors=True)

    def remove_attempt(self, files: AttemptFiles) -> None:
        shutil.rmtree(self._folder / files.prefix, ignore_errors=True)

    def attempts(self, before: float) -> list[AttemptFiles]:
        attempts = []
        for folder, folders, _ in os.walk(self._folder):  # skips folders that vanish
            names = Path(folder).relative_to(self._folder).parts
            if len(names) < LEVELS - 1:
                continue
            folders.clear()
            with contextlib.suppress(FileNotFoundError):
                if (place := place_of(names)) is not None and Path(folder).stat().st_mtime < before:
                    attempts.append(place)
        return attempts

    def key_lists(self, chain: ChainId, task: TaskId) -> list[str]:
        found = (self._folder / str(chain) / str(task) / KEYS).glob(f"*/{KEY_LIST}")
        return [path.relative_to(self._folder).as_posix() for path in found]

    def remove_abandoned(self, chain: ChainId, task: TaskId, attempt: int, kept: Collection[str]) -> None:
        keep = {self.path(location).parent for location in kept}
        folder = self._folder / str(chain) / str(task)
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if NUMBER.fullmatch(path.name) and int(path.name) < attempt and path not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def read(self, location: str) -> Iterator[bytes] | None:
        path = self.open_path(location)
        return None if path is None else _chunks(path)

    def open_path(self, location: str) -> Path | None:
        """Return the file of a result; None if it is gone, or if a link leads out of the folder."""
        try:
            path = self.path(location)
        except StoreError:
            return None
        return path if path.is_file() else None

    def address(self, location: str, seconds: int) -> str | None:  # noqa: ARG002  # of the protocol
        return None

    def addresses(self, locations: Sequence[str], seconds: int) -> list[str]:  # noqa: ARG002  # of the protocol
        return []

    def path(self, location: str) -> Path:
        """Return the path of a result, whether it exists or not. Raises StoreError."""
        path = (self._folder / location).resolve()
        if self._folder not in path.parents:
            raise StoreError(f"{location!r} lies outside the store")
        return path
