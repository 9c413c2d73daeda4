"""Signed addresses: each allows the download of one file until it expires, like a presigned address of S3.

The signature is an HMAC-SHA256 of path, expiry and link. The key is created at the first start and stored in the
database, so all processes of a service use one key. The link is checked as well, see `links`.
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
from longshore.errors import ProblemError
from longshore.results.links import NewLink

KEY = """
with made as (
    insert into longshore.keys (name, value) values ('signing', $1) on conflict do nothing returning value
)
select value from made union all select value from longshore.keys where name = 'signing' limit 1
"""


async def signing_key(pool: Pool | Connection) -> bytes:
    """Return the service's key; it is created at the first start."""
    key = await pool.fetchval(KEY, secrets.token_bytes(32))
    if key is None:  # another process created it after this statement's snapshot
        key = await pool.fetchval("select value from longshore.keys where name = 'signing'")
    return bytes(key)


class DownloadSigner:
    """Signs and checks addresses."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, location: str, link: NewLink) -> str:
        """Return path and query of the address of a result, for as long as the link lasts."""
        expires = str(link.expires)
        signature = self._signature(location, expires, str(link.id))
        return f"/results/{quote(location)}?expires={expires}&link={link.id}&signature={signature}"

    def check(self, location: str, expires: str, link: str, signature: str) -> UUID:
        """Return the link of an address.

        Raises ProblemError if the signature is not of this location, link and expiry, or the expiry has passed.
        """
        is_valid = hmac.compare_digest(self._signature(location, expires, link).encode(), signature.encode())
        if not is_valid or not re.fullmatch(r"[0-9]{1,12}", expires) or int(expires) < time.time():
            raise ProblemError("bad-address")
        return UUID(link)

    def _signature(self, location: str, expires: str, link: str) -> str:
        digest = hmac.new(self._key, f"{location}\n{expires}\n{link}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
