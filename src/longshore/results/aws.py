"""Credentials, region and endpoint of S3, from the standard chain of AWS, and what an answer of S3 means.

obstore and botocore both speak to the bucket, and obstore alone reads only the environment. So botocore's chain decides
for both: environment, `AWS_PROFILE` with `~/.aws`, web identity, containers, machine roles.
https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

import os
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from longshore.results.store import StoreError, StoreUnavailableError

CREDENTIAL_SECONDS = 60  # after which obstore asks for credentials again; botocore refreshes those that end
DEFAULT_REGION = "us-east-1"

TRANSIENT_STATUS = {408, 429}  # beside all from 500 on
TRANSIENT_CODES = {"RequestTimeout", "PriorRequestNotComplete", "OperationAborted"}  # with other statuses
# What an attempt wrote is gone, or has arrived damaged: another attempt begins anew.
LOST_CODES = {"NoSuchUpload", "NoSuchKey", "BadDigest", "IncompleteBody", "InvalidPart", "XAmzContentSHA256Mismatch"}
BUCKET_CODES = {"NoSuchBucket", "ContainerNotFound"}
REGION_CODES = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
CREDENTIAL_CODES = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}
NO_CREDENTIALS = "there are no credentials for the results store; set AWS_ACCESS_KEY_ID, AWS_PROFILE or a role"
AWAY = "the results store is out of reach or failed"


class Access:
    """How the environment lets this process speak to S3. Raises StoreError where its settings are wrong."""

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
        found = next(filter(None, map(os.environ.get, names)), None) or profile.get("endpoint_url")
        self.endpoint: str | None = found

    def client(self, config: Any) -> Any:
        """A client of botocore's for S3. `config`: its `Config`."""
        return self._session.create_client("s3", region_name=self.region, endpoint_url=self.endpoint, config=config)

    @property
    def options(self) -> dict[str, Any]:
        """The options of obstore's S3Store that make it use the same."""
        options: dict[str, Any] = {"region": self.region}
        if self.endpoint:
            options["endpoint"] = self.endpoint
        if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() not in ("1", "true"):
            options["credential_provider"] = self.credentials
        return options

    def credentials(self) -> dict[str, Any]:
        """Credentials as obstore wants them. Blocking. Raises StoreError and StoreUnavailableError."""
        from botocore.exceptions import BotoCoreError, CredentialRetrievalError, MetadataRetrievalError

        try:
            if self._credentials is None:
                raise StoreError(NO_CREDENTIALS)
            found = self._credentials.get_frozen_credentials()
        except (CredentialRetrievalError, MetadataRetrievalError) as error:
            raise StoreUnavailableError("the credentials for the results store cannot be had just now") from error
        except BotoCoreError as error:
            raise StoreError(f"the credentials for the results store cannot be used: {error}") from error
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIAL_SECONDS),
        }

    @cached_property
    def _credentials(self) -> Any:
        return self._session.get_credentials()


def is_not_now(status: int | None, code: str) -> bool:
    """Whether the same request may do better in a moment.

    `status`: of the answer, None where none came. `code`: of its XML, or empty.
    """
    return (
        (status is None and not code) or (status or 0) >= 500 or status in TRANSIENT_STATUS or code in TRANSIENT_CODES
    )


def error_of(status: int | None, code: str) -> StoreError | StoreUnavailableError:
    """The error for an answer of the store. Its message names no bucket and no key, as clients read it."""
    shown = code if code and not code.isdigit() else f"status {status}"
    if code in BUCKET_CODES:
        return StoreError("the bucket for results does not exist")
    if code == "ExpiredToken":
        return StoreError(f"the service's credentials for the results store have expired ({shown})")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"the clocks of the service and the results store differ too much ({shown})")
    if code in REGION_CODES or status in (301, 307):
        return StoreError(f"the bucket for results is in another region; set AWS_REGION ({shown})")
    if is_not_now(status, code) or code in LOST_CODES or status == 404:
        return StoreUnavailableError(AWAY)
    if code in CREDENTIAL_CODES or status in (401, 403):
        return StoreError(f"the results store refused the service's credentials ({shown})")
    return StoreError(f"the results store refused a request ({shown})")
