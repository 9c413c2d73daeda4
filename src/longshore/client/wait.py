"""Waiting for the end of a task: by long poll, or by polling at growing intervals if the service has no long poll."""

import time
from collections.abc import Callable

import msgspec

from longshore.client.errors import BadRequestError, TaskFailedError, WaitTimeoutError
from longshore.client.model import Index, LogEntry, Progress, TaskData
from longshore.client.retry import RetryBudget, expect, send
from longshore.client.steps import Answer, Pause, Request, Steps

HOLD_SECONDS = 30  # for which the service may hold an answer back
REPORTING_HOLD_SECONDS = 1  # the same if progress or log entries are reported
MIN_PAUSE_SECONDS = 0.05  # between polls
MAX_PAUSE_SECONDS = 1.0
MAX_LOG_ENTRIES = 1000  # in one answer

OnProgress = Callable[[Progress], None]
OnLog = Callable[[LogEntry], None]


class ServiceState:
    """The chain and the settings of a client, and the facts about its service that requests have shown."""

    def __init__(self, chain: int, retry_for: float) -> None:
        self.chain = chain
        self.retry_for = retry_for
        self.indexes: dict[str, Index] = {}
        self.has_long_poll = True
        self.has_idempotency_keys: bool | None = None

    def budget(self) -> RetryBudget:
        """Return a new retry budget, for one operation."""
        return RetryBudget(self.retry_for)


class WaitOptions(msgspec.Struct, frozen=True):
    """The options of one wait: seconds at most, and the functions to call with progress and log entries."""

    timeout: float | None = None
    on_progress: OnProgress | None = None
    on_log: OnLog | None = None


def until_ended(known: ServiceState, id: int, options: WaitOptions) -> Steps[TaskData]:
    """Return the task once it is DONE and no other run is queued. Raises TaskFailedError and WaitTimeoutError."""
    wait = _Wait(known, id, options)
    while True:
        began = time.monotonic()
        task = yield from wait.poll()
        if task is None:
            continue
        if wait.is_over:
            if task.state.code != "DONE":
                raise TaskFailedError((yield from with_newest_logs(known, id)))
            return task
        wait.check_deadline(task)
        yield from wait.pause(began)


class _Wait:
    """The state of one wait between two polls."""

    def __init__(self, known: ServiceState, id: int, options: WaitOptions) -> None:
        self._known = known
        self._id = id
        self._options = options
        self._deadline = None if options.timeout is None else time.monotonic() + options.timeout
        self._task: TaskData | None = None
        self._etag: str | None = None
        self._reported_entries = 0
        self._pause_seconds = MIN_PAUSE_SECONDS
        self.is_over = False

    def poll(self) -> Steps[TaskData | None]:
        """Poll once, report, and return the task; None if it must be polled again at once."""
        answer = yield from self._answer()
        is_changed = answer.status != 304
        if is_changed:
            self._task = expect(answer, TaskData)
            self._etag = answer.headers.get("etag")
        task = self._task
        assert task is not None
        # An ended task with another run in the queue keeps its state until that run begins; Retry-After announces it.
        self.is_over = task.state.ended and "retry-after" not in answer.headers
        if self._options.on_progress:
            progress = yield from send(_get(f"/tasks/{self._id}/progress"), self._known.budget())
            self._options.on_progress(expect(progress, Progress))
        if is_changed and self._report_entries(task):
            self._task, self._etag = None, None
        return self._task

    def _answer(self) -> Steps[Answer]:
        known, params = self._known, dict[str, int]()
        if self._options.on_log:
            params = {"log_limit": MAX_LOG_ENTRIES, "offset": self._reported_entries}
        seconds = self._hold_seconds()
        if seconds and known.has_long_poll:
            request = Request(
                method="GET",
                url=f"/tasks/{self._id}",
                params={**params, "wait": seconds},
                headers={"If-None-Match": self._etag} if self._etag else {},
                timeout=seconds,
            )
            answer = yield from send(request, known.budget())
            if answer.status != 400:
                return answer
            error = answer.error()
            if not isinstance(error, BadRequestError) or {one.parameter for one in error.errors} != {"wait"}:
                raise error
            known.has_long_poll = False  # an older service, which refuses the parameter
        return (yield from send(_get(f"/tasks/{self._id}", **params), known.budget()))

    def _hold_seconds(self) -> int:
        """Return for how many seconds the service may hold the next answer back; the first one not at all."""
        if self._task is None:
            return 0
        hold = REPORTING_HOLD_SECONDS if self._options.on_progress or self._options.on_log else HOLD_SECONDS
        if self._deadline is None:
            return hold
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
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        seconds = f"{self._options.timeout:g} s"
        if task.state.ended:
            raise WaitTimeoutError(f"the requested run of task {self._id} has not begun within {seconds}")
        raise WaitTimeoutError(f"task {self._id} has not ended within {seconds}; it is {task.state.code}")

    def pause(self, began: float) -> Steps[None]:
        """Pause before the next poll; not at all after an answer that the service has held back."""
        was_quick = time.monotonic() - began < self._pause_seconds
        self._pause_seconds = min(MAX_PAUSE_SECONDS, self._pause_seconds * 1.5) if was_quick else MIN_PAUSE_SECONDS
        seconds = began + self._pause_seconds - time.monotonic()
        if seconds > 0:
            left = seconds if self._deadline is None else self._deadline - time.monotonic()
            yield Pause(max(0.0, min(seconds, left)))


def with_newest_logs(known: ServiceState, id: int) -> Steps[TaskData]:
    """Return the task with its newest log entries, as lists have it; a task by itself has its oldest ones."""
    task = expect((yield from send(_get(f"/tasks/{id}", log_limit=MAX_LOG_ENTRIES), known.budget())), TaskData)
    offset = MAX_LOG_ENTRIES
    while len(task.logs) == MAX_LOG_ENTRIES:
        request = _get(f"/tasks/{id}", log_limit=MAX_LOG_ENTRIES, offset=offset)
        page = expect((yield from send(request, known.budget())), TaskData)
        if not page.logs:
            break
        task, offset = page, offset + MAX_LOG_ENTRIES
    return task


def _get(url: str, **params: int) -> Request:
    return Request(method="GET", url=url, params=params)
