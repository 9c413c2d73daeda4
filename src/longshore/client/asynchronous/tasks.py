"""`client.tasks`: tasks of all actions."""

import builtins
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from longshore.client.api_types import CatchUp, Repeat, StateCode
from longshore.client.asynchronous.resource import AsyncResource, first_entries
from longshore.client.asynchronous.task import AsyncTask
from longshore.client.model import TaskData
from longshore.client.requests import idempotency_header, whole_number, without_none
from longshore.client.schedule import LONG_AGO, Times, trigger_time


class AsyncTasks(AsyncResource):
    """The operations of `client.tasks`."""

    async def get(self, id: int) -> AsyncTask:
        """Return one task. Raises NotFoundError."""
        return AsyncTask(self._transport, await self._get(f"/tasks/{whole_number('id', id)}", TaskData))

    async def list(
        self, status: StateCode | None = None, action: str | None = None, limit: int | None = 25, offset: int = 0
    ) -> builtins.list[AsyncTask]:
        """Return the chain's tasks, newest first. `status`: only those in this state. `limit`: None for all of them."""
        return await first_entries(self.iterate(status, action, offset), limit)

    async def iterate(
        self, status: StateCode | None = None, action: str | None = None, offset: int = 0
    ) -> AsyncIterator[AsyncTask]:
        """Yield the chain's tasks, newest first; they are read as they are needed."""
        pages = self._pages("/tasks", list[TaskData], lambda task: task.id, offset, status=status, action=action)
        async for data in pages:
            yield AsyncTask(self._transport, data)

    async def create(
        self,
        target: Mapping[str, Any],
        trigger: Mapping[str, Any] | None = None,
        *,
        desc: str = "",
        debug: str = "",
        idempotency_key: str | None = None,
    ) -> AsyncTask:
        """Create a task with a target and a trigger in the API's form, for actions other than exports; now by default.

        `idempotency_key`: two calls with the same key create one task; by default each call has a new key.
        Raises BadRequestError, ForbiddenError.
        """
        body = {
            "chain": self._transport.connection.chain,
            "desc": desc or str(target.get("action", "task")),
            "target": target,
            "trigger": {"once": LONG_AGO} if trigger is None else trigger,
            **without_none({"debug": debug or None}),
        }
        data = await self._post("/tasks", TaskData, body, idempotency_header(idempotency_key))
        return AsyncTask(self._transport, data)

    async def preview_schedule(  # noqa: PLR0913 (the keys of a trigger)
        self,
        *,
        at: datetime | None = None,
        repeat: Repeat | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        until: datetime | None = None,
        catch_up: CatchUp | None = None,
    ) -> builtins.list[datetime]:
        """Return the next times of a schedule, given as in `exports.create`. Raises BadRequestError."""
        trigger: dict[str, Any] = {"repeat": repeat, "cron": cron, "timezone": timezone, "catch_up": catch_up}
        trigger |= {
            name: trigger_time(name, time) for name, time in (("until", until), ("once", at)) if time is not None
        }
        return (await self._post("/tasks/preview", Times, {"trigger": without_none(trigger)})).times
