"""The state of a wait for the end of a task: its next poll, and the time that is left."""

import math
import time
from collections.abc import Callable, Iterable

import msgspec

from longshore.client.errors import WaitTimeoutError
from longshore.client.model import Delivery, LogEntry, Progress, TaskData
from longshore.client.requests import Answer, Request

HOLD_SECONDS = 30  # for which the service may hold an answer back
REPORTING_HOLD_SECONDS = 1  # the same if progress or log entries are reported
MIN_PAUSE_SECONDS = 0.05  # between polls
MAX_PAUSE_SECONDS = 1.0
MAX_LOG_ENTRIES = 1000  # in one answer


class WaitOptions(msgspec.Struct, frozen=True):
    """The options of one wait: seconds at most, and the functions to call with progress and log entries."""

    timeout: float | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_log: Callable[[LogEntry], None] | None = None
    delivering: int | None = None
    """The run whose deliveries are waited for too."""


class WaitState:
    """The state of one wait between two polls."""

    def __init__(self, id: int, options: WaitOptions) -> None:
        self._id = id
        self._options = options
        self.deadline = math.inf if options.timeout is None else time.monotonic() + options.timeout
        self.task: TaskData | None = None
        """The task of the last answer; None before the first, and where the next poll is due at once."""
        self.is_over = False
        """Whether the task has ended and no other run is queued."""
        self._etag: str | None = None
        self._reported_entries = 0
        self._pause_seconds = MIN_PAUSE_SECONDS

    def poll(self) -> Request:
        """Return the next poll."""
        params = dict[str, int]()
        if self._options.on_log:
            params = {"log_limit": MAX_LOG_ENTRIES, "offset": self._reported_entries}
        seconds = self._hold_seconds()
        return Request(
            url=f"/tasks/{self._id}",
            params={**params, "wait": seconds} if seconds else params,
            headers={"If-None-Match": self._etag} if self._etag and seconds else {},
            extra_seconds=seconds,
        )

    def _hold_seconds(self) -> int:
        """Return for how many seconds the service may hold the next answer back; the first one not at all."""
        if self.task is None:
            return 0
        hold = REPORTING_HOLD_SECONDS if self._options.on_progress or self._options.on_log else HOLD_SECONDS
        if self._options.delivering is not None:  # the end of a delivery need not be a change of the task
            hold = REPORTING_HOLD_SECONDS
        return int(min(hold, max(self.deadline - time.monotonic(), 0)))

    def read(self, answer: Answer) -> bool:
        """Take over the answer to a poll, and return whether the task has changed. Raises ProblemError."""
        is_changed = answer.status != 304
        if is_changed:
            self.task = answer.expect(TaskData)
            self._etag = answer.headers.get("etag")
        assert self.task is not None
        # An ended task with another run in the queue keeps its state until that run begins; Retry-After announces it.
        self.is_over = self.task.state.ended and "retry-after" not in answer.headers
        return is_changed

    def report_entries(self) -> None:
        """Call `on_log` with the new entries. Where there may be more than one answer holds, the next poll is due."""
        if self._options.on_log is None or self.task is None:
            return
        entries = self.task.logs
        for entry in entries:
            self._options.on_log(entry)
        self._reported_entries += len(entries)
        if len(entries) == MAX_LOG_ENTRIES:
            self.task, self._etag = None, None

    def check_deadline(self, task: TaskData) -> None:
        """Raise WaitTimeoutError if the time is over."""
        if time.monotonic() < self.deadline:
            return
        seconds = f"{self._options.timeout:g} s"
        if task.state.ended:
            what = "the requested run" if self._options.delivering is None else "the requested delivery"
            raise WaitTimeoutError(f"{what} of task {self._id} has not ended within {seconds}")
        raise WaitTimeoutError(f"task {self._id} has not ended within {seconds}; it is {task.state.code}")

    def timeout_error(self, cause: Exception) -> WaitTimeoutError:
        """Return the error of a poll that failed and cannot be repeated before the deadline."""
        what = f"task {self._id} cannot be polled again within the {self._options.timeout:g} s of the wait"
        return WaitTimeoutError(f"{what}: {cause}")

    def pause_seconds(self, began: float) -> float:
        """Return the seconds until the next poll; 0 after an answer that the service has held back.

        `began`: the time of the monotonic clock at which the last poll began.
        """
        was_quick = time.monotonic() - began < self._pause_seconds
        self._pause_seconds = min(MAX_PAUSE_SECONDS, self._pause_seconds * 1.5) if was_quick else MIN_PAUSE_SECONDS
        return max(0.0, min(began + self._pause_seconds, self.deadline) - time.monotonic())


def newest_deliveries(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """Return the newest delivery to each place. `deliveries`: newest first."""
    newest: dict[str, Delivery] = {}
    for delivery in deliveries:
        newest.setdefault(f"{delivery.destination} {delivery.path or delivery.table}", delivery)
    return list(newest.values())
