"""The kind `az`: Azure Blob Storage."""

import contextlib
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from msgspec import Meta

from longshore.destinations.az_objects import AzureObjects
from longshore.destinations.az_signature import KeySigner, SasSigner
from longshore.destinations.http_client import HttpClient, Signer
from longshore.destinations.kind import VISIBLE, DestinationError, Kind, SecretStruct
from longshore.destinations.object_kind import object_kind
from longshore.destinations.object_place import Prefix, check_prefix
from longshore.outbound import Network
from longshore.settings import Settings
from longshore.validation import Violation

ENDPOINT = "https://{account}.blob.core.windows.net"


class AzSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the container is."""

    account: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]{3,24}\Z", description="Name of the storage account.",
            extra={"expected": "3 to 24 small letters and digits"},
        ),
    ]  # fmt: skip
    container: Annotated[
        str,
        Meta(
            pattern=r"^(\$root|\$web|[a-z0-9]([a-z0-9-]{1,61})[a-z0-9])\Z", description="Name of the container.",
            extra={"expected": "3 to 63 small letters, digits and hyphens"},
        ),
    ]  # fmt: skip
    prefix: Prefix = ""


class AzSecret(SecretStruct, frozen=True, forbid_unknown_fields=True):
    """A key of the account, or a shared access signature."""

    account_key: Annotated[
        str, Meta(pattern=r"^[\x21-\x7e]{0,200}\Z", description="Either of the account's two keys.", extra=VISIBLE)
    ] = ""
    sas_token: Annotated[
        str,
        Meta(
            pattern=r"^[\x21-\x7e]{0,2000}\Z",
            description="A shared access signature, such as sv=…&sig=….",
            extra=VISIBLE,
        ),
    ] = ""


def az_kind(endpoint: str = ENDPOINT) -> Kind:
    """Return the kind. `endpoint`: address of an account's blobs."""

    @contextlib.asynccontextmanager
    async def objects(
        settings: AzSettings, secret: AzSecret, allow: tuple[Network, ...]
    ) -> AsyncIterator[AzureObjects]:
        if secret.sas_token:
            signer: Signer = SasSigner(secret.sas_token)
        else:
            signer = KeySigner(settings.account, _key(secret.account_key))
        async with HttpClient(endpoint.format(account=settings.account), allow, signer) as client:
            yield AzureObjects(client, settings.account, settings.container)

    return object_kind(AzSettings, AzSecret, objects, _check)


def _check(settings: AzSettings, secret: AzSecret, _allow: tuple[Network, ...]) -> list[Violation]:
    violations = check_prefix(settings.prefix)
    if bool(secret.account_key) == bool(secret.sas_token):
        violations.append(Violation("expected an account_key or a sas_token", "/secret"))
    elif secret.account_key:
        try:
            _key(secret.account_key)
        except DestinationError as error:
            violations.append(Violation(str(error), "/secret/account_key"))
    elif "sig=" not in secret.sas_token or secret.sas_token.startswith("http"):
        violations.append(Violation("expected a token such as sv=…&sig=…, without the address", "/secret/sas_token"))
    return violations


def _key(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise DestinationError("account_key is not a key in Base64, as the portal shows it") from None


def az(_: Settings) -> Kind:
    return az_kind()
