"""The requests to a container of Azure Blob Storage that destinations need.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
"""

import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator

from longshore.destinations.az_errors import code_of, error_of
from longshore.destinations.http_client import HttpClient, StoreAnswer, StoreRequest
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, File
from longshore.destinations.object_place import (
    PART_BYTES,
    ObjectClient,
    StoredObject,
    WriteConflictError,
    condition_of,
    content_md5,
    key_path,
    read_whole,
    send_parts,
    stored_object,
)
from longshore.results.media_types import media_type

MAX_BLOCKS = 50_000  # https://learn.microsoft.com/rest/api/storageservices/put-block-list#remarks
EXISTS_CODES = ("BlobAlreadyExists", "ConditionNotMet")
OVERWRITE_CODE = "UnauthorizedBlobOverwrite"  # where a blob lies and the credentials may create new ones alone


class AzureObjects(ObjectClient):
    """Requests to a container, whose objects Azure calls blobs.

    Blocks that make no blob are invisible, and Azure removes them after a week.
    """

    def __init__(self, client: HttpClient, account: str, container: str) -> None:
        self.client = client
        self._account = account
        self._container = container
        self._base = f"{client.path.rstrip('/')}/{container}"

    def address(self, key: str) -> str:
        return f"az://{self._account}/{self._container}/{key}"

    async def stat(self, key: str) -> StoredObject | None:
        answer = await self._send(StoreRequest("HEAD", self._path(key)), "read (r)", {404})
        if answer.status == 404 and code_of(answer) == "ContainerNotFound":
            raise self._error(answer, "read (r)")
        return None if answer.status == 404 else stored_object(answer)

    async def require_listing(self, prefix: str) -> None:
        query = {"restype": "container", "comp": "list", "maxresults": "1", "prefix": prefix}
        await self._send(StoreRequest("GET", self._base, query), "list (l)")

    async def put(self, key: str, file: File, write_id: str, replaced: StoredObject | None = None) -> None:
        headers = {**condition_of(replaced), "x-ms-blob-content-type": media_type(key)}
        if file.size <= PART_BYTES:
            content = await read_whole(file)
            headers |= {"x-ms-blob-type": "BlockBlob", "Content-MD5": await content_md5(content)}
            await self._send_new(StoreRequest("PUT", self._path(key), headers=headers, content=content))
            return
        # The blocks of this delivery alone make the blob: their ids, all of one length, are made from its name.
        delivery = hashlib.sha256(write_id.encode()).hexdigest()[:16]

        async def send(number: int, part: bytes) -> str:
            block = b64encode(f"{delivery}-{number:06}".encode()).decode()
            query = {"comp": "block", "blockid": block}
            request = StoreRequest("PUT", self._path(key), query, {"Content-MD5": await content_md5(part)}, part)
            await self._send(request, "create and write (cw)")
            return block

        blocks = "".join(f"<Uncommitted>{block}</Uncommitted>" for block in await send_parts(file, send, MAX_BLOCKS))
        content = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()
        await self._send_new(StoreRequest("PUT", self._path(key), {"comp": "blocklist"}, headers, content))

    def get(self, key: str) -> AsyncGenerator[bytes, None]:
        def read_error(answer: StoreAnswer) -> DestinationError | DestinationUnavailableError:
            if code_of(answer) == "BlobNotFound":  # a write with this code may be tried again, a read may not
                return DestinationError(f"{self.address(key)} does not exist")
            return self._error(answer, "read (r)")

        return self.client.read(StoreRequest("GET", self._path(key)), read_error)

    async def delete(self, key: str) -> None:
        await self._send(StoreRequest("DELETE", self._path(key)), "delete (d)", {404})

    async def _send_new(self, request: StoreRequest) -> None:
        answer = await self._send(request, "create and write (cw)", {403, 409, 412})
        if not answer.is_success:
            code = code_of(answer)
            if code in EXISTS_CODES or (code == OVERWRITE_CODE and "If-None-Match" in request.headers):
                raise WriteConflictError("another blob was written or removed meanwhile")
            raise self._error(answer, "create and write (cw)")

    def _error(self, answer: StoreAnswer, right: str) -> DestinationError | DestinationUnavailableError:
        return error_of(answer, self._container, right)

    def _path(self, key: str) -> str:
        return key_path(self._base, key)
