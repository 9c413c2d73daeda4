"""The Python client of a Longshore service. It knows the HTTP API alone and uses nothing else of this package."""

from typing import TYPE_CHECKING

from longshore.client.blocking.client import Longshore
from longshore.client.blocking.task import Task
from longshore.client.errors import (
    ArgumentError,
    BadRequestError,
    ClientError,
    ConflictError,
    DownloadError,
    ExistsError,
    ForbiddenError,
    GoneError,
    LostError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    ProblemError,
    ProfileError,
    SegmentError,
    TaskFailedError,
    UnauthorizedError,
    WaitTimeoutError,
)
from longshore.client.segment import F

if TYPE_CHECKING:
    from longshore.client.asynchronous.client import AsyncLongshore
    from longshore.client.asynchronous.task import AsyncTask

__all__ = [
    "ArgumentError",
    "AsyncLongshore",
    "AsyncTask",
    "BadRequestError",
    "ClientError",
    "ConflictError",
    "DownloadError",
    "ExistsError",
    "F",
    "ForbiddenError",
    "GoneError",
    "Longshore",
    "LostError",
    "NoAnswerError",
    "NotFoundError",
    "NotSentError",
    "ProblemError",
    "ProfileError",
    "SegmentError",
    "Task",
    "TaskFailedError",
    "UnauthorizedError",
    "WaitTimeoutError",
]


def __getattr__(name: str) -> object:
    # Imported when it is asked for, as a program uses one of the two clients.
    if name == "AsyncLongshore":
        from longshore.client.asynchronous.client import AsyncLongshore

        return AsyncLongshore
    if name == "AsyncTask":
        from longshore.client.asynchronous.task import AsyncTask

        return AsyncTask
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
