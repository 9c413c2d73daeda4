# Made of ../asynchronous/task_schedule.py by tools/blocking_client.py: change that file, then run `make format`.
"""The operations on the schedule of a task."""

import builtins
from datetime import datetime
from typing import Self

from longshore.client.api_types import CatchUp
from longshore.client.blocking.resource import TaskResource, first_entries
from longshore.client.model import Backfill, NewBackfill, TaskData
from longshore.client.requests import idempotency_header
from longshore.client.schedule import moment


class TaskSchedule(TaskResource):
    """The operations on the schedule of a task."""

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
        body = {"start": moment("start", start), "end": moment("end", end)}
        return self._post("/backfill", NewBackfill, body, idempotency_header(idempotency_key))

    def backfills(self, limit: int | None = 25, offset: int = 0) -> builtins.list[Backfill]:
        """Return the backfills with their progress, newest first. `limit`: None for all of them."""
        pages = self._pages("/backfills", builtins.list[Backfill], lambda backfill: backfill.id, offset)
        return first_entries(pages, limit)

    def end_backfill(self, backfill: int) -> None:
        """End a backfill; a run that has begun finishes. Raises NotFoundError."""
        self._delete(f"/backfills/{backfill}")
