"""The errors of the client. Every error derives from ClientError::

    ClientError
    ├── NoAnswerError          the service cannot be reached, or something else answered
    │   ├── NotSentError       no connection was made, so the service did not get the request
    │   └── LostError          the connection ended before the answer; the service may have acted on the request
    ├── WaitTimeoutError       the task has not ended in time
    ├── TaskFailedError        the task ended in another state than DONE
    ├── DownloadError          the download is not the result that the run recorded
    │   └── ExistsError        a file is in the way that must not be replaced
    ├── ArgumentError          an argument that no request can be made of; nothing was sent
    │   └── SegmentError       rules that the service would refuse
    ├── ProfileError           the profile does not exist or cannot be read
    └── ProblemError           the service answered with a problem (RFC 9457)
        ├── BadRequestError    400, 413, 415, 422
        ├── UnauthorizedError  401
        ├── ForbiddenError     403
        ├── NotFoundError      404
        ├── ConflictError      409
        └── GoneError          410

Each message is a sentence that says what is wrong.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from longshore.client.model import TaskData


class ClientError(Exception):
    """The root of all errors of the client. A call on a closed client raises it too."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from `args` alone, which the constructors of some classes do not take.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[ClientError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> ClientError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class NoAnswerError(ClientError):
    """The service cannot be reached, or something else answered. Transient causes were retried for `retry_for`."""


class NotSentError(NoAnswerError):
    """The service cannot have received the request."""


class LostError(NoAnswerError):
    """The connection ended before the answer did; the service may have acted on the request."""


class WaitTimeoutError(ClientError):
    """A task has not ended in time. It continues; wait again or cancel it."""


class DownloadError(ClientError):
    """There is no file to download, or the downloaded file is not the one that the run recorded."""


class ExistsError(DownloadError):
    """A file is in the way of a download that must not replace any."""


class ArgumentError(ClientError, ValueError):
    """An argument that no request can be made of. Nothing was sent."""


class SegmentError(ArgumentError):
    """Rules that the service would refuse."""


class ProfileError(ClientError):
    """The profile does not exist or cannot be read."""


# The entry after the one that says why a task failed, except where the last of its deliveries succeeded.
FAILED = re.compile(r"[A-Z]+ -> ERROR")
DELIVERED, NOT_DELIVERED = re.compile(r"delivered to "), re.compile(r"delivery to \S+ failed: ")


class TaskFailedError(ClientError):
    """A task ended in another state than DONE, or a delivery that was waited for failed.

    `task` is the task at its end, with its newest log entries.
    """

    def __init__(self, task: "TaskData", reason: str = "") -> None:
        reason = reason or _reason(task)
        super().__init__(f"task {task.id} is {task.state.code}" + (f": {reason}" if reason else ""))
        self.task = task


def _reason(task: "TaskData") -> str:
    """Return why a task ended in ERROR, from its newest log entries, oldest first; empty if they do not have it."""
    messages = [entry.msg for entry in task.logs]
    while messages and not FAILED.fullmatch(messages.pop()):
        pass
    if messages and DELIVERED.match(messages[-1]):
        messages = [message for message in messages if NOT_DELIVERED.match(message)]
    return messages[-1] if messages else ""


class Violation(msgspec.Struct, frozen=True):
    """One violation of a request: a JSON pointer into its body or the name of a parameter, and what was expected."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemError(ClientError):
    """The service answered with a problem. `request_id` identifies the request in the service's log."""

    def __init__(  # noqa: PLR0913 (the keys of a problem)
        self, *, type: str, title: str, status: int, detail: str, request_id: str, errors: Sequence[Violation] = ()
    ) -> None:
        violations = "; ".join(
            f"{violation.pointer or violation.parameter or 'request'}: {violation.detail}" for violation in errors
        )
        super().__init__(f"{title}: {violations or detail} (status {status}, request {request_id})")
        self.type = type
        self.title = title
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.errors = tuple(errors)


class BadRequestError(ProblemError):
    """The service refused the request; `errors` has all violations."""


class UnauthorizedError(ProblemError):
    """The token is unknown, has expired or was revoked."""


class ForbiddenError(ProblemError):
    """The token is valid, but its level is too low, or it is not for the chain."""


class NotFoundError(ProblemError):
    """The chain has no such task, run, segment or index."""


class ConflictError(ProblemError):
    """The state of the task does not allow this."""


class GoneError(ProblemError):
    """The result has expired or was deleted."""


NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError)
"""The errors for what is no JSON of the expected shape in UTF-8, is nested too deeply, or has a huge exponent."""

BY_STATUS: dict[int, type[ProblemError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: BadRequestError,
    415: BadRequestError,
    422: BadRequestError,
}


class _Body(msgspec.Struct):
    status: int
    type: str = "about:blank"
    title: str = "The request failed"
    detail: str = ""
    request_id: str = ""
    errors: list[Violation] | None = None


class _SharingBody(msgspec.Struct, rename="camel"):
    """The body of an error below `/delta-sharing/shares`, which is of the Delta Sharing protocol."""

    error_code: str
    message: str


def problem(status: int, body: bytes, request_id: str) -> ClientError:
    """Return the error for an unsuccessful answer. A body that is not a problem did not come from Longshore."""
    try:
        if b'"errorCode"' in body:
            fields = _Body(status, detail=msgspec.json.decode(body, type=_SharingBody).message)
        else:
            fields = msgspec.json.decode(body, type=_Body)
    except NOT_DECODED:
        return NoAnswerError(f"something other than Longshore answered with status {status}: {body[:200]!r}")
    return BY_STATUS.get(status, ProblemError)(
        type=fields.type,
        title=fields.title,
        status=status,
        detail=fields.detail,
        request_id=fields.request_id or request_id,
        errors=fields.errors or (),
    )
