"""One multipart upload to S3 whose parts come from several workers.

Each piece has a range of the part numbers, and S3 assembles the parts by number:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import contextlib
import hashlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from longshore.errors import LongshoreError
from longshore.results.media_types import media_type
from longshore.results.s3_requests import S3Requests
from longshore.results.store import NO_SIDECARS, Piece, PieceNumber, Sidecars, StoreError, StoreUnavailableError

MAX_PARTS = 10_000  # of an upload
TRIALS_OF_PIECE = 3
"""Trials of a piece that have part numbers of their own, so that a late part of one overwrites none of another."""
MIN_PART_BYTES = 5 << 20  # of every part but the last
PART_BYTES = 8 << 20  # of a piece's first parts; later ones are larger, so that the numbers suffice
MAX_PARTS_UNDER_WAY = 2  # of a piece
READ_BYTES = 1 << 20


class UnfitPieceError(LongshoreError):
    """A piece is smaller than S3 accepts in the middle of an upload, or needs more than its share of part numbers."""


class UploadedPiece:
    """A piece as parts of the upload. Its last part is too small only if the whole piece is.

    A piece that needs more part numbers than it has ends without parts, which `ObjectAssembly.add` refuses.
    """

    def __init__(self, bucket: S3Requests, key: str, upload: str, number: PieceNumber) -> None:
        self._bucket = bucket
        self._key = key
        self._upload = upload
        self._max_parts = MAX_PARTS // number.count // TRIALS_OF_PIECE
        self._first = (number.number * TRIALS_OF_PIECE + number.trial % TRIALS_OF_PIECE) * self._max_parts + 1
        self._sent = 0
        self._size = 0
        self._waiting = bytearray()
        self._threads = ThreadPoolExecutor(MAX_PARTS_UNDER_WAY, "part")
        self._under_way: deque[Future[tuple[int, str]]] = deque()
        self._parts: list[tuple[int, str]] = []
        self._too_large = False
        self._cancelled = threading.Event()

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._too_large:
            return
        self._waiting += data
        while len(self._waiting) >= (size := self._part_size) + MIN_PART_BYTES:
            self._send(size)

    def end(self) -> Piece:
        if self._waiting:
            self._send(len(self._waiting))
        while self._under_way:
            self._parts.append(self._under_way.popleft().result())
        return Piece(self._size, parts=() if self._too_large else self._parts)

    def close(self) -> None:
        self._cancelled.set()
        self._threads.shutdown(cancel_futures=True)  # parts that arrived stay, as the upload may still complete

    @property
    def _part_size(self) -> int:
        return PART_BYTES << min(3, 4 * self._sent // self._max_parts)

    def _send(self, size: int) -> None:
        if self._sent == self._max_parts:
            self._too_large = True
            self._waiting.clear()
            return
        if len(self._under_way) == MAX_PARTS_UNDER_WAY:
            self._parts.append(self._under_way.popleft().result())
        with memoryview(self._waiting) as waiting:
            part = bytes(waiting[:size])
        del self._waiting[:size]
        self._under_way.append(self._threads.submit(self._put, self._first + self._sent, part))
        self._sent += 1

    def _put(self, number: int, part: bytes) -> tuple[int, str]:
        parameters: dict[str, Any] = {"UploadId": self._upload, "PartNumber": number, "Body": part}
        done = self._bucket.call("upload_part", self._key, cancelled=self._cancelled, **parameters)
        return number, done["ETag"]


class ObjectAssembly:
    """A result that is one upload. The complete object is read once, for its hash and to check its size."""

    def __init__(self, bucket: S3Requests, key: str, opener: Callable[[], IO[bytes]]) -> None:
        """`opener`: opens the object for reading."""
        self._bucket = bucket
        self._key = key
        self.open = opener
        self.upload = bucket.begin(key)
        self._parts: list[tuple[int, str]] = []
        self._size = 0
        self._small = False
        self._sidecars: list[str] = []
        self._published = False

    def add(self, piece: Piece) -> None:
        if not piece.size:
            return
        if self._small:
            raise UnfitPieceError("a part of the result is smaller than the bucket takes in the middle of an upload")
        if not piece.parts:
            raise UnfitPieceError("a part of the result needs more than its share of an upload's part numbers")
        self._small = piece.size < MIN_PART_BYTES
        self._parts += piece.parts
        self._size += piece.size

    def finish(self) -> tuple[int, bytes]:
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in self._parts]
        upload = {"Parts": parts}
        try:
            self._bucket.call("complete_multipart_upload", self._key, UploadId=self.upload, MultipartUpload=upload)
        except StoreUnavailableError as error:
            # If only the answer was lost, the object exists; no other attempt writes this key.
            try:
                self._bucket.call("head_object", self._key, retry_seconds=0)
            except StoreUnavailableError:
                raise error from None
        digest, size = hashlib.sha256(), 0
        with self.open() as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
                size += len(chunk)
        if size != self._size:
            raise StoreUnavailableError(f"the results store has {size} bytes of {self._size}")
        return size, digest.digest()

    def publish(self, sidecars: Sidecars = NO_SIDECARS) -> None:
        for suffix, content in sidecars.items():
            key = self._key + suffix
            self._sidecars.append(key)
            self._bucket.call("put_object", key, Body=content, ContentType=media_type(key), **self._bucket.encryption)
        self._published = True

    def close(self) -> None:
        if self._published:
            return
        with contextlib.suppress(StoreError):
            self._bucket.call("abort_multipart_upload", self._key, retry_seconds=0, UploadId=self.upload)
        for key in (*self._sidecars, self._key):
            with contextlib.suppress(StoreError):
                self._bucket.call("delete_object", key, retry_seconds=0)
