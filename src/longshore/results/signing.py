"""Signed addresses: whoever has one may fetch one file until it expires, as with an object store's presigned ones.

The signature is HMAC-SHA256 over path and expiry. The key is made at the first start and kept in the database, so that
every process of a service signs alike.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from urllib.parse import quote

from longshore.database.connect import Connection, Pool

LIFE = 3600  # seconds that an address is good for

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

    def sign(self, location: str) -> str:
        """The path and query under which a result may be fetched for the next LIFE seconds."""
        expires = str(int(time.time()) + LIFE)
        return f"/results/{quote(location)}?expires={expires}&signature={self._signature(location, expires)}"

    def check(self, location: str, expires: str, signature: str) -> None:
        """Raise BadSignatureError unless this very location was signed with this expiry, still to come."""
        good = hmac.compare_digest(self._signature(location, expires).encode(), signature.encode())
        if not good or not re.fullmatch(r"[0-9]{1,12}", expires) or int(expires) < time.time():
            raise BadSignatureError

    def _signature(self, location: str, expires: str) -> str:
        digest = hmac.new(self._key, f"{location}\n{expires}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
