"""The Store protocol: where results are kept. `local` implements it for a folder, `bucket` for object stores.

All methods block and are used from threads. They raise StoreError, and StoreUnavailableError where a retry may help.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Protocol, Self

import msgspec
import structlog

from longshore.errors import LongshoreError, TransientError
from longshore.results.own_thread import refuse_cancelled
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId, TaskId

log = structlog.get_logger()


class StoreError(LongshoreError):
    """The results store refuses a request; a retry does not help, except for StoreUnavailableError."""


class StoreUnavailableError(StoreError, TransientError):
    """The results store failed or is out of reach; a retry may help."""


KEYS = "keys"
"""The folder of a task's key lists, which live as long as the task: `CHAIN/TASK/keys/BEGAN-ATTEMPT/keys.parquet`."""
KEY_LIST = "keys.parquet"
KEY_LIST_FOLDER = re.compile(r"[0-9T]+-[0-9]{1,18}")
ALL_ATTEMPTS = 0
"""In place of the number of an attempt: the key lists of all attempts of a task."""
LEVELS = 4
"""Folders above a file: attempt, task, chain, store."""
NUMBER = re.compile(r"[0-9]{1,18}")
"""The name of the folder of a chain, a task or an attempt; others are not the service's."""
CHUNK_BYTES = 1 << 20  # of a file, that are read at a time


class AttemptFiles(msgspec.Struct, frozen=True):
    """The place of all files of one attempt, or of the key lists of a task."""

    chain: ChainId
    task: TaskId
    attempt: int

    @classmethod
    def of(cls, attempt: Attempt) -> "AttemptFiles":
        """Return the place of the files of an attempt that runs."""
        return cls(attempt.chain, attempt.message.task, attempt.message.attempt)

    @property
    def prefix(self) -> str:
        """Return the common prefix of the locations of its files."""
        return f"{self.chain}/{self.task}/{KEYS if self.attempt == ALL_ATTEMPTS else self.attempt}/"

    def location(self, name: str) -> str:
        """Return the location of a file of the attempt: the path below the store."""
        return self.prefix + name

    def key_list(self, began: str) -> str:
        """Return the location of the key list of the attempt, whose run `began` then.

        In a folder of its own: after a restore of the service's database, attempts are numbered as before.
        """
        return f"{self.chain}/{self.task}/{KEYS}/{began}-{self.attempt}/{KEY_LIST}"


def attempt_of(names: Sequence[str]) -> AttemptFiles | None:
    """Return the place whose folder below the store has these names; None where it is not the service's."""
    chain, task, last = names
    if not NUMBER.fullmatch(chain) or not NUMBER.fullmatch(task) or not (last == KEYS or NUMBER.fullmatch(last)):
        return None
    return AttemptFiles(ChainId(int(chain)), TaskId(int(task)), ALL_ATTEMPTS if last == KEYS else int(last))


class Piece(msgspec.Struct, frozen=True):
    """A part of a result that one worker has written, as the worker that assembles the result needs it."""

    size: int
    """Bytes."""
    name: str = ""
    """Name of its file, in a folder."""
    parts: Sequence[tuple[int, str]] = ()
    """Numbers and entity tags of its parts of an upload, in a bucket."""


class PieceNumber(msgspec.Struct, frozen=True):
    """Which piece of a result is written."""

    number: int
    """From 0."""
    count: int
    """Of all pieces of the result."""
    trial: int
    """The number of the trial that writes the piece, from 1."""


Sidecars = Mapping[str, bytes]
"""Files beside a result, such as its manifest: their contents, by the suffixes that their names add to the result's."""
NO_SIDECARS: Sidecars = MappingProxyType({})


class Writable(Protocol):
    """A file that bytes are appended to."""

    def write(self, data: bytes) -> None: ...


def copy_hashed(
    store: "Store", location: str, write: Callable[[bytes], object], cancelled: threading.Event
) -> bytes | None:
    """Pass the bytes of a file to `write`; return their SHA-256, or None if the file is gone.

    Blocking. Raises LongshoreError once `cancelled` is set.
    """
    digest = hashlib.sha256()
    try:
        file = store.open(location)
    except FileNotFoundError:
        return None
    with file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            write(chunk)
            refuse_cancelled(cancelled)
    return digest.digest()


def remove_unneeded(store: "Store", location: str) -> None:
    """Remove a result or a key list that nothing needs. One that the store refuses to remove stays, which does no harm.

    Blocking. Raises StoreUnavailableError.
    """
    try:
        store.remove(location)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        log.warning("unneeded files not removed", location=location, error=str(error))


class PieceWriter(Writable, Protocol):
    """A piece that is being written. `close` removes it unless `end` was called."""

    def end(self) -> Piece:
        """Complete the piece, and return its size and what the assembly needs to find it."""

    def close(self) -> None: ...


class Result(Protocol):
    """A result that is not published yet. `close` removes it unless it was published."""

    def open(self) -> IO[bytes]:
        """Open the finished result for reading."""

    def publish(self, sidecars: Sidecars = NO_SIDECARS) -> None:
        """Make the result visible, with files beside it, such as the manifest."""

    def close(self) -> None: ...


class ResultWriter(Writable, Result, Protocol):
    """A result that one worker writes, or one of the many files of a result."""

    def finish(self) -> None:
        """End writing. The result can be read, and is not visible yet. May be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Assembly(Result, Protocol):
    """A result that is assembled from pieces."""

    @property
    def upload(self) -> str:
        """The id of the upload, which the writers of pieces need."""

    def add(self, piece: Piece) -> None:
        """Append the next piece. Raises UnfitPieceError and StoreUnavailableError."""

    def finish(self) -> tuple[int, bytes]:
        """Complete the result and return its size and its SHA-256."""


class Store(Protocol):
    """Keeps results."""

    @property
    def is_shared(self) -> bool:
        """Whether several workers can write one result."""

    @property
    def can_assemble(self) -> bool:
        """Whether they can write one file, which is assembled from their pieces."""

    @property
    def presigns(self) -> bool:
        """Whether the store itself serves downloads, at presigned addresses."""

    def create(self, location: str, *, is_part: bool = False) -> ResultWriter:
        """Begin a result. `is_part`: begin one of its many files, which nothing names until the result is published.

        Two workers may write the same part, if one of them is lost: none removes what the other has completed.
        The result is published last; a crash of the machine afterwards loses none of its files.
        """

    def open(self, location: str) -> IO[bytes]:
        """Open a complete file for reading. Raises FileNotFoundError if it is gone."""

    def assemble(self, location: str) -> Assembly:
        """Begin a result that is assembled from pieces."""

    def piece(self, location: str, upload: str, number: PieceNumber) -> PieceWriter:
        """Begin a piece of a result. `upload`: the assembly's."""

    def exists(self, location: str) -> bool:
        """Return whether a result is there, without reading it."""

    def open_path(self, location: str) -> Path | None:
        """Return the file of a result; None if it is gone or not in a folder."""

    def presigned_until(self) -> float:
        """Return when addresses that are presigned now end at the latest, in seconds since 1970; infinity: no limit."""

    def presigned_urls(self, locations: Sequence[str], seconds: int) -> list[str]:
        """Return presigned addresses of files, which are not looked for; none if the store presigns none."""

    def remove(self, location: str) -> None:
        """Remove a result with the files beside it, if it is there."""

    def remove_task(self, chain: ChainId, task: TaskId) -> None:
        """Remove all files of a task."""

    def remove_attempt(self, files: AttemptFiles) -> None:
        """Remove all files of an attempt."""

    def attempts(self, before: float) -> list[AttemptFiles]:
        """Return the attempts whose files were last written before a time in seconds since 1970.

        Key lists stand for all attempts of their task: `ALL_ATTEMPTS`.
        """

    def key_lists(self, chain: ChainId, task: TaskId) -> list[str]:
        """Return the locations of the key lists of a task."""

    def unfinished_key_lists(self, chain: ChainId, task: TaskId) -> list[str]:
        """Return the locations of key lists that were begun and are not complete, such as those of killed workers."""

    def remove_abandoned(self, files: AttemptFiles, kept: Collection[str]) -> None:
        """Remove the files of earlier attempts, and those under the number of an attempt that begins.

        After a restore of the service's database an attempt has the number of one whose files still lie here. The
        results at the locations `kept` stay, and so do files that the store refuses to remove, which does no harm.
        """
