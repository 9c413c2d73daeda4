"""The errors for answers of Google Cloud Storage: what is wrong, and the right that mends it.

https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

import re

import msgspec

from longshore.destinations.http_client import StoreAnswer
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.object_place import CredentialError

REASON = re.compile(r"[A-Za-z0-9]{1,80}")


def reason_of(answer: StoreAnswer) -> str:
    """Return the reason that an answer gives, such as `forbidden`; empty where there is none."""
    try:
        reason = msgspec.json.decode(answer.content)["error"]["errors"][0]["reason"]
    except (msgspec.MsgspecError, UnicodeError, LookupError, TypeError, RecursionError):
        return ""
    return reason if isinstance(reason, str) and REASON.fullmatch(reason) else ""


def error_of(answer: StoreAnswer, bucket: str, right: str) -> DestinationError | DestinationUnavailableError:
    """Return the error for an answer. Of its text only the reason is used. `right`: that the request needs."""
    reason, status = reason_of(answer), answer.status
    shown = reason or f"status {status}"
    if status == 401:
        return CredentialError(f"Google does not accept the service account's token ({shown})")
    if answer.is_transient_error or reason in ("rateLimitExceeded", "userRateLimitExceeded"):
        return DestinationUnavailableError(f"the service of the bucket {bucket} failed ({shown})")
    if reason in ("accountDisabled", "userProjectAccountProblem", "billingNotEnabled"):
        return DestinationError(f"the project of the bucket {bucket} is suspended or has no billing ({shown})")
    if reason in ("retentionPolicyNotMet", "objectUnderActiveHold"):
        return DestinationError(f"a retention policy of the bucket {bucket} keeps the file that lies there ({shown})")
    if status == 403:
        return DestinationError(f"the service account needs the permission {right} on the bucket {bucket} ({shown})")
    if status == 404:
        return DestinationError(f"the bucket {bucket} does not exist, or a file in it ({shown})")
    return DestinationError(f"the service of the bucket {bucket} refused a request that needs {right} ({shown})")
