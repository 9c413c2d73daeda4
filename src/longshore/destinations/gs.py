"""The kind `gs`: Google Cloud Storage."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from longshore.destinations.gs_objects import GoogleObjects
from longshore.destinations.gs_token import ServiceAccount, TokenSigner
from longshore.destinations.http_client import HttpClient, check_endpoint
from longshore.destinations.kind import DestinationError, Kind, SecretStruct
from longshore.destinations.object_kind import object_kind
from longshore.destinations.object_place import Prefix, check_prefix
from longshore.outbound import Network
from longshore.settings import Settings
from longshore.validation import Violation

ENDPOINT = "https://storage.googleapis.com"


class GsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the bucket is."""

    bucket: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z", description="Name of the bucket.",
            extra={"expected": "3 to 222 small letters, digits, dots, hyphens and underscores"},
        ),
    ]  # fmt: skip
    prefix: Prefix = ""


class GsSecret(SecretStruct, frozen=True, forbid_unknown_fields=True):
    """A service account."""

    service_account: Annotated[
        dict[str, Any] | Annotated[str, Meta(max_length=20_000)],
        Meta(
            description="The key file of the service account: its JSON, as an object or as text.",
            extra_json_schema={"format": "textarea"},
        ),
    ]


def gs_kind(endpoint: str = ENDPOINT) -> Kind:
    """Return the kind. `endpoint`: address of the service."""

    @contextlib.asynccontextmanager
    async def objects(
        settings: GsSettings, secret: GsSecret, allow: tuple[Network, ...]
    ) -> AsyncIterator[GoogleObjects]:
        signer = TokenSigner(await asyncio.to_thread(_account, secret), allow)
        async with HttpClient(endpoint, allow, signer) as client:
            yield GoogleObjects(client, settings.bucket)

    kind = object_kind(GsSettings, GsSecret, objects, _check)
    return msgspec.structs.replace(kind, hidden=_hidden)


def _check(settings: GsSettings, secret: GsSecret, allow: tuple[Network, ...]) -> list[Violation]:
    violations = check_prefix(settings.prefix)
    try:
        account = _account(secret)
    except DestinationError as error:
        return [*violations, Violation(str(error), "/secret/service_account")]
    if problem := check_endpoint(account.token_uri, allow):
        violations.append(Violation(f"token_uri: {problem}", "/secret/service_account"))
    return violations


def _account(secret: GsSecret) -> ServiceAccount:
    """Return the service account. Raises DestinationError, whose message holds no part of it."""
    account = _parsed(secret)
    if account.type != "service_account":
        # Other types name files, programs or addresses to get credentials from.
        raise DestinationError('service_account must be a key file with "type": "service_account"')
    account.check_key()
    return account


def _parsed(secret: GsSecret) -> ServiceAccount:
    try:
        if isinstance(secret.service_account, str):
            return msgspec.json.decode(secret.service_account, type=ServiceAccount)
        return msgspec.convert(secret.service_account, ServiceAccount)
    except (msgspec.MsgspecError, UnicodeError):
        raise DestinationError("service_account is not the JSON of a service account's key file") from None


def _hidden(secret: GsSecret) -> list[str] | GsSecret:
    """Return the key of the service account and its id: the rest, such as `universe_domain`, is in useful errors."""
    try:
        account = _parsed(secret)
    except DestinationError:
        return secret
    return [account.private_key, account.private_key_id]


def gs(_: Settings) -> Kind:
    return gs_kind()
