"""The kind `s3`: Amazon S3, and what speaks its protocol."""

import contextlib
import ipaddress
from collections.abc import AsyncIterator

import httpx2
import msgspec

from longshore.destinations.http_client import HttpClient, check_endpoint
from longshore.destinations.kind import Kind
from longshore.destinations.object_kind import object_kind
from longshore.destinations.object_place import check_prefix
from longshore.destinations.s3_objects import S3Objects
from longshore.destinations.s3_settings import S3Secret, S3Settings
from longshore.destinations.s3_signature import S3Signer
from longshore.outbound import Network
from longshore.settings import Settings
from longshore.validation import Violation

NO_HOST = "expected true: this name of a bucket cannot stand before the host of the endpoint"


@contextlib.asynccontextmanager
async def _objects(settings: S3Settings, secret: S3Secret, allow: tuple[Network, ...]) -> AsyncIterator[S3Objects]:
    async with HttpClient(settings.address, allow, S3Signer(secret, settings.actual_region)) as client:
        yield S3Objects(client, settings)


def _check(settings: S3Settings, _secret: S3Secret, allow: tuple[Network, ...]) -> list[Violation]:
    violations = check_prefix(settings.prefix)
    if settings.kms_key_id and settings.encryption in (None, "AES256"):
        violations.append(Violation("needs encryption aws:kms or aws:kms:dsse", "/settings/kms_key_id"))
    if settings.endpoint and (problem := check_endpoint(settings.endpoint, allow)):
        violations.append(Violation(problem, "/settings/endpoint"))
    elif settings.path_style is False and not _fits_host(settings):
        violations.append(Violation(NO_HOST, "/settings/path_style"))
    return violations


def _fits_host(settings: S3Settings) -> bool:
    """Return whether an address of the bucket's name and the host of its service is this bucket's alone."""
    if settings.bucket != settings.bucket.lower():  # hosts have no capitals: it would be another bucket
        return False
    try:
        host = httpx2.URL(settings.address).host.removeprefix(f"{settings.bucket}.")
        ipaddress.ip_address(host)
    except httpx2.InvalidURL:
        return False
    except ValueError:  # a name
        return True
    return False


def s3(_: Settings) -> Kind:
    kind = object_kind(S3Settings, S3Secret, _objects, _check)
    return msgspec.structs.replace(
        kind,
        changeable_without_secret=frozenset({"prefix", "encryption", "kms_key_id"}),
        hidden=lambda secret: [secret.secret_access_key, secret.session_token],  # errors may name the key's id
    )
