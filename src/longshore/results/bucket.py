"""The object store: result files in a bucket, through obstore (S3 and what speaks it, GCS, Azure).

A result is one streaming multipart upload: the object appears when the upload completes, or not at all (promise 3). An
upload that fails is aborted by obstore when the iterator that feeds it raises. The upload of a worker that was killed
stays behind unseen, and is aborted with what else an attempt left; on S3 alone, as obstore cannot list uploads.

Credentials, endpoint and encryption come from the environment by the cloud's own names (`AWS_…`, `GOOGLE_…`,
`AZURE_…`); for S3 see `aws`, for the others https://developmentseed.org/obstore/latest/api/store/gcs/
"""

import contextlib
import io
import queue
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store, from_url

from longshore.results.aws import Access, error_of
from longshore.results.local import NUMBER, Abandonable, StoreError, StoreUnavailableError
from longshore.results.multipart import Bucket, Unfinished, headers_of
from longshore.tasks.model import ChainId, TaskId

if TYPE_CHECKING:
    from obstore import GetResult  # a name for type checkers alone

log = structlog.get_logger()

PART = 8 << 20  # bytes; S3 takes 10,000 parts of an upload: 80 GB
UPLOADS = 2  # parts that are on their way at the same time
WAITING = 8  # blocks that wait for a part to be full
TIMEOUT = timedelta(seconds=30)  # of one request
RETRIES = 6  # of one request, within RETRY_TIME
RETRY_TIME = timedelta(seconds=60)
READ = 4 << 20  # bytes that are fetched at a time by whoever reads an object as a file
LEVELS = 4  # parts of a key: chain, task, attempt, name

# In the texts of obstore's errors: https://github.com/apache/arrow-rs-object-store/blob/main/src/client/retry.rs
STATUS = re.compile(r"status code: ([0-9]{3})")
CODE = re.compile(r"<Code>([\w.]+)</Code>|\(code: ([\w.]+)\)")
OWN_ERROR = re.compile(r"credential provider: (Store\w*Error): (.*)")
REDIRECTED = "redirect without LOCATION"


class _AbandonedError(Exception):
    """Ends the upload of a result that is not to be."""


class ObjectFile:
    """A result being uploaded. Leaving the `with` block without `publish` aborts the upload.

    Blocking: to be used from a thread. Memory is bounded by the parts on their way and the blocks that wait.
    """

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        self._blocks: queue.Queue[bytes | _AbandonedError | None] = queue.Queue(WAITING)
        self._thread = ThreadPoolExecutor(1, "upload")
        self._beside: str | None = None
        self._published = False
        self._upload = self._thread.submit(self._put)

    def write(self, data: bytes) -> None:
        """Append. Raises StoreUnavailableError and StoreError."""
        if data:
            self._give(bytes(data))

    def finish(self) -> None:
        """Complete the upload, however often it is asked: now the object is there, which nobody has heard of yet."""
        self._give(None)
        with _explained():
            self._upload.result()

    def open(self) -> IO[bytes]:
        """Open the object, once it is there, to be read."""
        return opened(self._store, self._key)

    def publish(self, suffix: str = "", beside: bytes = b"") -> None:
        """Leave the object, which is there now.

        `beside`: what to put next to it, in an object of that suffix; nothing without a suffix.
        """
        self.finish()
        if suffix:
            self._beside = self._key + suffix
            with _explained():
                obstore.put(self._store, self._beside, beside, attributes={"Content-Type": "application/json"})
        self._published = True

    def close(self) -> None:
        """End; what was not published is removed."""
        if not self._published:
            with contextlib.suppress(StoreUnavailableError, StoreError):
                self._give(_AbandonedError())
            if self._upload.exception() is None:  # it had been completed
                with contextlib.suppress(BaseError, OSError):
                    obstore.delete(self._store, [key for key in (self._beside, self._key) if key])
        self._thread.shutdown()

    def __enter__(self) -> "ObjectFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give(self, block: bytes | _AbandonedError | None) -> None:
        while True:
            if self._upload.done():
                with _explained():
                    self._upload.result()
                return
            with contextlib.suppress(queue.Full):
                self._blocks.put(block, timeout=0.2)
                return

    def _put(self) -> None:
        obstore.put(
            self._store,
            self._key,
            self._taken(),
            attributes=headers_of(self._key),
            use_multipart=True,
            chunk_size=PART,
            max_concurrency=UPLOADS,
        )

    def _taken(self) -> Iterator[bytes]:
        while (block := self._blocks.get()) is not None:
            if isinstance(block, _AbandonedError):
                raise block
            yield block


class _Reader(io.RawIOBase):
    """Obstore's reader as a file of Python's, for those who ask a file more than it answers."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        with _explained():
            self._reader = obstore.open_reader(store, key, buffer_size=READ)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: Any) -> int:
        with _explained():
            read = self._reader.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)


def opened(store: ObjectStore, key: str) -> IO[bytes]:
    """Return an object as a file, fetched as it is read. Blocking. Raises StoreUnavailableError and StoreError."""
    return io.BufferedReader(_Reader(store, key), READ)


class BucketStore:
    """Result files below one prefix of a bucket."""

    def __init__(self, url: str) -> None:
        """Raises StoreError when the environment does not fit the address."""
        scheme, _, rest = url.partition("://")
        name, _, prefix = rest.partition("/")
        access = Access() if scheme == "s3" else None
        self.bucket = Bucket(name, prefix.rstrip("/"), access) if access else None
        try:
            self._store: ObjectStore = from_url(
                url,
                client_options={"allow_http": True, "timeout": TIMEOUT, "connect_timeout": timedelta(seconds=5)},
                retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIME},
                **(access.options if access else {}),
            )
        except (BaseError, ValueError) as error:
            raise StoreError(f"results_url cannot be used: {_first_line(error)}") from error

    def location(self, chain: ChainId, task: TaskId, attempt: int, name: str) -> str:
        """The key of an attempt's result, below the prefix."""
        return f"{chain}/{task}/{attempt}/{name}"

    def create(self, location: str) -> ObjectFile:
        """Begin a result."""
        return ObjectFile(self._store, location)

    def open(self, location: str) -> IO[bytes]:
        """A result as a file. Blocking."""
        return opened(self._store, location)

    def read(self, location: str) -> Iterator[bytes] | None:
        """The bytes of a result, or None when it is gone. Blocking."""
        with _explained():
            try:
                found = obstore.get(self._store, location)
            except FileNotFoundError:
                return None
        return self._chunks(found)

    def remove_abandoned(self, chain: ChainId, task: TaskId, attempt: int, kept: Collection[str]) -> None:
        """Remove what attempts before `attempt` left behind, except the results that are `kept`. Blocking.

        A store that refuses to list or to delete keeps them: they are in nobody's way. Raises StoreUnavailableError.
        """
        keep = {location.rpartition("/")[0] for location in kept}
        self._abort(f"{chain}/{task}/", lambda upload: _is_before(upload.key, attempt))
        with contextlib.suppress(StoreError), _explained():
            for found in obstore.list(self._store, f"{chain}/{task}"):
                paths = [meta["path"] for meta in found]
                old = [path for path in paths if _is_before(path, attempt) and path.rpartition("/")[0] not in keep]
                if old:
                    obstore.delete(self._store, old)

    def remove(self, location: str) -> None:
        """Remove a result with all that lies beside it. Blocking."""
        self._remove_below(location.rpartition("/")[0])

    def remove_task(self, chain: ChainId, task: TaskId) -> None:
        """Remove all that a task has left. Blocking."""
        self._remove_below(f"{chain}/{task}")

    def _seen(self) -> Iterator[tuple[str, datetime]]:
        for found in obstore.list(self._store):
            yield from ((meta["path"], meta["last_modified"]) for meta in found)
        for upload in self.bucket.unfinished() if self.bucket else ():
            yield upload.key, upload.began

    def remove_attempt(self, place: Abandonable) -> None:
        """Remove all that an attempt has left. Blocking."""
        self._remove_below(place.prefix.rstrip("/"))

    def attempts(self, before: float) -> list[Abandonable]:
        """The places of all attempts that were last written in before that time (seconds since 1970). Blocking."""
        newest: dict[Abandonable, float] = {}
        with _explained():
            for path, moment in self._seen():
                names = path.split("/")
                if len(names) == LEVELS and all(NUMBER.fullmatch(name) for name in names[:-1]):
                    chain, task, attempt = map(int, names[:-1])
                    place = Abandonable(ChainId(chain), TaskId(task), attempt)
                    newest[place] = max(newest.get(place, 0.0), moment.timestamp())
        return [place for place, written in newest.items() if written < before]

    def address(self, location: str, life: int) -> str | None:
        """A presigned address of a result, good for `life` seconds; None when it is gone. Blocking."""
        with _explained():
            try:
                obstore.head(self._store, location)
            except FileNotFoundError:
                return None
            if not isinstance(self._store, (AzureStore, GCSStore, S3Store)):
                raise StoreError("this results store makes no presigned addresses")
            return obstore.sign(self._store, "GET", location, timedelta(seconds=life))

    def _abort(self, below: str, unwanted: Callable[[Unfinished], bool]) -> None:
        if self.bucket is not None:
            self.bucket.abort(upload for upload in self.bucket.unfinished(below) if unwanted(upload))

    def _remove_below(self, prefix: str) -> None:
        self._abort(f"{prefix}/", lambda _: True)
        with _explained():
            for found in obstore.list(self._store, prefix):
                if paths := [meta["path"] for meta in found]:
                    obstore.delete(self._store, paths)

    def _chunks(self, found: "GetResult") -> Iterator[bytes]:
        with _explained():
            for chunk in found:
                yield bytes(chunk)


def _is_before(path: str, attempt: int) -> bool:
    """Whether an object was written by an attempt before this one."""
    names = path.split("/")
    return len(names) >= LEVELS and NUMBER.fullmatch(names[2]) is not None and int(names[2]) < attempt


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Raise StoreUnavailableError or StoreError for what obstore raises; the log alone tells the bucket's address."""
    try:
        yield
    except (BaseError, OSError) as error:
        log.warning("results store failed", error=_first_line(error))
        raise _error(error) from error


def _error(error: Exception) -> StoreError | StoreUnavailableError:
    """The error for what obstore raises, which has the store's answer in its text alone."""
    text = str(error).partition("\n\n")[0]
    if found := OWN_ERROR.search(text):  # of our own `Access.credentials`
        return (StoreUnavailableError if found[1] == "StoreUnavailableError" else StoreError)(found[2])
    if REDIRECTED in text:
        return error_of(301, "")
    status, code = STATUS.search(text), CODE.search(text)
    if status is None and code is None and isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return error_of(403, "")
    return error_of(int(status[1]) if status else None, (code[1] or code[2]) if code else "")
