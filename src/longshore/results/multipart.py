"""One multipart upload to S3, and what speaks it, whose parts come from several workers.

obstore keeps an upload to the process that began it, so this is botocore's. Each piece has a range of the part
numbers, and S3 puts them together by number: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import contextlib
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import IO, Any

import msgspec
import structlog

from longshore.errors import LongshoreError
from longshore.results.aws import NO_CREDENTIALS, Access, error_of, is_not_now
from longshore.results.local import StoreError, StoreUnavailableError
from longshore.results.media_types import media_type
from longshore.results.pieces import Piece

log = structlog.get_logger()

MOST_PARTS = 10_000  # of an upload
LANES = 3  # part numbers of a piece for one trial, the next, and the one after: a late part of one spoils no other
LEAST_PART = 5 << 20  # bytes of every part but the last one
PART = 8 << 20  # bytes of a piece's first parts; later ones are larger, so that numbers suffice
UPLOADS = 2  # parts of a piece that are on their way at the same time
READ = 1 << 20  # bytes
TIMEOUT, CONNECT_TIMEOUT = 30, 5  # seconds, of one request
PATIENCE = 60.0  # seconds that a store which is away is asked again for
MOST_PAUSE = 5.0  # seconds

ENCRYPTION = {"AWS_SERVER_SIDE_ENCRYPTION": "ServerSideEncryption", "AWS_SSE_KMS_KEY_ID": "SSEKMSKeyId"}


def headers_of(key: str) -> dict[str, str]:
    """What an object's download says of it: the same as a download from the service itself."""
    name = key.rpartition("/")[2]
    return {"Content-Type": media_type(name), "Content-Disposition": f'attachment; filename="{name}"'}


class UnfitPieceError(LongshoreError):
    """A piece has fewer bytes than S3 takes in the middle of an upload, or more than its share of the part numbers."""


class Unfinished(msgspec.Struct, frozen=True):
    """An upload that was neither completed nor aborted. `key`: below the prefix."""

    key: str
    upload: str
    began: datetime


class Bucket:
    """One prefix of a bucket, as botocore reaches it. Blocking, and for any thread."""

    def __init__(self, name: str, prefix: str, access: Access) -> None:
        self.name = name
        self.prefix = f"{prefix}/" if prefix else ""
        self._access = access
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def client(self) -> Any:
        """Botocore's client, made when it is needed first: it takes 30 MB and a fifth of a second."""
        with self._lock:
            if self._client is None:
                from botocore.config import Config

                config = Config(
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=TIMEOUT,
                    # `call` tries again. Botocore gives up after seconds, and sooner the more requests there are.
                    retries={"mode": "standard", "total_max_attempts": 1},
                    s3={"addressing_style": "path" if self._access.endpoint else "auto"},
                    # What only speaks S3 often does not know the newer checksums.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                self._client = self._access.client(config)
            return self._client

    def call(
        self,
        name: str,
        key: str,
        *,
        patience: float = PATIENCE,
        given_up: threading.Event | None = None,
        **values: Any,
    ) -> Any:
        """Ask for an operation on a key below the prefix, again and again while the store is away.

        `patience`: seconds for that. `given_up`: set once nobody wants it any more. Raises StoreUnavailableError and
        StoreError.
        """
        deadline, pause = time.monotonic() + patience, 0.1
        given_up = given_up or threading.Event()
        while True:
            try:
                with explained():
                    return getattr(self.client, name)(Bucket=self.name, Key=self.prefix + key, **values)
            except StoreUnavailableError as error:
                if _answered(error) or time.monotonic() + pause > deadline or given_up.wait(pause):
                    raise
            pause = min(2 * pause, MOST_PAUSE)

    @property
    def encryption(self) -> dict[str, Any]:
        """What the environment wants of each new object."""
        return {option: os.environ[name] for name, option in ENCRYPTION.items() if os.environ.get(name)}

    def begin(self, key: str) -> str:
        """Begin an upload; gives its id."""
        about: dict[str, Any] = {name.replace("-", ""): value for name, value in headers_of(key).items()}
        begun = self.call("create_multipart_upload", key, **about, **self.encryption)
        return str(begun["UploadId"])

    def unfinished(self, below: str = "") -> list[Unfinished]:
        """The uploads below a prefix that have not ended; none where the credentials may not list them."""
        found = []
        try:
            with explained():
                pages = self.client.get_paginator("list_multipart_uploads").paginate(
                    Bucket=self.name, Prefix=self.prefix + below
                )
                for page in pages:
                    for upload in page.get("Uploads", ()):
                        key = upload["Key"].removeprefix(self.prefix)
                        found.append(Unfinished(key, upload["UploadId"], upload["Initiated"]))
        except (StoreError, StoreUnavailableError) as error:
            log.warning("unfinished uploads not listed", error=str(error))
        return found

    def refuse_unlisted(self) -> None:
        """Raise StoreError or StoreUnavailableError where the uploads that have not ended cannot be listed."""
        with explained():
            self.client.list_multipart_uploads(Bucket=self.name, Prefix=self.prefix, MaxUploads=1)

    def abort(self, uploads: Iterable[Unfinished]) -> None:
        """End uploads, as far as they have not ended."""
        for one in uploads:
            with contextlib.suppress(StoreError, StoreUnavailableError):
                self.call("abort_multipart_upload", one.key, patience=0, UploadId=one.upload)


class UploadedPiece:
    """A piece as parts of the upload. Its last part is never too small unless the whole piece is.

    One that needs more part numbers than it has leaves none of its parts: it is for whoever gathers to do without.
    """

    def __init__(self, bucket: Bucket, key: str, upload: str, number: int, count: int, trial: int) -> None:
        """`number`: of the piece, from 0, of `count`; `trial`: how often it was begun."""
        self._bucket = bucket
        self._key = key
        self._upload = upload
        self._most = MOST_PARTS // count // LANES
        self._first = (number * LANES + trial % LANES) * self._most + 1
        self._sent = 0
        self._size = 0
        self._waiting = bytearray()
        self._thread = ThreadPoolExecutor(UPLOADS, "part")
        self._under_way: deque[Future[tuple[int, str]]] = deque()
        self._parts: list[tuple[int, str]] = []
        self._too_large = False
        self._given_up = threading.Event()

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._too_large:
            return
        self._waiting += data
        while len(self._waiting) >= (size := self._part_size) + LEAST_PART:
            self._send(size)

    def end(self) -> Piece:
        if self._waiting:
            self._send(len(self._waiting))
        while self._under_way:
            self._parts.append(self._under_way.popleft().result())
        return Piece(self._size, parts=() if self._too_large else self._parts)

    def close(self) -> None:
        self._given_up.set()
        self._thread.shutdown(cancel_futures=True)  # parts that arrived are the upload's, which may still complete

    @property
    def _part_size(self) -> int:
        return PART << min(3, 4 * self._sent // self._most)

    def _send(self, size: int) -> None:
        if self._sent == self._most:
            self._too_large = True
            self._waiting.clear()
            return
        if len(self._under_way) == UPLOADS:
            self._parts.append(self._under_way.popleft().result())
        with memoryview(self._waiting) as waiting:
            part = bytes(waiting[:size])
        del self._waiting[:size]
        self._under_way.append(self._thread.submit(self._put, self._first + self._sent, part))
        self._sent += 1

    def _put(self, number: int, part: bytes) -> tuple[int, str]:
        about: dict[str, Any] = {"UploadId": self._upload, "PartNumber": number, "Body": part}
        done = self._bucket.call("upload_part", self._key, given_up=self._given_up, **about)
        return number, done["ETag"]


class ObjectGathering:
    """Completes the upload, and reads the object once: for its hash, and to see that it is all there."""

    def __init__(self, bucket: Bucket, key: str, opener: Callable[[], IO[bytes]]) -> None:
        """`opener`: opens the object of this key, to be read."""
        self._bucket = bucket
        self._key = key
        self.open = opener
        self.upload = bucket.begin(key)
        self._parts: list[tuple[int, str]] = []
        self._size = 0
        self._small = False
        self._beside: str | None = None
        self._published = False

    def add(self, piece: Piece) -> None:
        if not piece.size:
            return
        if self._small:
            raise UnfitPieceError("a part of the result is smaller than the bucket takes in the middle of an upload")
        if not piece.parts:
            raise UnfitPieceError("a part of the result needs more than its share of an upload's part numbers")
        self._small = piece.size < LEAST_PART
        self._parts += piece.parts
        self._size += piece.size

    def finish(self) -> tuple[int, bytes]:
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in self._parts]
        upload = {"Parts": parts}
        try:
            self._bucket.call("complete_multipart_upload", self._key, UploadId=self.upload, MultipartUpload=upload)
        except StoreUnavailableError as error:
            # Where its answer was lost, the object is there: it is of this attempt alone.
            try:
                self._bucket.call("head_object", self._key, patience=0)
            except StoreUnavailableError:
                raise error from None
        digest, size = hashlib.sha256(), 0
        with self.open() as file:
            while chunk := file.read(READ):
                digest.update(chunk)
                size += len(chunk)
        if size != self._size:
            raise StoreUnavailableError(f"the results store has {size} bytes of {self._size}")
        return size, digest.digest()

    def publish(self, suffix: str, beside: bytes) -> None:
        self._beside = self._key + suffix
        self._bucket.call(
            "put_object", self._beside, Body=beside, ContentType="application/json", **self._bucket.encryption
        )
        self._published = True

    def close(self) -> None:
        if self._published:
            return
        with contextlib.suppress(StoreError, StoreUnavailableError):
            self._bucket.call("abort_multipart_upload", self._key, patience=0, UploadId=self.upload)
        for key in filter(None, (self._beside, self._key)):
            with contextlib.suppress(StoreError, StoreUnavailableError):
                self._bucket.call("delete_object", key, patience=0)


def _answered(error: StoreUnavailableError) -> bool:
    """Whether the store did answer, and would give the same answer again."""
    status, code = _answer(error.__cause__)
    return status is not None and not is_not_now(status, code)


def _answer(error: BaseException | None) -> tuple[int | None, str]:
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return None, ""
    return error.response["ResponseMetadata"]["HTTPStatusCode"], str(error.response["Error"].get("Code", ""))


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise StoreUnavailableError or StoreError for what botocore raises; the log alone tells the bucket's address."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        log.warning("results store failed", error=str(error))
        if isinstance(error, NoCredentialsError):
            raise StoreError(NO_CREDENTIALS) from error
        raise error_of(*_answer(error)) from error
