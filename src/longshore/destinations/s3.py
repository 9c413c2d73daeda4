"""The kind `s3`: Amazon S3, and what speaks its protocol."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import httpx2
import msgspec
from msgspec import Meta

from longshore.destinations.http_client import HttpClient, check_endpoint
from longshore.destinations.kind import VISIBLE, Kind, Redacted
from longshore.destinations.object_kind import object_kind
from longshore.destinations.object_place import Prefix, check_prefix
from longshore.destinations.s3_objects import Bucket, S3Objects
from longshore.destinations.s3_signature import Keys, Signer
from longshore.outbound import Network
from longshore.settings import Settings
from longshore.validation import Violation

DEFAULT_REGION = "us-east-1"


class S3Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the bucket is, and how its objects are encrypted."""

    bucket: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,62}\Z", description="Name of the bucket.",
            extra={"expected": "3 to 63 letters, digits, dots, hyphens and underscores"},
        ),
    ]  # fmt: skip
    prefix: Prefix = ""
    region: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9-]{0,40}\Z", description="Region of the bucket; us-east-1 where it is empty.",
            extra={"expected": "a region such as eu-west-1"},
        ),
    ] = ""  # fmt: skip
    endpoint: Annotated[
        str,
        Meta(max_length=500, description="Address of the service, such as https://minio.example.com; Amazon's of the "
        "region where it is empty."),
    ] = ""  # fmt: skip
    encryption: Annotated[
        Literal["AES256", "aws:kms", "aws:kms:dsse"] | None,
        Meta(description="Encryption of new objects; the bucket's own where it is null."),
    ] = None
    kms_key_id: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9:/_-]{0,300}\Z", description="Id or ARN of the key, with aws:kms and aws:kms:dsse.",
            extra={"expected": "the id or ARN of a key"},
        ),
    ] = ""  # fmt: skip
    path_style: Annotated[
        bool | None,
        Meta(description="Whether the bucket stands in the path of addresses and not in the host name; where it is "
        "null, it does with an endpoint, and where its name has dots."),
    ] = None  # fmt: skip


class S3Secret(Redacted, frozen=True, forbid_unknown_fields=True):
    """An access key, of a user or of a role for a while."""

    access_key_id: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,200}\Z", extra=VISIBLE)]
    secret_access_key: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,500}\Z", extra=VISIBLE)]
    session_token: Annotated[
        str, Meta(pattern=r"^[\x21-\x7e]{0,8000}\Z", description="Of temporary credentials.", extra=VISIBLE)
    ] = ""


def address_in(settings: S3Settings) -> str:
    """Return the address of a bucket, whose name stands in the host or in the path."""
    region = settings.region or DEFAULT_REGION
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    service = httpx2.URL(settings.endpoint or f"https://s3.{region}.{domain}")
    in_path = settings.path_style
    if in_path is None:
        in_path = bool(settings.endpoint) or "." in settings.bucket
    if in_path:
        return str(service.copy_with(path=f"{service.path.rstrip('/')}/{settings.bucket}"))
    return str(service.copy_with(host=f"{settings.bucket}.{service.host}"))


@contextlib.asynccontextmanager
async def _objects(settings: S3Settings, secret: S3Secret, allow: tuple[Network, ...]) -> AsyncIterator[S3Objects]:
    region = settings.region or DEFAULT_REGION
    signer = Signer(Keys(secret.access_key_id, secret.secret_access_key, secret.session_token, region))
    bucket = Bucket(settings.bucket, settings.encryption or "", settings.kms_key_id)
    async with HttpClient(address_in(settings), allow, signer) as client:
        yield S3Objects(client, bucket, signer)


def _check(settings: S3Settings, _secret: S3Secret, allow: tuple[Network, ...]) -> list[Violation]:
    violations = check_prefix(settings.prefix)
    if settings.kms_key_id and settings.encryption in (None, "AES256"):
        violations.append(Violation("needs encryption aws:kms or aws:kms:dsse", "/settings/kms_key_id"))
    if settings.endpoint and (problem := check_endpoint(settings.endpoint, allow)):
        violations.append(Violation(problem, "/settings/endpoint"))
    return violations


def s3(_: Settings) -> Kind:
    """Return the kind."""
    kind = object_kind(S3Settings, S3Secret, _objects, _check)
    return msgspec.structs.replace(kind, changeable_without_secret=frozenset({"prefix", "encryption", "kms_key_id"}))
