"""Results as objects, through obstore: written as one streaming upload, and read as a file."""

import contextlib
import io
import itertools
import queue
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from longshore.errors import first_line
from longshore.results.aws import error_of
from longshore.results.media_types import media_type
from longshore.results.s3_requests import headers_of
from longshore.results.store import NO_SIDECARS, ResultWriter, Sidecars, StoreError, StoreUnavailableError

log = structlog.get_logger()

PART_BYTES = 8 << 20  # S3 accepts 10,000 parts of an upload: 80 GB
MAX_PARTS_UNDER_WAY = 2
BLOCK_BYTES = 1 << 20  # that wait at most in one block: a row group of Parquet is written at once
MAX_WAITING_BLOCKS = 8  # until a part is full
READ_BYTES = 4 << 20  # that are fetched at a time when an object is read as a file

# In the texts of obstore's errors: https://github.com/apache/arrow-rs-object-store/blob/main/src/client/retry.rs
STATUS = re.compile(r"status code: ([0-9]{3})")
CODE = re.compile(r"<Code>([\w.]+)</Code>|\(code: ([\w.]+)\)")
OWN_ERROR = re.compile(r"credential provider: (Store\w*Error): (.*)")
REDIRECTED = "redirect without LOCATION"


class ObjectFile(ResultWriter):
    """A result that one worker uploads. The parts under way and the waiting blocks bound the memory."""

    def __init__(self, store: ObjectStore, key: str, *, is_part: bool = False) -> None:
        self._store = store
        self._key = key
        self._is_part = is_part
        self._blocks: queue.Queue[bytes | StoreError | None] = queue.Queue(MAX_WAITING_BLOCKS)
        self._thread = ThreadPoolExecutor(1, "upload")
        self._sidecars: list[str] = []
        self._published = False
        self._upload = self._thread.submit(self._put)

    def write(self, data: bytes) -> None:
        """Append. Raises StoreError."""
        for start in range(0, len(data), BLOCK_BYTES):
            self._put_block(bytes(data[start : start + BLOCK_BYTES]))

    def finish(self) -> None:
        """Complete the upload. The object exists, and no answer names it yet. May be called again."""
        self._put_block(None)
        with obstore_errors():
            self._upload.result()

    def open(self) -> IO[bytes]:
        """Open the finished object for reading."""
        return open_written(self._store, self._key)

    def publish(self, sidecars: Sidecars = NO_SIDECARS) -> None:
        """Complete the upload, put the objects beside it, and keep all of them."""
        self.finish()
        for suffix, content in sidecars.items():
            key = self._key + suffix
            self._sidecars.append(key)
            with obstore_errors():
                obstore.put(self._store, key, content, attributes={"Content-Type": media_type(key)})
        self._published = True

    def close(self) -> None:
        """Remove the object unless it was published."""
        if not self._published:
            with contextlib.suppress(StoreError):
                self._put_block(StoreError("the result was not published"))  # aborts the upload
            # A complete part stays: the worker that took over a lost shard may have written the same object.
            if self._upload.exception() is None and not self._is_part:
                with contextlib.suppress(BaseError, OSError):
                    obstore.delete(self._store, [*self._sidecars, self._key])
        self._thread.shutdown()

    def _put_block(self, block: bytes | StoreError | None) -> None:
        while True:
            if self._upload.done():
                with obstore_errors():
                    self._upload.result()
                return
            with contextlib.suppress(queue.Full):
                self._blocks.put(block, timeout=0.2)
                return

    def _put(self) -> None:
        blocks = self._blocks_until_end()
        first, size = [], 0
        for block in blocks:
            first.append(block)
            size += len(block)
            if size >= PART_BYTES:
                break
        else:  # all of it: one request in place of three
            obstore.put(self._store, self._key, b"".join(first), attributes=headers_of(self._key), use_multipart=False)
            return
        obstore.put(
            self._store,
            self._key,
            itertools.chain(first, blocks),
            attributes=headers_of(self._key),
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=MAX_PARTS_UNDER_WAY,
        )

    def _blocks_until_end(self) -> Iterator[bytes]:
        while (block := self._blocks.get()) is not None:
            if isinstance(block, StoreError):
                raise block
            yield block


class _Reader(io.RawIOBase):
    """An obstore reader as a Python file, which has more methods."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._reader = obstore.open_reader(store, key, buffer_size=READ_BYTES)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: Any) -> int:
        with obstore_errors():
            read = self._reader.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)


def open_object(store: ObjectStore, key: str) -> IO[bytes]:
    """Return an object as a file that is fetched as it is read. Raises FileNotFoundError if it is gone."""
    with obstore_errors(FileNotFoundError):
        return io.BufferedReader(_Reader(store, key), READ_BYTES)


def open_written(store: ObjectStore, key: str) -> IO[bytes]:
    """Open an object that this attempt has written. Raises StoreUnavailableError if it is gone: the next writes it."""
    with obstore_errors():
        return open_object(store, key)


@contextlib.contextmanager
def obstore_errors(*but: type[OSError]) -> Iterator[None]:
    """Raise StoreError for errors of obstore. Only the log names the bucket. `but`: errors that are raised as such."""
    try:
        yield
    except but:
        raise
    except (BaseError, OSError) as error:
        log.warning("results store failed", error=first_line(error))
        raise _error(error) from error


def _error(error: Exception) -> StoreError:
    """Return the error for an error of obstore, which has the store's answer only in its text."""
    text = str(error).partition("\n\n")[0]
    if own := OWN_ERROR.search(text):  # raised by `S3Credentials.credentials`
        return (StoreUnavailableError if own[1] == "StoreUnavailableError" else StoreError)(own[2])
    if REDIRECTED in text:
        return error_of(301, "")
    status, code = STATUS.search(text), CODE.search(text)
    if status is None and code is None and isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return error_of(403, "")
    return error_of(int(status[1]) if status else None, (code[1] or code[2]) if code else "")
