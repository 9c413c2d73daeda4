"""The bucket store: results in a bucket, through obstore (S3 and its implementations, GCS, Azure).

A result is one streaming multipart upload: the object appears when the upload completes, or not at all (promise 3).
obstore aborts an upload when the iterator that feeds it raises. The unfinished upload of a worker that was killed is
invisible, and is aborted with the other files of its attempt; on S3 only, as obstore cannot list uploads.

Credentials, endpoint and encryption come from the environment variables of each cloud (`AWS_…`, `GOOGLE_…`,
`AZURE_…`); for S3 see `aws`, for the others https://developmentseed.org/obstore/latest/api/store/gcs/
"""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store, from_url

from longshore.errors import first_line
from longshore.results.aws import S3Credentials
from longshore.results.object_file import ObjectFile, obstore_errors, open_object, open_written
from longshore.results.s3_assembly import ObjectAssembly, UploadedPiece
from longshore.results.s3_requests import S3Requests, UnfinishedUpload
from longshore.results.store import (
    ALL_ATTEMPTS,
    KEYS,
    LEVELS,
    NUMBER,
    AttemptFiles,
    PieceNumber,
    StoreError,
    StoreUnavailableError,
    attempt_of,
)
from longshore.tasks.model import ChainId, TaskId

TIMEOUT = timedelta(seconds=30)  # of one request
MAX_RETRIES = 6  # of one request, within RETRY_TIME
RETRY_TIME = timedelta(seconds=60)
KEY_LIST_LEVELS = LEVELS + 1


class BucketStore:
    """The store for results below one prefix of a bucket."""

    presigns = True

    def __init__(self, url: str) -> None:
        """Raise StoreError if the environment does not fit the address."""
        scheme, _, rest = url.partition("://")
        name, _, prefix = rest.partition("/")
        self._s3 = S3Credentials() if scheme == "s3" else None
        self.bucket = S3Requests(name, prefix.rstrip("/"), self._s3) if self._s3 else None
        try:
            self._store: ObjectStore = from_url(
                url,
                client_options={"allow_http": True, "timeout": TIMEOUT, "connect_timeout": timedelta(seconds=5)},
                retry_config={"max_retries": MAX_RETRIES, "retry_timeout": RETRY_TIME},
                **(self._s3.options if self._s3 else {}),
            )
        except (BaseError, ValueError) as error:
            raise StoreError(f"results_url cannot be used: {first_line(error)}") from error

    @property
    def is_shared(self) -> bool:
        """Whether several workers can write one result: on S3 only."""
        return self._s3 is not None

    @property
    def can_assemble(self) -> bool:
        """Whether pieces can make one object: on S3 only, where the parts of an upload may differ in size."""
        return self._s3 is not None and not self._s3.needs_equal_parts

    def create(self, location: str, *, is_part: bool = False) -> ObjectFile:
        return ObjectFile(self._store, location, is_part=is_part)

    def assemble(self, location: str) -> ObjectAssembly:
        assert self.bucket is not None, "not a shared store"
        return ObjectAssembly(self.bucket, location, functools.partial(open_written, self._store, location))

    def piece(self, location: str, upload: str, number: PieceNumber) -> UploadedPiece:
        assert self.bucket is not None, "not a shared store"
        return UploadedPiece(self.bucket, location, upload, number)

    def open(self, location: str) -> IO[bytes]:
        return open_object(self._store, location)

    def remove_abandoned(self, files: AttemptFiles, kept: Collection[str]) -> None:
        """Remove the files of earlier attempts and those under its own number, except the results `kept`.

        If the store refuses to list or to delete them, they stay, which does no harm. Raises StoreUnavailableError.
        """
        keep = {_attempt_folder(location) for location in kept}
        folder = f"{files.chain}/{files.task}"
        self._abort(f"{folder}/", lambda upload: _is_up_to(upload.key, files.attempt))
        try:
            with obstore_errors():
                for found in obstore.list(self._store, folder):
                    paths = [meta["path"] for meta in found if _is_up_to(meta["path"], files.attempt)]
                    if old := [path for path in paths if _attempt_folder(path) not in keep]:
                        obstore.delete(self._store, old)
        except StoreError as error:
            if isinstance(error, StoreUnavailableError):
                raise

    def remove(self, location: str) -> None:
        self._remove_below(location.rpartition("/")[0])

    def remove_task(self, chain: ChainId, task: TaskId) -> None:
        self._remove_below(f"{chain}/{task}")

    def _all_files(self) -> Iterator[tuple[str, datetime]]:
        for found in obstore.list(self._store):
            yield from ((meta["path"], meta["last_modified"]) for meta in found)
        for upload in self.bucket.unfinished() if self.bucket else ():
            yield upload.key, upload.began

    def remove_attempt(self, files: AttemptFiles) -> None:
        self._remove_below(files.prefix.rstrip("/"))

    def attempts(self, before: float) -> list[AttemptFiles]:
        newest: dict[AttemptFiles, float] = {}
        with obstore_errors():
            for path, moment in self._all_files():
                names = path.split("/")
                place = attempt_of(names[: LEVELS - 1]) if len(names) >= LEVELS else None
                if place is not None and (place.attempt != ALL_ATTEMPTS or len(names) == KEY_LIST_LEVELS):
                    newest[place] = max(newest.get(place, 0.0), moment.timestamp())
        return [attempt_files for attempt_files, written in newest.items() if written < before]

    def key_lists(self, chain: ChainId, task: TaskId) -> list[str]:
        with obstore_errors():
            return [meta["path"] for some in obstore.list(self._store, f"{chain}/{task}/{KEYS}") for meta in some]

    def unfinished_key_lists(self, chain: ChainId, task: TaskId) -> list[str]:
        uploads = self.bucket.unfinished(f"{chain}/{task}/{KEYS}/") if self.bucket else ()
        keys = {upload.key for upload in uploads}
        # A list may be complete by another upload, where the answer to the beginning of one was lost.
        return list(keys.difference(self.key_lists(chain, task))) if keys else []

    def exists(self, location: str) -> bool:
        with obstore_errors():
            try:
                obstore.head(self._store, location)
            except FileNotFoundError:
                return False
        return True

    def open_path(self, location: str) -> Path | None:  # noqa: ARG002  # of the protocol
        return None

    def presigned_until(self) -> float:
        return math.inf if self._s3 is None else self._s3.end

    def presigned_urls(self, locations: Sequence[str], seconds: int) -> list[str]:
        with obstore_errors():
            if not isinstance(self._store, (AzureStore, GCSStore, S3Store)):
                raise StoreError("this results store makes no presigned addresses")
            return list(obstore.sign(self._store, "GET", list(locations), timedelta(seconds=seconds)))

    def _abort(self, below: str, unwanted: Callable[[UnfinishedUpload], bool]) -> None:
        if self.bucket is not None:
            self.bucket.abort(upload for upload in self.bucket.unfinished(below) if unwanted(upload))

    def _remove_below(self, prefix: str) -> None:
        self._abort(f"{prefix}/", lambda _: True)
        with obstore_errors():
            for found in obstore.list(self._store, prefix):
                if paths := [meta["path"] for meta in found]:
                    obstore.delete(self._store, paths)


def _attempt_folder(path: str) -> str:
    """Return the folder of an object's attempt."""
    return "/".join(path.split("/")[: LEVELS - 1])


def _is_up_to(path: str, attempt: int) -> bool:
    """Return whether an object lies under the number of an attempt or of an earlier one."""
    names = path.split("/")
    return len(names) >= LEVELS and NUMBER.fullmatch(names[2]) is not None and int(names[2]) <= attempt
