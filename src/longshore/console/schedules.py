"""The forms of a task's page that need no script: pause, resume, backfill.

They are sent to the console, as a browser sends no JSON; the API's own functions carry them out.
"""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import post
from litestar.params import RawBody
from litestar.response import Redirect

from longshore.api import schedules
from longshore.api.guard import admitted
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, task_id
from longshore.console.pages import form_of
from longshore.tasks import requests
from longshore.tasks.schedule import stored


@post("/console/{chain:int}/tasks/{id:str}/pause", include_in_schema=False)
async def pause(request: AnyRequest, id: Id) -> Redirect:
    """Pause a task."""
    await schedules.pause_task.fn(request, id)
    return _to_page(request, id)


@post("/console/{chain:int}/tasks/{id:str}/resume", include_in_schema=False)
async def resume(request: AnyRequest, id: Id, body: RawBody) -> Redirect:
    """Resume a task."""
    await schedules.resume(request, id, {key: value for key, value in form_of(body).items() if value})
    return _to_page(request, id)


@post("/console/{chain:int}/tasks/{id:str}/backfill", include_in_schema=False)
async def backfill(request: AnyRequest, id: Id, body: RawBody) -> Redirect:
    """Create a backfill; the times of the form are by the clock of the task's trigger."""
    service, caller = admitted(request)
    found = await requests.editable(service.pool, caller.chain, task_id(id))
    value: dict[str, Any] = form_of(body)
    try:
        zone = ZoneInfo(stored(found.trigger).timezone)
        value |= {key: _with_offset(value[key], zone) for key in ("start", "end") if key in value}
    except (msgspec.MsgspecError, ValueError, OSError):
        pass  # the API names what is wrong
    await schedules.backfill(request, id, value, None)
    return _to_page(request, id)


def _with_offset(local: str, zone: ZoneInfo) -> str:
    moment = datetime.fromisoformat(local)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).isoformat()


def _to_page(request: AnyRequest, id: int) -> Redirect:
    _, caller = admitted(request)
    return Redirect(f"/console/{caller.chain}/tasks/{id}", status_code=303)
