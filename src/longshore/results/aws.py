"""Credentials, region and endpoint of S3 from AWS's standard chain, and the errors for answers of S3.

obstore and botocore both send requests to the bucket, and obstore by itself reads only the environment. So botocore's
chain is used for both: environment, `AWS_PROFILE` with `~/.aws`, web identity, containers, machine roles.
https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

import math
import os
import re
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from longshore.results.store import StoreError, StoreUnavailableError

CREDENTIAL_SECONDS = 60  # after which obstore asks for credentials again; botocore refreshes those that end
DEFAULT_REGION = "us-east-1"
DEFAULT_DOMAIN = "amazonaws.com"
# By the beginning of a region: https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
DOMAINS = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}
EQUAL_PARTS = re.compile(r"\.r2\.cloudflarestorage\.com(?:[:/]|$)", re.IGNORECASE)
"""In addresses of stores that want parts of one size: https://developers.cloudflare.com/r2/objects/multipart-objects/"""

TRANSIENT_STATUS = {408, 429}  # and all from 500 on
TRANSIENT_CODES = {
    "RequestTimeout", "PriorRequestNotComplete", "OperationAborted", "SlowDown", "ServiceUnavailable", "InternalError",
}  # fmt: skip
# An upload was aborted, or bytes were damaged on their way; another attempt sends them again.
LOST_CODES = {"NoSuchUpload", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
BUCKET_CODES = {"NoSuchBucket", "ContainerNotFound"}
REGION_CODES = {
    "PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}  # fmt: skip
CREDENTIAL_CODES = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}
NO_CREDENTIALS = "there are no credentials for the results store; set AWS_ACCESS_KEY_ID, AWS_PROFILE or a role"
UNAVAILABLE = "the results store is out of reach or failed"


class S3Credentials:
    """Credentials, region and endpoint of S3, as the environment configures them. Raises StoreError if it is wrong."""

    def __init__(self) -> None:
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        try:
            self._session = get_session()
            profile: dict[str, Any] = self._session.get_scoped_config()
            region = os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
        except BotoCoreError as error:
            raise StoreError(f"results_url cannot be used: {error}") from error
        self.region = str(region or DEFAULT_REGION)
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        endpoint = next(filter(None, map(os.environ.get, names)), None) or profile.get("endpoint_url")
        self.endpoint: str | None = endpoint
        self.needs_equal_parts = EQUAL_PARTS.search(endpoint or "") is not None
        self.is_signing = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() not in ("1", "true")
        self._renewal = datetime.min.replace(tzinfo=UTC)  # when obstore asks for credentials again
        self._end = math.inf  # of those that obstore has, in seconds since 1970

    def client(self, config: Any) -> Any:
        """Return a client of botocore for S3. `config`: its `Config`."""
        return self._session.create_client("s3", region_name=self.region, endpoint_url=self.endpoint, config=config)

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of obstore's S3Store for the same bucket."""
        options: dict[str, Any] = {"region": self.region}
        endpoint = self.endpoint or service_address(self.region)
        if self.endpoint or not endpoint.endswith(f".{DEFAULT_DOMAIN}"):  # obstore by itself knows this domain alone
            options["endpoint"] = endpoint
        if self.is_signing:
            options["credential_provider"] = self.credentials
        return options

    def credentials(self) -> dict[str, Any]:
        """Return credentials in the form of obstore. Blocking. Raises StoreError."""
        from botocore.exceptions import BotoCoreError, CredentialRetrievalError, MetadataRetrievalError

        try:
            if self._credentials is None:
                raise StoreError(NO_CREDENTIALS)
            frozen = self._credentials.get_frozen_credentials()
        except (CredentialRetrievalError, MetadataRetrievalError) as error:
            raise StoreUnavailableError(
                "the credentials for the results store are not available at the moment"
            ) from error
        except BotoCoreError as error:
            raise StoreError(f"the credentials for the results store cannot be used: {error}") from error
        # botocore has no public attribute for it; only temporary credentials have this one.
        expiry: datetime | None = getattr(self._credentials, "_expiry_time", None)
        self._end = math.inf if expiry is None else expiry.timestamp()
        self._renewal = datetime.now(UTC) + timedelta(seconds=CREDENTIAL_SECONDS)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": self._renewal,
        }

    @property
    def end(self) -> float:
        """Return when the credentials that obstore has end, in seconds since 1970, or infinity. Blocking.

        obstore keeps them for CREDENTIAL_SECONDS, so botocore may have newer ones. Raises StoreError.
        """
        if self.is_signing and self._renewal <= datetime.now(UTC):
            self.credentials()
        return self._end

    @cached_property
    def _credentials(self) -> Any:
        return self._session.get_credentials()


def service_address(region: str) -> str:
    """Return the address of Amazon's S3 in a region."""
    domain = next((domain for prefix, domain in DOMAINS.items() if region.startswith(prefix)), DEFAULT_DOMAIN)
    return f"https://s3.{region}.{domain}"


def is_retryable(status: int | None, code: str) -> bool:
    """Return whether a retry of the same request may succeed.

    `status`: of the answer; None without one. `code`: of its XML, or empty.
    """
    return (
        (status is None and not code) or (status or 0) >= 500 or status in TRANSIENT_STATUS or code in TRANSIENT_CODES
    )


def error_of(status: int | None, code: str) -> StoreError:
    """Return the error for an answer of the store. Its message names no bucket and no key, as clients read it."""
    shown = code if code and not code.isdigit() else f"status {status}"
    if code in BUCKET_CODES:
        return StoreError("the bucket for results does not exist")
    if code == "ExpiredToken":
        return StoreError(f"the service's credentials for the results store have expired ({shown})")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"the clocks of the service and the results store differ too much ({shown})")
    if code in REGION_CODES or status in (301, 307):
        return StoreError(f"the bucket for results is in another region; set AWS_REGION ({shown})")
    if is_retryable(status, code) or code in LOST_CODES or code == "NoSuchKey" or status == 404:
        return StoreUnavailableError(UNAVAILABLE)
    if code == "InvalidPart":  # also of a part that was replaced by a late one, which another attempt mends
        return StoreUnavailableError(f"the results store refused the parts of an upload ({shown})")
    if code in CREDENTIAL_CODES or status in (401, 403):
        return StoreError(f"the results store refused the service's credentials ({shown})")
    return StoreError(f"the results store refused a request ({shown})")
