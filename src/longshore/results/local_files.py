"""Files of the local store, each with another name until it is complete and on the disk (promise 3)."""

import errno
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import IO

import structlog

from longshore.durable_files import create_file, sync_folder, write_file
from longshore.results.store import (
    CHUNK_BYTES,
    LEVELS,
    NO_SIDECARS,
    Piece,
    ResultWriter,
    Sidecars,
    StoreError,
    StoreUnavailableError,
)

log = structlog.get_logger()

PART = ".part"
PIECES = "pieces"  # folder of the pieces of a result
FLUSH_BYTES = 16 << 20
IGNORED_ERRORS = (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY)  # see `remove_tree`


class PartFile:
    """A new file that is written sequentially."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(create_file(path), "wb", buffering=0)
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


class LocalFile(ResultWriter):
    """A result that one worker writes, or one of its many files, under another name until it is published."""

    def __init__(self, path: Path, *, is_part: bool = False) -> None:
        self._path = path
        self._is_part = is_part
        writer = f".{secrets.token_hex(4)}" if is_part else ""  # the worker of a lost shard may still write the file
        self._part = path.with_name(path.name + writer + PART)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = PartFile(self._part)
        self._published = False

    def write(self, data: bytes) -> None:
        """Append. Raises OSError."""
        self._file.write(data)

    def finish(self) -> None:
        """Do nothing: an open file can be read."""

    def open(self) -> IO[bytes]:
        """Open the unpublished file for reading."""
        return self._part.open("rb")

    def publish(self, sidecars: Sidecars = NO_SIDECARS) -> None:
        """Sync the file and the files beside it, and give the file its final name. With a result, sync all folders."""
        self._file.sync()
        self._file.close()
        for suffix, content in sidecars.items():
            write_file(self._path.with_name(self._path.name + suffix), content)
        self._part.rename(self._path)
        if not self._is_part:
            self._sync_folders()
        self._published = True

    def _sync_folders(self) -> None:
        """Sync the folders of the result's files and those above, without the files of writers that were given up."""
        for folder, _, names in os.walk(self._path.parent):
            for path in (Path(folder, name) for name in names):
                if path.name.endswith(PART) and path != self._path:
                    path.unlink(missing_ok=True)
            sync_folder(Path(folder))
        for above in self._path.parents[1:LEVELS]:
            sync_folder(above)

    def close(self) -> None:
        """Remove the file unless it was published."""
        self._file.close()
        if self._published:
            return
        if self._is_part:
            self._part.unlink(missing_ok=True)
        else:
            remove_abandoned_tree(self._path.parent)


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

    def publish(self, sidecars: Sidecars = NO_SIDECARS) -> None:
        remove_abandoned_tree(self._folder)  # pieces of lost workers
        self._file.publish(sidecars)

    def close(self) -> None:
        self._file.close()


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that it holds, if it is there. Raises StoreError once all else is removed.

    It is no error where the folder stays because another process adds a file or, on NFS, has one open: a later cleanup
    finds it.
    """
    errors: list[BaseException] = []
    shutil.rmtree(folder, onerror=lambda _function, _path, info: errors.append(info[1]))
    for error in errors:
        if getattr(error, "errno", None) not in IGNORED_ERRORS:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"the results store cannot remove files: {reason}") from error


def remove_abandoned_tree(folder: Path) -> None:
    """Remove a folder of which nothing is needed. What cannot be removed stays, and the log says why."""
    try:
        remove_tree(folder)
    except StoreError as error:
        log.warning("abandoned files not removed", folder=str(folder), error=str(error))
