"""Authorization of requests to Azure Blob Storage: a signature with the account's key, or a shared access signature.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
"""

import hmac
from base64 import b64encode
from email.utils import formatdate
from urllib.parse import parse_qsl

import msgspec

from longshore.destinations.http_client import Signer, StoreRequest

VERSION = "2021-12-02"
# The header fields whose values stand in the text that is signed, in this order.
SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


class KeySigner(Signer):
    """Signs requests with the key of an account."""

    def __init__(self, account: str, key: bytes) -> None:
        self._account = account
        self._key = key

    async def sign(self, request: StoreRequest) -> StoreRequest:
        headers = {**request.headers, "x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
        fields = {name.lower(): value for name, value in headers.items()}
        fields["content-length"] = str(len(request.content) or "")
        own = "".join(f"{name}:{fields[name]}\n" for name in sorted(fields) if name.startswith("x-ms-"))
        query = "".join(f"\n{name}:{request.query[name]}" for name in sorted(request.query))
        signed = "\n".join(fields.get(name, "") for name in SIGNED)
        text = f"{request.method}\n{signed}\n{own}/{self._account}{request.path}{query}"
        signature = b64encode(hmac.digest(self._key, text.encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {self._account}:{signature}"
        return msgspec.structs.replace(request, headers=headers)


class SasSigner(Signer):
    """Adds a shared access signature to requests."""

    def __init__(self, token: str) -> None:
        self._query = dict(parse_qsl(token.removeprefix("?"), keep_blank_values=True))

    async def sign(self, request: StoreRequest) -> StoreRequest:
        headers = {**request.headers, "x-ms-version": VERSION}
        return msgspec.structs.replace(request, headers=headers, query={**request.query, **self._query})
