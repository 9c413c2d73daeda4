"""The bucket of an S3 destination and the key to it: what a client sends."""

import re
from typing import Annotated, Literal

import httpx2
import msgspec
from msgspec import Meta

from longshore.destinations.kind import VISIBLE, SecretStruct
from longshore.destinations.object_place import Prefix
from longshore.results.aws import DEFAULT_REGION, service_address


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
        "null, it does with an endpoint, and where its name has capitals, dots or underscores."),
    ] = None  # fmt: skip

    @property
    def actual_region(self) -> str:
        return self.region or DEFAULT_REGION

    @property
    def address(self) -> str:
        """The address of the bucket, whose name stands in the host or in the path. Raises httpx2.InvalidURL."""
        service = httpx2.URL(self.endpoint or service_address(self.actual_region))
        in_path = self.path_style
        if in_path is None:
            in_path = bool(self.endpoint) or re.search(r"[A-Z._]", self.bucket) is not None
        if in_path:
            return str(service.copy_with(path=f"{service.path.rstrip('/')}/{self.bucket}"))
        return str(service.copy_with(host=f"{self.bucket}.{service.host}"))

    @property
    def encryption_headers(self) -> dict[str, str]:
        """The header fields for the encryption of a new object."""
        headers = {
            "x-amz-server-side-encryption": self.encryption or "",
            "x-amz-server-side-encryption-aws-kms-key-id": self.kms_key_id,
        }
        return {name: value for name, value in headers.items() if value}


class S3Secret(SecretStruct, frozen=True, forbid_unknown_fields=True):
    """An access key, of a user or of a role for a while."""

    access_key_id: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,200}\Z", extra=VISIBLE)]
    secret_access_key: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,500}\Z", extra=VISIBLE)]
    session_token: Annotated[
        str, Meta(pattern=r"^[\x21-\x7e]{0,8000}\Z", description="Of temporary credentials.", extra=VISIBLE)
    ] = ""
