"""The errors for answers of Azure Blob Storage: what is wrong, and the right or the setting that mends it.

https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
"""

import re

from longshore.destinations.http_client import StoreAnswer
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.object_place import CredentialError

CODE = re.compile(r"[A-Za-z0-9]{1,80}")

CREDENTIALS = {
    "AuthenticationFailed": "account_key is no key of the account, or sas_token is wrong, has expired or begins later",
    "InvalidAuthenticationInfo": "account_key or sas_token is not in the form that Azure issues",
    "NoAuthenticationInformation": "account_key or sas_token is not in the form that Azure issues",
    "KeyBasedAuthenticationNotPermitted": "the account does not allow its keys; use a sas_token of a user",
    "AccountIsDisabled": "the account is disabled",
    "AuthorizationProtocolMismatch": "sas_token is not for https",
    "AuthorizationSourceIPMismatch": "sas_token is for other addresses than that of this service",
}
RIGHTS = {
    "AuthorizationPermissionMismatch", "AuthorizationResourceTypeMismatch", "AuthorizationServiceMismatch",
    "InsufficientAccountPermissions",
}  # fmt: skip
TRANSIENT_CODES = {
    "ServerBusy", "OperationTimedOut", "InternalError", "ContainerBeingDeleted",
    # Blocks are missing or damaged; another try writes them anew.
    "InvalidBlockList", "Md5Mismatch", "BlobNotFound",
}  # fmt: skip


def code_of(answer: StoreAnswer) -> str:
    """Return the code of an error, such as `ContainerNotFound`; empty where there is none."""
    code = answer.headers.get("x-ms-error-code", "")
    return code if CODE.fullmatch(code) else ""


def error_of(answer: StoreAnswer, container: str, right: str) -> DestinationError | DestinationUnavailableError:
    """Return the error for an answer. Of its text only the code is used, as the rest may hold what was signed.

    `right`: the permission that the request needs.
    """
    code, status = code_of(answer), answer.status
    shown = code or f"status {status}"
    if code in CREDENTIALS:
        return CredentialError(f"{CREDENTIALS[code]} ({shown})")
    if code == "AuthorizationFailure" or (status == 403 and not code):
        return DestinationError(
            f"account_key is wrong, or sas_token lacks the permission {right} or has expired, or the network rules of "
            f"the account refuse this service ({shown})"
        )
    if code in RIGHTS or status == 403:
        return DestinationError(f"sas_token lacks the permission {right} on the container {container} ({shown})")
    if code == "ContainerNotFound":
        return DestinationError(f"the container {container} does not exist ({shown})")
    if code in TRANSIENT_CODES or answer.is_transient_error:
        return DestinationUnavailableError(f"the service of the container {container} failed ({shown})")
    if code == "InvalidBlobOrBlock":  # ids of another length, until Azure removes those blocks after a week
        return DestinationError(
            f"another program has begun to upload the same file to the container {container}; complete or delete that "
            f"upload, or deliver to another path ({shown})"
        )
    if code.startswith("BlobImmutable"):
        return DestinationError(f"a policy of the container {container} keeps the file that lies there ({shown})")
    if code.startswith("Lease"):
        return DestinationError(f"another program holds a lease on the file in the container {container} ({shown})")
    return DestinationError(f"the container {container} refused a request that needs {right} ({shown})")
