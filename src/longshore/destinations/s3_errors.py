"""The errors for answers of S3: what is wrong, and the right or the setting that mends it.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import re

from longshore.destinations.http_client import StoreAnswer
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.object_place import CredentialError
from longshore.results import aws

MAX_ERROR_BYTES = 4096  # in which the code stands; the pattern takes a time that grows with their square
CODE = re.compile(rb"<Error\b[^>]*>.*?<Code>([A-Za-z0-9._]{1,80})</Code>", re.DOTALL)
REGION = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")

CREDENTIALS = {
    "InvalidAccessKeyId": "there is no access key with this access_key_id",
    "SignatureDoesNotMatch": "secret_access_key does not belong to access_key_id",
    "InvalidToken": "session_token is not valid",
    "ExpiredToken": "session_token has expired; temporary credentials end by themselves",
    "TokenRefreshRequired": "session_token has expired; temporary credentials end by themselves",
    "InvalidClientTokenId": "there is no access key with this access_key_id",
    "AccountProblem": "the account of the access key is closed or suspended",
    "NotSignedUp": "the account of the access key has no S3",
}
FULL_CODES = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity", "EDQUOT"}
TRANSIENT_CODES = {
    *aws.TRANSIENT_CODES, *aws.LOST_CODES, "InvalidPart", "InvalidPartOrder", "RequestTimeTooSkewed",
    "ConditionalRequestConflict",
}  # fmt: skip


def code_of(answer: StoreAnswer) -> str:
    """Return the code of an error, such as `AccessDenied`; empty where there is none."""
    found = CODE.search(answer.content.lstrip()[:MAX_ERROR_BYTES])
    return found[1].decode() if found else ""


def error_of(answer: StoreAnswer, bucket: str, right: str) -> DestinationError | DestinationUnavailableError:
    """Return the error for an answer. Of its text only the code is used, as the rest may hold what was signed.

    `right`: that the request needs.
    """
    code, status = code_of(answer), answer.status
    shown = code or f"status {status}"
    if code in CREDENTIALS:
        return CredentialError(f"{CREDENTIALS[code]} ({shown})")
    if code == "NoSuchBucket":
        return DestinationError(f"the bucket {bucket} does not exist ({shown})")
    if code in aws.REGION_CODES or status in (301, 302, 307, 308):
        return DestinationError(_other_region(answer, bucket, shown))
    if code in FULL_CODES or status == 507:
        return DestinationUnavailableError(
            f"the bucket {bucket} or its server is full, or its quota is used up ({shown})"
        )
    if code.startswith("KMS."):
        return DestinationError(
            f"the encryption key kms_key_id cannot be used ({shown}); grant kms:GenerateDataKey and kms:Decrypt"
        )
    if code in TRANSIENT_CODES or answer.is_transient_error:
        return DestinationUnavailableError(f"the service of the bucket {bucket} failed ({shown})")
    if status == 401:
        return CredentialError(f"the service of the bucket {bucket} refused the access key ({shown})")
    if code == "InvalidObjectState":
        return DestinationError(
            f"the file that lies in the bucket {bucket} is archived and cannot be compared: restore it, or deliver to"
            f" another path ({shown})"
        )
    if status == 403:
        return DestinationError(f"the access key needs the right {right} on the bucket {bucket} ({shown})")
    if status == 404:
        return DestinationError(f"the bucket {bucket} or a file in it does not exist ({shown})")
    return DestinationError(f"the service of the bucket {bucket} refused a request that needs {right} ({shown})")


def _other_region(answer: StoreAnswer, bucket: str, shown: str) -> str:
    found = REGION.search(answer.content)
    region = found[1].decode() if found else answer.headers.get("x-amz-bucket-region", "")
    if re.fullmatch(r"[a-z0-9-]{1,40}", region):
        return f'the bucket {bucket} is in the region {region}; set "region" to it ({shown})'
    return f'the bucket {bucket} is in another region or at another address; set "region" or "endpoint" ({shown})'
