"""The Python client of a Longshore service. It knows the HTTP API alone and uses nothing else of this package."""

from longshore.client.client import AsyncLongshore, Longshore
from longshore.client.errors import (
    BadRequestError,
    ClientError,
    ConflictError,
    DownloadError,
    ForbiddenError,
    GoneError,
    NoAnswerError,
    NotFoundError,
    ProblemError,
    ProfileError,
    SegmentError,
    TaskFailedError,
    UnauthorizedError,
    WaitTimeoutError,
)
from longshore.client.segment import F
from longshore.client.task import AsyncTask, Task

__all__ = [
    "AsyncLongshore",
    "AsyncTask",
    "BadRequestError",
    "ClientError",
    "ConflictError",
    "DownloadError",
    "F",
    "ForbiddenError",
    "GoneError",
    "Longshore",
    "NoAnswerError",
    "NotFoundError",
    "ProblemError",
    "ProfileError",
    "SegmentError",
    "Task",
    "TaskFailedError",
    "UnauthorizedError",
    "WaitTimeoutError",
]
