"""The requests to a bucket of S3 that destinations need.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

import html
import re
from collections.abc import AsyncGenerator, Collection, Sequence
from os.path import commonprefix

import msgspec

from longshore.destinations.http_client import HttpClient, StoreAnswer, StoreRequest
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, File
from longshore.destinations.object_place import (
    PART_BYTES,
    ObjectClient,
    StoredObject,
    WriteConflictError,
    aborting,
    condition_of,
    content_md5,
    key_path,
    read_whole,
    send_parts,
    stored_object,
)
from longshore.destinations.s3_errors import TRANSIENT_CODES, code_of, error_of
from longshore.destinations.s3_settings import S3Settings
from longshore.results.media_types import media_type

UPLOADS_OF_PAGE = 300  # fit into `http_client.MAX_ANSWER_BYTES`; a server that does not know the parameter sends 1,000
MAX_PAGES = 100  # of a list of uploads, which a server may never end
MAX_PARTS = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html


class S3Objects(ObjectClient):
    """Requests to a bucket."""

    def __init__(self, client: HttpClient, settings: S3Settings) -> None:
        self.client = client
        self._settings = settings
        self._base = client.path.rstrip("/")

    def address(self, key: str) -> str:
        return f"s3://{self._settings.bucket}/{key}"

    async def stat(self, key: str) -> StoredObject | None:
        request = StoreRequest("HEAD", self._path(key))
        answer = await self._send(request, "s3:GetObject", {400, 403, 404})
        # An answer to HEAD has no body. What is wrong, be it the clock, the token or the region, the answer to a list
        # says; without the right to list, a missing object is 403 too. Whether a bucket is missing, the answer to a
        # write says.
        if answer.status in (400, 403):
            await self.require_listing(key)
            answer = await self._send(request, "s3:GetObject", {404})
        return None if answer.status == 404 else stored_object(answer)

    async def require_listing(self, prefix: str) -> None:
        query = {"list-type": "2", "max-keys": "1", "prefix": prefix}
        await self._send(StoreRequest("GET", self._base or "/", query), "s3:ListBucket")

    async def put(self, key: str, file: File, write_id: str, replaced: StoredObject | None = None) -> None:  # noqa: ARG002
        condition = condition_of(replaced)
        headers = {"Content-Type": media_type(key), **self._settings.encryption_headers}
        if file.size <= PART_BYTES:
            content = await read_whole(file)
            headers["Content-MD5"] = await content_md5(content)  # which buckets with Object Lock demand
            await self._send_new(StoreRequest("PUT", self._path(key), headers=headers, content=content), condition)
            return
        await self.discard([key])  # of an earlier attempt: an upload does not name its delivery
        upload = await self._begin(key, headers)
        async with aborting(lambda: self._abort(key, upload)):
            await self._send_in_parts(key, upload, file, condition)

    def get(self, key: str) -> AsyncGenerator[bytes, None]:
        return self.client.read(
            StoreRequest("GET", self._path(key)), lambda answer: self._error(answer, "s3:GetObject")
        )

    async def delete(self, key: str) -> None:
        await self._send(StoreRequest("DELETE", self._path(key)), "s3:DeleteObject", {404})

    async def discard(self, keys: Sequence[str]) -> None:
        try:
            uploads = await self._uploads(keys)
        except DestinationError:  # the test of the destination says so
            return
        for key, upload in uploads:
            await self._abort(key, upload)

    async def try_upload(self, key: str) -> str:
        upload = await self._begin(key, self._settings.encryption_headers)
        try:
            await self._uploads([key])
        except DestinationError as error:
            return f"uploads that a lost worker began are left to the rules of the bucket's lifecycle: {error}"
        finally:
            await self._abort(key, upload)
        return ""

    async def _send_in_parts(self, key: str, upload: str, file: File, condition: dict[str, str]) -> None:
        async def send(number: int, part: bytes) -> str:
            query = {"partNumber": str(number), "uploadId": upload}
            headers = {"Content-MD5": await content_md5(part)}
            answer = await self._send(StoreRequest("PUT", self._path(key), query, headers, part), "s3:PutObject")
            return answer.headers.get("etag", "")

        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{html.escape(tag)}</ETag></Part>"
            for number, tag in enumerate(await send_parts(file, send, MAX_PARTS), 1)
        )
        content = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'
        request = StoreRequest("POST", self._path(key), {"uploadId": upload}, content=content.encode())
        await self._send_new(request, condition)

    async def _send_new(self, request: StoreRequest, condition: dict[str, str]) -> None:
        """Send a request that makes an object. `condition`: as header fields, which some servers do not implement."""
        sent = msgspec.structs.replace(request, headers={**request.headers, **condition})
        answer = await self._send(sent, "s3:PutObject", {404, 409, 412, 501})
        if answer.status == 501:
            sent = request
            answer = await self._send(sent, "s3:PutObject", {404, 409, 412})
        # The answer to the end of an upload begins with 200 before its outcome is known.
        if answer.is_success and code_of(answer) in TRANSIENT_CODES:
            answer = await self._send(sent, "s3:PutObject", {404, 409, 412})
        code = code_of(answer)
        if code == "NoSuchUpload":
            raise WriteConflictError("the upload was completed by a request whose answer was lost, or was aborted")
        if code == "NoSuchKey":
            raise WriteConflictError("the object to replace was removed meanwhile")
        if answer.status in (409, 412) and code in ("PreconditionFailed", "ConditionalRequestConflict", ""):
            raise WriteConflictError("another object was written meanwhile")
        if code or not answer.is_success:
            raise self._error(answer, "s3:PutObject")

    async def _begin(self, key: str, headers: dict[str, str]) -> str:
        answer = await self._send(StoreRequest("POST", self._path(key), {"uploads": ""}, headers), "s3:PutObject")
        return _element("UploadId", answer.content.decode("utf-8", "replace"))

    async def _abort(self, key: str, upload: str) -> None:
        request = StoreRequest("DELETE", self._path(key), {"uploadId": upload})
        await self._send(request, "s3:AbortMultipartUpload", {404})

    async def _uploads(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """Return key and id of the uploads of keys that were begun and not completed.

        Raises DestinationError where listing them is not allowed or not implemented.
        """
        wanted, found = set(keys), []
        prefix = commonprefix(keys)  # noqa: RUF071  # of characters, as S3 has it
        query = {"uploads": "", "prefix": prefix, "max-uploads": str(UPLOADS_OF_PAGE)}
        for _ in range(MAX_PAGES):
            request = StoreRequest("GET", self._base or "/", query)
            answer = await self._send(request, "s3:ListBucketMultipartUploads", {404, 501})
            if answer.status == 501:
                raise DestinationError("the server does not implement s3:ListBucketMultipartUploads")
            text = answer.content.decode("utf-8", "replace")
            uploads = [(_element("Key", one), _element("UploadId", one)) for one in text.split("<Upload>")[1:1001]]
            found += [upload for upload in uploads if upload[0] in wanted]
            query["key-marker"] = _element("NextKeyMarker", text)
            query["upload-id-marker"] = _element("NextUploadIdMarker", text)
            if _element("IsTruncated", text) != "true":
                break
        return found

    async def _send(self, request: StoreRequest, right: str, expected: Collection[int] = ()) -> StoreAnswer:
        answer = await self.client.send(request)
        if answer.is_success or (answer.status in expected and code_of(answer) != "NoSuchBucket"):
            return answer
        raise self._error(answer, right)

    def _error(self, answer: StoreAnswer, right: str) -> DestinationError | DestinationUnavailableError:
        return error_of(answer, self._settings.bucket, right)

    def _path(self, key: str) -> str:
        return key_path(self._base, key)


def _element(name: str, text: str) -> str:
    found = re.search(f"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found[1]) if found else ""
