# Made of ../asynchronous/wait.py by tools/blocking_client.py: change that file, then run `make format`.
"""Waiting for the end of a task, by long polls."""

import math
import time
from collections.abc import Callable

import msgspec

from longshore.client.blocking.concurrency import sleep
from longshore.client.blocking.transport import Transport
from longshore.client.errors import LostError, NotSentError, ProblemError, TaskFailedError, WaitTimeoutError
from longshore.client.model import Delivery, LogEntry, Progress, TaskData
from longshore.client.requests import Answer, Request
from longshore.client.retry import RetryBudget

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


def until_ended(transport: Transport, id: int, options: WaitOptions) -> TaskData:
    """Return the task once it is DONE and no other run is queued. Raises TaskFailedError and WaitTimeoutError."""
    wait = _Wait(transport, id, options)
    while True:
        began = time.monotonic()
        task = wait.poll()
        if task is None:
            continue
        if wait.is_over and wait.has_delivered(task):
            if task.state.code != "DONE":
                raise TaskFailedError(with_newest_logs(transport, id))
            return task
        wait.check_deadline(task)
        wait.pause(began)


class _Wait:
    """The state of one wait between two polls."""

    def __init__(self, transport: Transport, id: int, options: WaitOptions) -> None:
        self._transport = transport
        self._id = id
        self._options = options
        self._deadline = math.inf if options.timeout is None else time.monotonic() + options.timeout
        self._task: TaskData | None = None
        self._etag: str | None = None
        self._reported_entries = 0
        self._pause_seconds = MIN_PAUSE_SECONDS
        self.is_over = False

    def poll(self) -> TaskData | None:
        """Poll once, report, and return the task; None if it must be polled again at once."""
        answer = self._answer()
        is_changed = answer.status != 304
        if is_changed:
            self._task = answer.expect(TaskData)
            self._etag = answer.headers.get("etag")
        task = self._task
        assert task is not None
        # An ended task with another run in the queue keeps its state until that run begins; Retry-After announces it.
        self.is_over = task.state.ended and "retry-after" not in answer.headers
        if self._options.on_progress:
            progress = self._send(_get(f"/tasks/{self._id}/progress"))
            self._options.on_progress(progress.expect(Progress))
        if is_changed and self._report_entries(task):
            self._task, self._etag = None, None
        return self._task

    def has_delivered(self, task: TaskData) -> bool:
        """Return whether the deliveries that are waited for have ended. Raises TaskFailedError if one has failed."""
        run = self._options.delivering
        if run is None:
            return True
        answer = self._send(_get(f"/tasks/{self._id}/runs/{run}/deliveries", limit=100))
        newest: dict[str, Delivery] = {}
        for delivery in answer.expect(list[Delivery]):
            newest.setdefault(f"{delivery.destination} {delivery.path or delivery.table}", delivery)
        if any(delivery.state == "pending" for delivery in newest.values()):
            return False
        failed = next((each for each in newest.values() if each.state != "delivered"), None)
        if failed is not None:
            newest_task = with_newest_logs(self._transport, self._id)
            raise TaskFailedError(newest_task, f"delivery to {failed.destination} {failed.state}: {failed.error or ''}")
        # The state that the end of the last delivery wrote may be newer than the one that was polled.
        refreshed = (self._send(_get(f"/tasks/{self._id}"))).expect(TaskData)
        return refreshed.state.code == task.state.code

    def _answer(self) -> Answer:
        params = dict[str, int]()
        if self._options.on_log:
            params = {"log_limit": MAX_LOG_ENTRIES, "offset": self._reported_entries}
        seconds = self._hold_seconds()
        request = Request(
            method="GET",
            url=f"/tasks/{self._id}",
            params={**params, "wait": seconds} if seconds else params,
            headers={"If-None-Match": self._etag} if self._etag and seconds else {},
            timeout=seconds,
        )
        return self._send(request)

    def _send(self, request: Request) -> Answer:
        """Send a request, and retry it no longer than the wait may last."""
        budget = RetryBudget(self._transport.connection.retry_for, self._deadline)
        try:
            return self._transport.send(msgspec.structs.replace(request, deadline=self._deadline), budget=budget)
        except (NotSentError, LostError, ProblemError) as error:
            if self._task is not None and budget.is_past_deadline:
                what = f"task {self._id} cannot be polled again within the {self._options.timeout:g} s of the wait"
                raise WaitTimeoutError(f"{what}: {error}") from error
            raise

    def _hold_seconds(self) -> int:
        """Return for how many seconds the service may hold the next answer back; the first one not at all."""
        if self._task is None:
            return 0
        hold = REPORTING_HOLD_SECONDS if self._options.on_progress or self._options.on_log else HOLD_SECONDS
        if self._options.delivering is not None:  # the end of a delivery need not be a change of the task
            hold = REPORTING_HOLD_SECONDS
        return int(min(hold, max(self._deadline - time.monotonic(), 0)))

    def _report_entries(self, task: TaskData) -> bool:
        """Call `on_log` with the new entries; return whether there may be more than one answer holds."""
        if self._options.on_log is None:
            return False
        for entry in task.logs:
            self._options.on_log(entry)
        self._reported_entries += len(task.logs)
        return len(task.logs) == MAX_LOG_ENTRIES

    def check_deadline(self, task: TaskData) -> None:
        """Raise WaitTimeoutError if the time is over."""
        if time.monotonic() < self._deadline:
            return
        seconds = f"{self._options.timeout:g} s"
        if task.state.ended:
            what = "the requested run" if self._options.delivering is None else "the requested delivery"
            raise WaitTimeoutError(f"{what} of task {self._id} has not ended within {seconds}")
        raise WaitTimeoutError(f"task {self._id} has not ended within {seconds}; it is {task.state.code}")

    def pause(self, began: float) -> None:
        """Pause before the next poll; not at all after an answer that the service has held back."""
        was_quick = time.monotonic() - began < self._pause_seconds
        self._pause_seconds = min(MAX_PAUSE_SECONDS, self._pause_seconds * 1.5) if was_quick else MIN_PAUSE_SECONDS
        seconds = began + self._pause_seconds - time.monotonic()
        if seconds > 0:
            sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))


def with_newest_logs(transport: Transport, id: int) -> TaskData:
    """Return the task with its newest log entries, oldest first; a task by itself has its oldest ones."""
    answer = transport.send(_get(f"/tasks/{id}", log_limit=MAX_LOG_ENTRIES, log_order="desc"))
    task = answer.expect(TaskData)
    return msgspec.structs.replace(task, logs=task.logs[::-1])


def _get(url: str, **params: int | str) -> Request:
    return Request(method="GET", url=url, params=params)
