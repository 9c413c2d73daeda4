"""Waiting for the end of a task: by long poll where the service has it, else by polling ever less often."""

import time
from collections.abc import Callable

from longshore.client.errors import BadRequestError, TaskFailedError, WaitTimeoutError
from longshore.client.model import Index, LogEntry, Progress, TaskData
from longshore.client.steps import Answer, Patience, Pause, Request, Steps, expect, send

HOLD = 30  # seconds that the service may hold an answer back
SHORT_HOLD = 1  # the same where somebody watches the progress
FIRST_PAUSE = 0.05  # seconds between polls, at first
LAST_PAUSE = 1.0
MOST_ENTRIES = 1000  # of the log, in one answer

OnProgress = Callable[[Progress], None]
OnLog = Callable[[LogEntry], None]


class ServiceState:
    """The chain and the settings of a client, and the facts about its service that requests have shown."""

    def __init__(self, chain: int, retry_for: float) -> None:
        self.chain = chain
        self.retry_for = retry_for
        self.indexes: dict[str, Index] = {}
        self.long_poll = True
        self.repeats_creation: bool | None = None

    def patience(self) -> Patience:
        """Patience for one operation."""
        return Patience(self.retry_for)


def until_ended(
    known: ServiceState,
    id: int,
    timeout: float | None,
    on_progress: OnProgress | None,
    on_log: OnLog | None,
) -> Steps[TaskData]:
    """The task once it is DONE and no other run is queued. Raises TaskFailedError and WaitTimeoutError."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause, entries, etag = FIRST_PAUSE, 0, None
    hold = SHORT_HOLD if on_progress or on_log else HOLD
    task: TaskData | None = None
    while True:
        began = time.monotonic()
        left = None if deadline is None else deadline - began
        seconds = hold if left is None else int(min(hold, max(left, 0)))
        answer = yield from _poll(known, id, seconds if task else 0, entries if on_log else None, etag)
        if answer.status != 304:
            task = expect(answer, TaskData)
            etag = answer.headers.get("etag")
        assert task is not None
        # An ended task with another run in the queue keeps its state until that run begins; Retry-After announces it.
        ended = task.state.ended and "retry-after" not in answer.headers
        if on_progress:
            on_progress(expect((yield from send(_get(f"/tasks/{id}/progress"), known.patience())), Progress))
        if on_log and answer.status != 304:
            for entry in task.logs:
                on_log(entry)
            entries += len(task.logs)
            if len(task.logs) == MOST_ENTRIES:
                task, etag = None, None  # there may be more already: look at once
                continue
        if ended:
            if task.state.code != "DONE":
                raise TaskFailedError((yield from newest(known, id)))
            return task
        if deadline is not None and time.monotonic() >= deadline:
            if task.state.ended:
                raise WaitTimeoutError(f"the requested run of task {id} has not begun within {timeout:g} s")
            raise WaitTimeoutError(f"task {id} has not ended within {timeout:g} s; it is {task.state.code}")
        pause = min(LAST_PAUSE, pause * 1.5) if time.monotonic() - began < pause else FIRST_PAUSE
        rest = began + pause - time.monotonic()  # nothing where the service held its answer back
        if rest > 0:
            yield Pause(rest if deadline is None else max(0.0, min(rest, deadline - time.monotonic())))


def newest(known: ServiceState, id: int) -> Steps[TaskData]:
    """The task with its newest log entries, as lists show it; a task by itself begins with its oldest."""
    found = expect((yield from send(_get(f"/tasks/{id}", log_limit=MOST_ENTRIES), known.patience())), TaskData)
    offset = MOST_ENTRIES
    while len(found.logs) == MOST_ENTRIES:
        request = _get(f"/tasks/{id}", log_limit=MOST_ENTRIES, offset=offset)
        page = expect((yield from send(request, known.patience())), TaskData)
        if not page.logs:
            break
        found, offset = page, offset + MOST_ENTRIES
    return found


def _get(url: str, **params: int) -> Request:
    return Request(method="GET", url=url, params=params)


def _poll(known: ServiceState, id: int, seconds: int, offset: int | None, etag: str | None) -> Steps[Answer]:
    params = {} if offset is None else {"log_limit": MOST_ENTRIES, "offset": offset}
    if seconds and known.long_poll:
        held = Request(
            method="GET",
            url=f"/tasks/{id}",
            params={**params, "wait": seconds},
            headers={"If-None-Match": etag} if etag else {},
            timeout=seconds,
        )
        answer = yield from send(held, known.patience())
        if answer.status != 400:
            return answer
        error = answer.error()
        if not isinstance(error, BadRequestError) or {violation.parameter for violation in error.errors} != {"wait"}:
            raise error
        known.long_poll = False  # an older service, which refuses the parameter
    return (yield from send(_get(f"/tasks/{id}", **params), known.patience()))
