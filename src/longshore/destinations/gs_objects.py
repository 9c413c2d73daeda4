"""The requests to a bucket of Google Cloud Storage that destinations need, by its JSON API.

A large file is a resumable upload: it appears when its last bytes have arrived, and only if they have the MD5 that the
upload began with. An upload that is given up is invisible and ends by itself after a week.
https://cloud.google.com/storage/docs/json_api/v1, https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import asyncio
import hashlib
import re
import threading
from base64 import b64encode
from collections.abc import AsyncGenerator
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import msgspec

from longshore.destinations.gs_errors import error_of
from longshore.destinations.http_client import MAX_TRIES, HttpClient, StoreAnswer, StoreRequest, encoded
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, File
from longshore.destinations.object_place import (
    PART_BYTES,
    ObjectClient,
    StoredObject,
    WriteConflictError,
    aborting,
    read_part,
)
from longshore.results.media_types import media_type
from longshore.results.own_thread import in_own_thread, opened_in_thread, refuse_cancelled

KEPT_BYTES = 256 << 10  # https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload
INCOMPLETE = 308  # the answer to a part of an upload that is not the last
RANGE = re.compile(r"bytes=0-(\d+)")
READ_BYTES = 1 << 20  # at a time
MAX_FAILURES = 5  # parts in a row of which the service has kept nothing


class Metadata(msgspec.Struct, frozen=True):
    """The part of an object's description that counts here."""

    size: str
    generation: str


class GoogleObjects(ObjectClient):
    """Requests to a bucket. An upload needs the same right in each of its forms."""

    def __init__(self, client: HttpClient, bucket: str) -> None:
        self.client = client
        self._bucket = bucket

    def address(self, key: str) -> str:
        return f"gs://{self._bucket}/{key}"

    async def stat(self, key: str) -> StoredObject | None:
        request = StoreRequest("GET", self._path(key), {"fields": "size,generation"})
        answer = await self._send(request, "storage.objects.get", {404})
        if answer.status == 404:
            return None
        found = msgspec.json.decode(answer.content, type=Metadata)
        return StoredObject(int(found.size), found.generation)

    async def require_listing(self, prefix: str) -> None:
        query = {"maxResults": "1", "prefix": prefix, "fields": "items(name)"}
        await self._send(StoreRequest("GET", f"/storage/v1/b/{self._bucket}/o", query), "storage.objects.list")

    async def put(self, key: str, file: File, write_id: str, replaced: StoredObject | None = None) -> None:  # noqa: ARG002
        right = "storage.objects.create" + (" and storage.objects.delete" if replaced else "")
        session = await self._begin(key, file, right, replaced)
        async with aborting(lambda: self.client.send(msgspec.structs.replace(session, method="DELETE"))):
            await self._send_parts(session, file, right)

    def get(self, key: str) -> AsyncGenerator[bytes, None]:
        request = StoreRequest("GET", self._path(key), {"alt": "media"})
        return self.client.read(request, lambda answer: self._error(answer, "storage.objects.get"))

    async def delete(self, key: str) -> None:
        await self._send(StoreRequest("DELETE", self._path(key)), "storage.objects.delete", {404})

    async def _begin(self, key: str, file: File, right: str, replaced: StoredObject | None) -> StoreRequest:
        """Return the request of a new upload, which lacks its content."""
        generation = replaced.version if replaced else "0"  # 0: the object must be new
        query = {"uploadType": "resumable", "name": key, "ifGenerationMatch": generation}
        metadata = {"name": key, "contentType": media_type(key), "md5Hash": await in_own_thread(partial(_md5, file))}
        headers = {"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Length": str(file.size)}
        path = f"/upload/storage/v1/b/{self._bucket}/o"
        answer = await self._send(
            StoreRequest("POST", path, query, headers, msgspec.json.encode(metadata)), right, {412}
        )
        if answer.status == 412:
            raise WriteConflictError("another object was written meanwhile")
        # Of the address only path and query count: the service has no say in where the file goes.
        session = urlsplit(answer.headers.get("location", ""))
        query = dict(parse_qsl(session.query, keep_blank_values=True))
        if "upload_id" not in query:
            raise DestinationUnavailableError(f"the service of the bucket {self._bucket} began no upload")
        return StoreRequest("PUT", session.path, query)

    async def _send_parts(self, session: StoreRequest, file: File, right: str) -> None:
        offset, failures = 0, 0
        loop = asyncio.get_running_loop()
        async with opened_in_thread(file.open) as (opened, thread):
            while True:
                size = min(PART_BYTES, file.size - offset)
                part = await loop.run_in_executor(thread, read_part, opened, offset, size)
                span = f"{offset}-{offset + len(part) - 1}" if part else "*"
                request = msgspec.structs.replace(session, content=part)
                try:
                    # Once, as it is not known how much of a part has arrived whose answer is lost.
                    kept = await self._kept(
                        request.with_headers(Content_Range=f"bytes {span}/{file.size}"), right, tries=1
                    )
                except DestinationUnavailableError:
                    kept = await self._kept(session.with_headers(Content_Range=f"bytes */{file.size}"), right)
                if kept is None:
                    return
                failures = 0 if kept > offset else failures + 1
                if failures == MAX_FAILURES:
                    raise DestinationUnavailableError(f"the service of the bucket {self._bucket} keeps no bytes")
                offset = kept

    async def _kept(self, request: StoreRequest, right: str, tries: int = MAX_TRIES) -> int | None:
        """Send a request of an upload and return how many bytes the service has; None once the object is there."""
        answer = await self.client.send(request, tries)
        if answer.is_success:
            return None
        if answer.status == 412:
            raise WriteConflictError("another object was written meanwhile")
        if answer.status in (404, 410):  # the upload has ended, also where the answer to its last part was lost
            raise WriteConflictError("the upload was completed by a request whose answer was lost, or was aborted")
        if answer.status == 400:  # other bytes than their MD5 says, or from another offset than the service is at
            raise DestinationUnavailableError(f"the service of the bucket {self._bucket} refused a part of an upload")
        if answer.status != INCOMPLETE:
            raise self._error(answer, right)
        found = RANGE.fullmatch(answer.headers.get("range", ""))
        # Of a part it keeps whole multiples of these bytes; any further ones are sent again.
        return (int(found[1]) + 1) // KEPT_BYTES * KEPT_BYTES if found else 0

    def _error(self, answer: StoreAnswer, right: str) -> DestinationError | DestinationUnavailableError:
        return error_of(answer, self._bucket, right)

    def _path(self, key: str) -> str:
        return f"/storage/v1/b/{self._bucket}/o/{encoded(key)}"


def _md5(file: File, cancelled: threading.Event) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open() as opened:
        while chunk := opened.read(READ_BYTES):
            refuse_cancelled(cancelled)
            digest.update(chunk)
    return b64encode(digest.digest()).decode()
