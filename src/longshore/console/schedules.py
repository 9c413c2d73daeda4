"""The page *Schedules*, and the forms of a schedule: pause, resume, backfill.

The forms need no script. They are sent to the console, as a browser sends no JSON; the API's own functions carry them
out.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Response, get, post
from litestar.params import QueryParameter, RawBody
from litestar.response import Redirect

from longshore.api import schedules
from longshore.api.guard import service_and_caller
from longshore.api.paging import Offset
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, task_id
from longshore.console.charts import Chart, TimeRange, timeline
from longshore.console.pages import form_of, json_body, paging, pop_idempotency_key, redirect, render_page
from longshore.console.rendering import in_seconds
from longshore.console.zones import with_offset, zone_of
from longshore.database.rows import Page
from longshore.tasks import requests, upcoming
from longshore.tasks.schedule import Schedule, decode
from longshore.tasks.upcoming import UpcomingTask

DAYS = 7
PAGE_SIZE = 50
MAX_TIMES = 4000
"""Computed for a page: each takes time."""
MAX_DRAWN = 120
"""Runs of a task that are drawn one by one; those of one that runs more often in a week are drawn as spans."""
DRAWN_RUN = timedelta(minutes=20)
"""The width that a run is drawn with: a week has few pixels for each minute."""


class PlannedWeek(msgspec.Struct, frozen=True):
    """A line of the grid: a task with its runs of the week."""

    task: UpcomingTask
    rhythm: str
    """When it runs, in words."""
    chart: Chart
    count: str
    """The number of its runs in the week, in words."""


@get("/console/{chain:int}/schedules", include_in_schema=False)
async def show_schedules(
    request: AnyRequest, zone: Annotated[str, QueryParameter(max_length=100)] = "", offset: Offset = 0
) -> Response[str]:
    """Return the runs of the next seven days, a line for each task. `zone`: the one whose days are meant."""
    service, caller = service_and_caller(request)
    named = zone_of(request, zone)
    page = Page(PAGE_SIZE, offset)
    found, more = await upcoming.upcoming(service.pool, caller.chain, page)
    tasks = [task for task in found if task.due is not None or (task.schedule is not None and task.schedule.repeats)]
    days = days_of(found[0].now if found else datetime.now(UTC), ZoneInfo(named))
    lines = await asyncio.to_thread(_lines, tasks, days)
    return await render_page(
        request,
        "schedules.html",
        "Schedules",
        zone=named,
        days=[(day.astimezone(ZoneInfo(named)), number * 100 / DAYS) for number, day in enumerate(days[:-1])],
        lines=lines,
        **paging(page, more),
    )


def days_of(now: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the beginnings of the days of a week from today on, and the end of the last one, in UTC."""
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    days = (today + timedelta(days=number) for number in range(DAYS + 1))
    return [day.replace(tzinfo=zone).astimezone(UTC) for day in days]


def _lines(tasks: Sequence[UpcomingTask], days: Sequence[datetime]) -> list[PlannedWeek]:
    max_times = MAX_TIMES // max(1, len(tasks))
    return [planned_week(task, days, max_times) for task in tasks]


def planned_week(task: UpcomingTask, days: Sequence[datetime], max_times: int) -> PlannedWeek:
    """Return the line of a task. `max_times`: those that are computed; of more, the rest is drawn as one span."""
    start, end = days[0], days[-1]
    times = task.times(end, max_times + 1)
    cut = len(times) > max_times
    times = times[:max_times]
    kind = "paused" if task.paused else "planned"
    spans = [
        TimeRange(first, min(end, last + DRAWN_RUN), kind, _text(first, last, number))
        for first, last, number in _together(times, DRAWN_RUN if len(times) <= MAX_DRAWN else timedelta(hours=2))
    ]
    if cut:
        spans.append(TimeRange(times[-1], end, f"{kind} more", "and so on"))
    count = f"{'more than ' if cut else ''}{len(times) or 'no'} run{'' if len(times) == 1 else 's'}"
    return PlannedWeek(task, rhythm(task.schedule), timeline(f"Task {task.id}", spans, start, end), count)


def _together(times: Sequence[datetime], gap: timedelta) -> list[tuple[datetime, datetime, int]]:
    """Return the first and the last of times that follow each other within `gap`, with their number."""
    found: list[tuple[datetime, datetime, int]] = []
    for time in times:
        if found and time - found[-1][1] <= gap:
            first, _, number = found[-1]
            found[-1] = (first, time, number + 1)
        else:
            found.append((time, time, 1))
    return found


def _text(first: datetime, last: datetime, number: int) -> str:
    start = f"{first:%Y-%m-%d %H:%M} UTC"
    if number == 1:
        return start
    every = in_seconds((last - first).total_seconds() / (number - 1))
    return f"{number} runs from {start} to {last:%Y-%m-%d %H:%M} UTC, about every {every}"


def rhythm(schedule: Schedule | None) -> str:
    """Return when a schedule runs, in words."""
    if schedule is None:
        return "cannot be read"
    if schedule.cron is not None:
        return f"{schedule.cron} ({schedule.timezone})"
    return f"{schedule.repeat} ({schedule.timezone})" if schedule.repeat else "once"


@post("/console/{chain:int}/tasks/{id:str}/pause", include_in_schema=False)
async def pause(request: AnyRequest, id: Id, body: RawBody) -> Redirect:
    """Pause a task."""
    await schedules.pause_task.fn(request, id)
    return _back(request, id, body)


@post("/console/{chain:int}/tasks/{id:str}/resume", include_in_schema=False)
async def resume(request: AnyRequest, id: Id, body: RawBody) -> Redirect:
    """Resume a task."""
    fields = form_of(body)
    given = {key: value for key, value in fields.items() if value and key != "back"}
    await schedules.resume_task.fn(request, id, json_body(given))
    return _back(request, id, body)


@post("/console/{chain:int}/tasks/{id:str}/backfill", include_in_schema=False)
async def backfill(request: AnyRequest, id: Id, body: RawBody) -> Redirect:
    """Create a backfill; the times of the form are by the clock of the task's trigger."""
    service, caller = service_and_caller(request)
    found = await requests.editable(service.pool, caller.chain, task_id(id))
    value: dict[str, Any] = form_of(body)
    key = pop_idempotency_key(value)
    try:
        zone = decode(found.trigger).timezone
    except msgspec.MsgspecError:
        zone = ""  # the API names what is wrong
    value |= {key: with_offset(value[key], zone) for key in ("start", "end") if key in value}
    await schedules.create_backfill.fn(request, id, json_body(value), key)
    return _back(request, id, body)


@post("/console/{chain:int}/tasks/{id:str}/backfills/{backfill:str}/end", include_in_schema=False)
async def end_backfill(request: AnyRequest, id: Id, backfill: schedules.BackfillNumber, body: RawBody) -> Redirect:
    """End a backfill."""
    await schedules.end_backfill.fn(request, id, backfill)
    return _back(request, id, body)


def _back(request: AnyRequest, id: int, body: bytes) -> Redirect:
    """Redirect to the page that sent a form."""
    return redirect(request, "schedules" if form_of(body).get("back") == "schedules" else f"tasks/{id}")
