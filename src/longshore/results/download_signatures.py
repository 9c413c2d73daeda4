"""Signatures of download addresses: HMAC-SHA256 of the file's location, the expiry and the id of the link.

The key is created at the first start and stored in the database, so all processes of a service use one key. Whether a
download may begin is for the link to say, see `links`.
"""

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote
from uuid import UUID

from longshore.database.connect import Connection, Pool
from longshore.errors import ProblemError
from longshore.results.links import NewLink

KEY = """
insert into longshore.keys (name, value) values ('signing', $1)
on conflict (name) do update set value = keys.value
returning value
"""


async def download_key(pool: Pool | Connection) -> bytes:
    """Return the key that download addresses are signed with; it is created at the first start."""
    return bytes(await pool.fetchval(KEY, secrets.token_bytes(32)))


class DownloadSigner:
    """Signs download addresses and checks their signatures."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, location: str, link: NewLink) -> str:
        """Return path and query of the address of the file at a location."""
        expires = str(link.expires)
        signature = self._signature(location, expires, str(link.id))
        return f"/results/{quote(location)}?expires={expires}&link={link.id}&signature={signature}"

    def check(self, location: str, expires: str, link: str, signature: str) -> UUID:
        """Return the id of the link. Raises ProblemError if the signature is not of this location, link and expiry.

        The expiry is not checked, as the clock of this machine may be wrong: `links` checks it by the database's.
        """
        if not hmac.compare_digest(self._signature(location, expires, link).encode(), signature.encode()):
            raise ProblemError("bad-address")
        return UUID(link)

    def _signature(self, location: str, expires: str, link: str) -> str:
        digest = hmac.new(self._key, f"{location}\n{expires}\n{link}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
