"""Signed addresses: whoever has one may fetch one file until it expires, as with an object store's presigned ones.

The signature is HMAC-SHA256 over path, expiry and link. The key is made at the first start and kept in the database, so
that every process of a service signs alike. What the database says of the link comes on top, see `links`.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from urllib.parse import quote
from uuid import UUID

from longshore.database.connect import Connection, Pool
from longshore.results.links import NewLink

KEY = """
with made as (
    insert into longshore.keys (name, value) values ('signing', $1) on conflict do nothing returning value
)
select value from made union all select value from longshore.keys where name = 'signing' limit 1
"""


class BadSignatureError(Exception):
    """The address was changed, or its time is over."""


async def signing_key(pool: Pool | Connection) -> bytes:
    """The service's key, made now if this is its first start."""
    key = await pool.fetchval(KEY, secrets.token_bytes(32))
    if key is None:  # somebody else made it between the two halves of the statement
        key = await pool.fetchval("select value from longshore.keys where name = 'signing'")
    return bytes(key)


class Signer:
    """Signs paths and checks what comes back."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, location: str, link: NewLink) -> str:
        """The path and query under which a result may be fetched as long as the link lasts."""
        expires = str(link.expires)
        signature = self._signature(location, expires, str(link.id))
        return f"/results/{quote(location)}?expires={expires}&link={link.id}&signature={signature}"

    def check(self, location: str, expires: str, link: str, signature: str) -> UUID:
        """The link of an address.

        Raises BadSignatureError unless this very location and link were signed with this expiry, still to come.
        """
        good = hmac.compare_digest(self._signature(location, expires, link).encode(), signature.encode())
        if not good or not re.fullmatch(r"[0-9]{1,12}", expires) or int(expires) < time.time():
            raise BadSignatureError
        return UUID(link)

    def _signature(self, location: str, expires: str, link: str) -> str:
        digest = hmac.new(self._key, f"{location}\n{expires}\n{link}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
