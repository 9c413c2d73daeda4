# Made of ../asynchronous/task.py by tools/blocking_client.py: change that file, then run `make format`.
"""A task of the service, and the operations on it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Self

from longshore.client.api_types import CatchUp
from longshore.client.blocking.events import events_of
from longshore.client.blocking.resource import first_entries
from longshore.client.blocking.task_results import TaskResults
from longshore.client.blocking.wait import until_ended
from longshore.client.errors import TaskFailedError
from longshore.client.event_stream import TaskEvent
from longshore.client.model import Backfill, LogEntry, NewBackfill, Progress, State, TaskData
from longshore.client.progress_bar import ProgressBar
from longshore.client.requests import Request, idempotency_header, path_step, without_none
from longshore.client.schedule import trigger_time
from longshore.client.wait_state import MAX_LOG_ENTRIES, WaitOptions


class Task(TaskResults):
    """A task. `data` is the task object of the service's last answer."""

    def refresh(self) -> Self:
        """Read the task again."""
        return self._refreshed(self._get("", TaskData))

    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_log: Callable[[LogEntry], None] | None = None,
        progress: bool = False,
    ) -> Self:
        """Wait until the task is DONE. After `deliver`, wait until its deliveries have ended, too.

        `timeout`: seconds; None waits for ever. Transient errors of the service are retried as in all requests.
        `on_progress`: called about once a second with the progress of the run, if the token may see that. `on_log`:
        called with each log entry.
        `progress`: show a bar on a terminal and in a notebook, a line every ten seconds elsewhere.
        Raises TaskFailedError if the task ended in another state, WaitTimeoutError if it has not ended in time.
        """
        with ProgressBar(f"task {self.id}", "rows", is_shown=progress) as bar:

            def report(found: Progress) -> None:
                bar.update(found.rows, found.rows_expected)
                if on_progress is not None:
                    on_progress(found)

            reported = report if progress or on_progress is not None else None
            options = WaitOptions(timeout, reported, on_log, self._delivering)
            try:
                data = until_ended(self._transport, self.id, options)
            except TaskFailedError:
                self._delivering = None
                raise
        self._delivering = None
        return self._refreshed(data)

    def events(self, last_id: str = "") -> Iterator[TaskEvent]:
        """Yield the log entries, states and progress of the task as they come, until it has ended and is not due again.

        A lost connection is made again, and no event is missed or comes twice. `last_id`: only events behind this one.
        Raises UnauthorizedError when the token ends, NotFoundError.
        """
        for event in events_of(self._transport, self.id, last_id):
            yield event

    def logs(self) -> list[LogEntry]:
        """Return the whole log, oldest entry first."""
        entries: list[LogEntry] = []
        while True:
            page = (self._get("", TaskData, log_limit=MAX_LOG_ENTRIES, offset=len(entries))).logs
            entries += page
            if len(page) < MAX_LOG_ENTRIES:
                return entries

    def progress(self) -> Progress:
        """Return the progress of the newest run."""
        return self._get("/progress", Progress)

    def execute(
        self, interval_end: str | datetime | None = None, *, full: bool = False, idempotency_key: str | None = None
    ) -> Self:
        """Run the task now, regardless of its trigger; `wait` then waits for this run. Raises ConflictError.

        `interval_end`: a time of the schedule, with its offset, whose data interval is to run again.
        `full`: all rows, of a task that is incremental. `idempotency_key`: two calls with the same key run it once.
        """
        body = without_none({"interval_end": interval_end, "full": full or None}) or None
        self._post("/execute", State, body, {"Prefer": "respond-async", **idempotency_header(idempotency_key)})
        self._delivering = None
        return self.refresh()

    def change(
        self,
        *,
        desc: str | None = None,
        debug: str | None = None,
        target: Mapping[str, Any] | None = None,
        trigger: Mapping[str, Any] | None = None,
    ) -> Self:
        """Change the task: each part replaces the one before as a whole, in the API's form; None leaves it.

        `{**task.data.target, "export_format": "json"}` changes one key. A trigger begins its schedule anew.
        Raises BadRequestError and ConflictError.
        """
        body = without_none({"desc": desc, "debug": debug, "target": target, "trigger": trigger})
        request = Request(method="PATCH", url=self._path, body=body)
        # A trigger that has come runs the task, so it is not sent again after its answer was lost.
        answer = self._transport.send(request, is_idempotent=trigger is None)
        return self._refreshed(answer.expect(TaskData))

    def pause(self) -> Self:
        """Pause the schedule: a run that has begun ends as usual. Raises ConflictError for a task without one."""
        return self._refreshed(self._post("/pause", TaskData))

    def resume(self, catch_up: CatchUp | None = None) -> Self:
        """Resume a paused schedule. Raises ConflictError for a task without one.

        `catch_up`: the treatment of the runs that were missed until now; None for that of the trigger.
        """
        body = {} if catch_up is None else {"catch_up": catch_up}
        return self._refreshed(self._post("/resume", TaskData, body))

    def backfill(self, start: datetime, end: datetime, idempotency_key: str | None = None) -> NewBackfill:
        """Run the schedule's times after `start` and up to `end` that have come, oldest first and one at a time.

        Return the number of the backfill and that of its runs. Two calls with the same key create one backfill.
        Raises BadRequestError (no time in the range, or more than 1,000) and ConflictError.
        """
        body = {"start": trigger_time("start", start), "end": trigger_time("end", end)}
        return self._post("/backfill", NewBackfill, body, idempotency_header(idempotency_key))

    def backfills(self, limit: int | None = 25, offset: int = 0) -> list[Backfill]:
        """Return the backfills with their progress, newest first. `limit`: None for all of them."""
        pages = self._pages("/backfills", list[Backfill], lambda backfill: backfill.id, offset)
        return first_entries(pages, limit)

    def end_backfill(self, backfill: int) -> None:
        """End a backfill; a run that has begun finishes. Raises NotFoundError."""
        self._delete(f"/backfills/{path_step(backfill)}")

    def cancel(self) -> Self:
        """Cancel the task: its run, or its schedule. Raises ConflictError."""
        (self._transport.send(Request(method="POST", url=f"{self._path}/cancel"))).check()
        return self.refresh()

    def delete(self) -> None:
        """Delete the task with its runs and results. Raises ConflictError while it runs."""
        self._delete("")
