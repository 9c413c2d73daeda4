"""Access tokens of a Google service account, for a signed assertion.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

import asyncio
import time
from functools import cached_property
from urllib.parse import urlencode

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from longshore.destinations.http_client import HttpClient, Signer, StoreAnswer, StoreRequest
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, SecretStruct
from longshore.destinations.object_place import CredentialError
from longshore.outbound import Network

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_SECONDS = 3600  # the longest that Google takes
MAX_KEY_CHARACTERS = 4_000  # an RSA key of 4096 bits has 3,300; the time to check a key grows with its size
EARLY_SECONDS = 300  # before its end, a token is replaced


class ServiceAccount(SecretStruct, frozen=True, dict=True):
    """A key file; its other fields are of no use here."""

    type: str
    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address

    def check_key(self) -> None:
        """Raise DestinationError if the private key cannot be read."""
        if len(self.private_key) > MAX_KEY_CHARACTERS:
            raise DestinationError("private_key of service_account is too large: 4096 bits at most")
        if self.key is None or not self.key.is_private:
            raise DestinationError("private_key of service_account is no RSA key in PEM")

    @cached_property
    def key(self) -> RSAKey | None:
        """Return the private key; None where it cannot be read."""
        try:
            return RSAKey.import_key(self.private_key)
        except (JoseError, ValueError, TypeError):
            return None


class Token(SecretStruct, frozen=True):
    """The answer with a token."""

    access_token: str
    expires_in: int = ASSERTION_SECONDS


class TokenError(msgspec.Struct, frozen=True):
    """The answer without a token (RFC 6749, section 5.2)."""

    error: str = ""


class TokenSigner(Signer):
    """Adds a token to requests, which it keeps until shortly before its end, or until it is refused."""

    def __init__(self, account: ServiceAccount, allow: tuple[Network, ...]) -> None:
        self._account = account
        self._allow = allow
        self._token = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def sign(self, request: StoreRequest) -> StoreRequest:
        """Return a request with a token. Raises DestinationError and DestinationUnavailableError."""
        async with self._lock:
            if time.monotonic() > self._until:
                token = await self._fetch()
                self._token = token.access_token
                self._until = time.monotonic() + token.expires_in - EARLY_SECONDS
        return request.with_headers(Authorization=f"Bearer {self._token}")

    def renew(self, answer: StoreAnswer) -> bool:
        # The clock does not go on while a machine is suspended, and keys are replaced.
        self._until = 0.0 if answer.status == 401 else self._until
        return answer.status == 401

    async def _fetch(self) -> Token:
        assertion = await asyncio.to_thread(self._assertion)
        content = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with HttpClient(self._account.token_uri, self._allow, _Unsigned()) as client:
            answer = await client.send(StoreRequest("POST", client.path, headers=headers, content=content))
        try:
            if answer.is_success:
                return msgspec.json.decode(answer.content, type=Token)
            error = msgspec.json.decode(answer.content, type=TokenError).error
        except (msgspec.MsgspecError, UnicodeError):
            error = ""
        if answer.is_transient_error or answer.is_success:
            raise DestinationUnavailableError(f"{client.netloc} gives no access token (status {answer.status})")
        if error == "invalid_grant":
            raise CredentialError(
                "the service account or its key is deleted or disabled, or this machine's clock is wrong "
                "(invalid_grant)"
            )
        raise CredentialError(f"{client.netloc} refuses the service account (status {answer.status})")

    def _assertion(self) -> str:
        """Return a signed JSON Web Token (RFC 7523)."""
        now = int(time.time())
        account = self._account
        claims = {
            "iss": account.client_email, "scope": SCOPE, "aud": account.token_uri,
            "iat": now, "exp": now + ASSERTION_SECONDS,
        }  # fmt: skip
        assert account.key is not None, "checked when the account was read"
        return jwt.encode({"alg": "RS256", "kid": account.private_key_id}, claims, account.key, algorithms=["RS256"])


class _Unsigned(Signer):
    async def sign(self, request: StoreRequest) -> StoreRequest:
        return request
