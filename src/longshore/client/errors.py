"""What can go wrong for a client. Every error derives from ClientError::

    ClientError
    ├── NoAnswerError          the service could not be reached, or did not answer as itself
    ├── WaitTimeoutError       the task has not ended in the time given
    ├── TaskFailedError        the task ended, and not in DONE
    ├── DownloadError          what arrived is not what the run recorded
    ├── SegmentError           rules that the service would refuse
    ├── ProfileError           no such profile, or one that cannot be read
    └── ProblemError           the service answered with a problem (RFC 9457)
        ├── BadRequestError    400, 413, 415, 422
        ├── UnauthorizedError  401
        ├── ForbiddenError     403
        ├── NotFoundError      404
        ├── ConflictError      409
        └── GoneError          410

Their messages are sentences for people.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from longshore.client.model import TaskData


class ClientError(Exception):
    """The root of all errors of the client; the message is a sentence that says what is wrong."""


class NoAnswerError(ClientError):
    """The service could not be reached, however often it was tried, or what answered is no Longshore."""


class WaitTimeoutError(ClientError):
    """A task has not ended in the time given. It runs on; wait again or cancel it."""


class DownloadError(ClientError):
    """What arrived is not what the run recorded."""


class SegmentError(ClientError, ValueError):
    """Rules that the service would refuse."""


class ProfileError(ClientError):
    """There is no such profile, or it cannot be read."""


class TaskFailedError(ClientError):
    """A task ended, and not in DONE. `task` is the task as it ended, its newest log entries included."""

    def __init__(self, task: "TaskData") -> None:
        said = [entry.msg for entry in task.logs if " -> " not in entry.msg]
        super().__init__(f"task {task.id} is {task.state.code}" + (f": {said[-1]}" if said else ""))
        self.task = task


class Violation(msgspec.Struct, frozen=True):
    """One fault of a request: a JSON pointer into its body, or a parameter's name, and what was expected."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemError(ClientError):
    """The service answered with a problem. `request_id` finds the request in the service's log."""

    def __init__(
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
    """The request cannot be used; `errors` names every fault."""


class UnauthorizedError(ProblemError):
    """The token is unknown, has expired or was revoked."""


class ForbiddenError(ProblemError):
    """The token is good, but its level is too low, or its chain is another."""


class NotFoundError(ProblemError):
    """The chain has no such task, run, segment or index."""


class ConflictError(ProblemError):
    """The task is not in a state in which this can be done."""


class GoneError(ProblemError):
    """The result has expired or was deleted."""


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


def problem(status: int, body: bytes, request_id: str) -> ClientError:
    """The error of an answer that is none of those hoped for. A body that is no problem did not come from Longshore."""
    try:
        read = msgspec.json.decode(body, type=_Body)
    except msgspec.DecodeError:
        return NoAnswerError(f"something other than Longshore answered with status {status}: {body[:200]!r}")
    return BY_STATUS.get(status, ProblemError)(
        type=read.type,
        title=read.title,
        status=status,
        detail=read.detail,
        request_id=read.request_id or request_id,
        errors=read.errors or (),
    )
