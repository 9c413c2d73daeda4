"""Results that several workers write: each writes pieces, one gathers them (promise 3 holds for the whole).

What is here is for the disk: pieces lie in a folder beside the result, and are put together while others are still
written. For a bucket, see `multipart`.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

import msgspec

from longshore.results.local import CHUNK, PartFile, ResultFile, StoreUnavailableError

FOLDER = "pieces"


class Piece(msgspec.Struct, frozen=True):
    """What is left of a piece for whoever gathers."""

    size: int
    """Bytes."""
    name: str = ""
    """Of its file, on the disk."""
    parts: Sequence[tuple[int, str]] = ()
    """Numbers and entity tags of its parts of an upload, in a bucket."""


class Writable(Protocol):
    """Takes bytes. Blocking."""

    def write(self, data: bytes) -> None: ...


class PieceWriter(Writable, Protocol):
    """A piece being written. Blocking; what was not ended is removed by `close`."""

    def end(self) -> Piece: ...

    def close(self) -> None: ...


class Gathering(Protocol):
    """A result being put together. Blocking; what was not published is removed by `close`."""

    @property
    def upload(self) -> str:
        """What the writers of pieces have to know."""

    def add(self, piece: Piece) -> None:
        """Take the piece that comes next in the result. Raises UnfitPieceError and StoreUnavailableError."""

    def finish(self) -> tuple[int, bytes]:
        """Put it together; gives its size and its SHA-256."""

    def open(self) -> IO[bytes]:
        """Open what was put together, to be read, before it is published."""

    def publish(self, suffix: str, beside: bytes) -> None:
        """Let the result be seen, with what lies beside it."""

    def close(self) -> None: ...


class LocalPiece:
    """A piece in a file of its own."""

    def __init__(self, result: Path, name: str) -> None:
        self._name = name
        self._path = result.parent / FOLDER / name
        self._file = PartFile(self._path)
        self._size = 0
        self._ended = False

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)

    def end(self) -> Piece:
        self._file.close()  # which is when another machine sees it on NFS; the whole is made safe, not its pieces
        self._ended = True
        return Piece(self._size, name=self._name)

    def close(self) -> None:
        self._file.close()
        if not self._ended:
            self._path.unlink(missing_ok=True)


class LocalGathering:
    """Appends each piece to the result and removes it."""

    upload = ""

    def __init__(self, result: Path) -> None:
        self._folder = result.parent / FOLDER
        self._file = ResultFile(result)
        self._folder.mkdir(mode=0o700)  # here alone, so that whoever is late does not make it again
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, piece: Piece) -> None:
        path, before = self._folder / piece.name, self._size
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                self._hash.update(chunk)
                self._file.write(chunk)
                self._size += len(chunk)
        if (read := self._size - before) != piece.size:  # a shared folder may have lost what was not flushed
            raise StoreUnavailableError(f"a part of the result has {read} bytes of {piece.size}")
        path.unlink()

    def finish(self) -> tuple[int, bytes]:
        return self._size, self._hash.digest()

    def open(self) -> IO[bytes]:
        return self._file.open()

    def publish(self, suffix: str, beside: bytes) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)  # what lost workers left
        self._file.publish(suffix, beside)

    def close(self) -> None:
        self._file.close()
