"""Files as objects of a bucket or container: what the kinds `s3`, `gs` and `az` have in common."""

import abc
import asyncio
import contextlib
import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import IO, Annotated

import msgspec

from longshore.destinations.concurrency import map_concurrently
from longshore.destinations.http_client import HttpClient, StoreAnswer, StoreRequest, encoded, strong_tag
from longshore.destinations.kind import PRINTED, DestinationError, DestinationUnavailableError, File
from longshore.results.own_thread import opened_in_thread
from longshore.validation import Violation, in_json

Prefix = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=500, description="What stands before "
    "the path of each file; slashes around it make no difference.", extra=PRINTED)]  # fmt: skip

PART_BYTES = 8 << 20  # of an upload in parts; a smaller file is one request
UPLOADS_AT_A_TIME = 3  # of parts of PART_BYTES of one file, and fewer of larger ones; bounds the memory
EXISTS_ADVICE = 'add to "path" whatever of {task} and {run} it lacks, or set "overwrite"'
MAX_KEY_BYTES = 1024  # for S3, Google and Azure
ABORT_SECONDS = 10.0


class WriteConflictError(DestinationError):
    """The key has another state than the write expected."""


class CredentialError(DestinationError):
    """The destination does not accept the credentials, whatever they might allow."""


class StoredObject(msgspec.Struct, frozen=True):
    """An object that lies at the destination."""

    size: int
    """Bytes."""
    version: str
    """Its entity tag, or of Google its generation; empty where the server has no strong one."""


class ObjectClient(abc.ABC):
    """The requests that a kind of object store sends. Each raises DestinationError and DestinationUnavailableError."""

    client: HttpClient

    @abc.abstractmethod
    def address(self, key: str) -> str: ...

    @abc.abstractmethod
    async def stat(self, key: str) -> StoredObject | None:
        """Return an object without its bytes; None where there is none."""

    @abc.abstractmethod
    async def require_listing(self, prefix: str) -> None:
        """List one object below a prefix."""

    @abc.abstractmethod
    async def put(self, key: str, file: File, write_id: str, replaced: StoredObject | None = None) -> None:
        """Write an object, whole or not at all. `replaced`: the object that it replaces; None where there is none.

        Raises WriteConflictError where the key has another object by then, so that a late write replaces no newer one.
        """

    @abc.abstractmethod
    def get(self, key: str) -> AsyncGenerator[bytes, None]: ...

    @abc.abstractmethod
    async def delete(self, key: str) -> None: ...

    async def discard(self, keys: Sequence[str]) -> None:  # noqa: B027  # most stores have nothing to do
        """Abort the uploads of keys that were begun and not completed, unless they are invisible and end in time."""

    async def try_upload(self, key: str) -> str:  # noqa: ARG002  # most stores have nothing to do
        """Begin an upload in parts and abort it, where that needs rights of its own.

        Return the detail of the test's step: what a delivery cannot do without a right that is missing, or nothing.
        """
        return ""

    async def _send(self, request: StoreRequest, right: str, expected: Collection[int] = ()) -> StoreAnswer:
        """Send a request and return its answer. `right`: that it needs. `expected`: statuses that are no errors."""
        answer = await self.client.send(request)
        if answer.is_success or answer.status in expected:
            return answer
        raise self._error(answer, right)

    @abc.abstractmethod
    def _error(self, answer: StoreAnswer, right: str) -> DestinationError | DestinationUnavailableError:
        """Return the error of an answer. `right`: that the request needs."""


class ObjectPlace:
    """A FilePlace in an object store, below a prefix."""

    files_at_a_time = 4

    def __init__(self, objects: ObjectClient, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix.strip("/")

    def address(self, path: str) -> str:
        return self._objects.address(self.key(path))

    async def write(self, path: str, file: File, write_id: str, *, overwrite: bool) -> bytes:
        key = self.key(path)
        found, is_written = await self.find(key, file, overwrite=overwrite)
        if is_written:
            return file.sha256
        try:
            await self._objects.put(key, file, write_id, found)
        except WriteConflictError:  # written meanwhile, or by a request of ours whose answer was lost
            _, is_written = await self.find(key, file, overwrite=overwrite)
            if not is_written:
                raise DestinationUnavailableError(f"{self.address(path)} was written or removed meanwhile") from None
            return file.sha256
        # Where a program has taken it away, the MD5 that was sent is the proof: S3 compares that of each part, Azure
        # that of each block, and Google that of the file. A server for S3 that ignores it proves nothing.
        if await self._sha256(key) not in (file.sha256, None):
            # It is left there, as it may be another writer's by now.
            error = DestinationUnavailableError if overwrite else DestinationError
            raise error(f"{self.address(path)} has other bytes than were written to it")
        return file.sha256

    def read(self, path: str) -> AsyncIterator[bytes]:
        return self._objects.get(self.key(path))

    async def discard(self, path: str, write_id: str) -> None:
        await self.discard_many([path], [write_id])

    async def discard_many(self, paths: Sequence[str], write_ids: Sequence[str]) -> None:  # noqa: ARG002  # see `put`
        await self._objects.discard([self.key(path) for path in paths])

    async def find(self, key: str, file: File, *, overwrite: bool) -> tuple[StoredObject | None, bool]:
        """Return the object of a key, if there is one, and whether it has the bytes of a file.

        Raises WriteConflictError for another that must stay.
        """
        found = await self._objects.stat(key)
        sha256 = b"" if found is None or found.size != file.size else await self._sha256(key)
        if found is None or sha256 is None:
            return None, False
        if sha256 != file.sha256 and not overwrite:
            raise WriteConflictError(f"another file lies at {self._objects.address(key)}; {EXISTS_ADVICE}")
        return found, sha256 == file.sha256

    async def _sha256(self, key: str) -> bytes | None:
        """Return the SHA-256 of an object; None where it is gone, as a program may take it away at any time."""
        digest = hashlib.sha256()
        try:
            async with contextlib.aclosing(self._objects.get(key)) as chunks:
                async for chunk in chunks:
                    digest.update(chunk)
        except DestinationError:
            if await self._objects.stat(key) is None:
                return None
            raise
        return digest.digest()

    def key(self, path: str) -> str:
        """Return the key of a path. Raises DestinationError."""
        check_path(path)
        key = f"{self._prefix}/{path}" if self._prefix else path
        if len(key.encode()) > MAX_KEY_BYTES:
            raise DestinationError(f"the path {path[:50]}… is longer than {MAX_KEY_BYTES} bytes with its prefix")
        return key


def condition_of(replaced: StoredObject | None) -> dict[str, str]:
    """Return the header fields of a write that replaces an object, or none; see `ObjectClient.put`."""
    if replaced is None:
        return {"If-None-Match": "*"}
    return {"If-Match": replaced.version} if replaced.version else {}


def stored_object(answer: StoreAnswer) -> StoredObject:
    """Return the object of an answer to HEAD."""
    return StoredObject(int(answer.headers.get("content-length", "0")), strong_tag(answer.headers))


def check_path(path: str) -> None:
    """Raise DestinationError for a path that could mean another place, or that no server takes."""
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise DestinationError(f"the path {in_json(path)} has an empty part, or the part . or ..")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise DestinationError(f"the path {in_json(path)} has a control character")


def check_prefix(prefix: str) -> list[Violation]:
    """Return the violations of a prefix."""
    if prefix.strip("/"):
        try:
            check_path(prefix.strip("/"))
        except DestinationError:
            return [Violation("expected folders between single slashes, none of them . or ..", "/settings/prefix")]
    return []


def key_path(base: str, key: str) -> str:
    """Return the path of an address, percent-encoded. `base`: what stands before the key."""
    return f"{base}/{encoded(key, safe='/')}"


async def read_whole(file: File) -> bytes:
    """Return the bytes of a small file. Raises DestinationUnavailableError if it is cut short."""
    async with opened_in_thread(file.open) as (opened, thread):
        return await asyncio.get_running_loop().run_in_executor(thread, read_part, opened, 0, file.size)


def read_part(opened: IO[bytes], offset: int, size: int) -> bytes:
    """Return bytes of an open file. Blocking. Raises DestinationUnavailableError if it is cut short."""
    opened.seek(offset)
    data = opened.read(size)
    if len(data) != size:
        raise DestinationUnavailableError("the file of the result is cut short")
    return data


async def content_md5(content: bytes) -> str:
    """Return the header field `Content-MD5` of a content, which stores compare with what they receive."""
    digest = await asyncio.to_thread(hashlib.md5, content, usedforsecurity=False)
    return b64encode(digest.digest()).decode()


async def send_parts(file: File, send: Callable[[int, bytes], Awaitable[str]], max_parts: int) -> list[str]:
    """Send the parts of a file, some at a time, and return what `send(number, part)` returns for each, by number."""
    part_bytes = max(PART_BYTES, -(-file.size // max_parts))
    loop = asyncio.get_running_loop()
    async with opened_in_thread(file.open) as (opened, thread):

        async def send_at(offset: int) -> tuple[int, str]:
            size = min(part_bytes, file.size - offset)
            part = await loop.run_in_executor(thread, read_part, opened, offset, size)
            number = offset // part_bytes + 1
            return number, await send(number, part)

        at_a_time = max(1, UPLOADS_AT_A_TIME * PART_BYTES // part_bytes)
        sent = await map_concurrently(range(0, file.size, part_bytes), send_at, at_a_time)
    return [answer for _, answer in sorted(sent)]


@contextlib.asynccontextmanager
async def aborting(abort: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Call `abort`, which aborts an upload, where the context ends with an error."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(DestinationError, DestinationUnavailableError, TimeoutError):
            await asyncio.shield(asyncio.wait_for(abort(), ABORT_SECONDS))
        raise
