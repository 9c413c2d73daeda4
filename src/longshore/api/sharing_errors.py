"""Errors below `/delta-sharing`: they have the shape of the Delta Sharing protocol in place of a problem's."""

from collections.abc import Sequence

import msgspec

from longshore.validation import Violation

PREFIX = "/delta-sharing"

CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
MALFORMED = "MALFORMED_REQUEST"
GONE = 410
"""The status of a result that was removed; for the protocol, its version does not exist."""


class SharingError(msgspec.Struct, frozen=True, rename="camel"):
    """The body of an error's answer."""

    error_code: str
    message: str


def is_sharing(path: str) -> bool:
    """Return whether a path is of the protocol. Profile files are not: they are the service's own."""
    return path.startswith(f"{PREFIX}/") and path.split("/", 3)[2] not in ("profile", "profiles")


def sharing_error(status: int, detail: str, violations: Sequence[Violation]) -> tuple[int, SharingError]:
    """Return status and body of an error's answer."""
    status = 404 if status == GONE else status
    named = [f"{each.parameter or each.pointer or 'the request'}: {each.detail}" for each in violations]
    in_body = any(each.pointer is not None for each in violations)
    code = MALFORMED if in_body and status == 400 else CODES.get(status, MALFORMED)
    return status, SharingError(code, "; ".join(named) or detail)
