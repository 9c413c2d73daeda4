"""The pages *Tasks*, *Task* and *Schedules*."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response import Redirect, Stream

from longshore.access.tokens import Level
from longshore.api import events
from longshore.api.guard import admitted
from longshore.api.paging import Offset
from longshore.api.scopes import shown_segment, shown_task
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, task_id
from longshore.console.pages import html, page
from longshore.database.rows import Page, as_uuid
from longshore.errors import NotFoundError
from longshore.exports.export import TRIGGER, ExportTarget
from longshore.exports.manifest import is_files
from longshore.exports.rights import sees
from longshore.exports.segments import describe
from longshore.exports.segments.rules import Segment
from longshore.exports.segments.stored import READ
from longshore.exports.segments.stored import get as stored_segment
from longshore.exports.visibility import stored_export
from longshore.sharing.profile import endpoint
from longshore.tasks import backfills, delivery_reads, overview, progress, reads, requests, run_reads
from longshore.tasks.delivery_reads import DeliveryRow
from longshore.tasks.model import Code, Task
from longshore.tasks.overview import TaskFilter
from longshore.tasks.reads import LogPage
from longshore.tasks.schedule import Schedule

PAGE_SIZE = 25
MAX_LOG_ENTRIES = 1000
MAX_RUNS = 50
MAX_BACKFILLS = 10
MAX_DELIVERIES = 25
AGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1), "month": timedelta(days=30)}
DAYS = 7
UNKNOWN: dict[str, Any] = {"rows": 0, "bytes": 0, "rows_expected": None, "rows_per_second": None, "seconds_left": None}


@get("/console/{chain:int}", include_in_schema=False)
async def start(chain: FromPath[int]) -> Redirect:
    """Redirect to a chain's tasks."""
    return Redirect(f"/console/{chain}/tasks", status_code=303)


@get(
    "/console/{chain:int}/tasks",
    include_in_schema=False,
)
async def list_tasks(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    status: Annotated[str, QueryParameter(max_length=20)] = "",
    action: Annotated[str, QueryParameter(max_length=100)] = "",
    index: Annotated[str, QueryParameter(max_length=100)] = "",
    age: Annotated[str, QueryParameter(max_length=20)] = "",
    offset: Offset = 0,
) -> Response[str]:
    """Return the chain's tasks, newest first; for htmx, the table alone."""
    service, caller = admitted(request)
    wanted = TaskFilter(
        state=status if status in list(Code) else None,
        action=action.replace("\x00", "") or None,
        index=index.replace("\x00", "") or None,
        age=AGES.get(age),
    )
    page_rows, more = await overview.rows(service.pool, caller.chain, wanted, Page(PAGE_SIZE, offset))
    rows = [
        row if sees(caller, row.reads, service.catalog) else msgspec.structs.replace(row, rows=0, rows_expected=None)
        for row in page_rows
    ]
    filters = {
        key: value for key, value in (("status", status), ("action", action), ("index", index), ("age", age)) if value
    }
    content: dict[str, Any] = {
        "rows": rows,
        "asked": filters,
        "offset": offset,
        "again": _address(filters, offset),
        "newer": _address(filters, max(0, offset - PAGE_SIZE)) if offset else None,
        "older": _address(filters, offset + PAGE_SIZE) if more else None,
    }
    if "hx-request" in request.headers:
        return await asyncio.to_thread(html, "tasks_table.html", base=f"/console/{caller.chain}", **content)
    choices = {
        "states": list(Code),
        "actions": ["export", *service.actions],
        "indexes": list(service.catalog),
        "ages": list(AGES),
    }
    return await page(request, "tasks.html", "tasks", "Tasks", **choices, **content)


def _address(filters: dict[str, str], offset: int) -> str:
    return "?" + urlencode({**filters, **({"offset": offset} if offset else {})})


@get("/console/{chain:int}/tasks/{id:str}", include_in_schema=False)
async def show_task(
    request: AnyRequest, id: Id, part: Annotated[str, QueryParameter(max_length=10)] = ""
) -> Response[str]:
    """Return one task: state, progress, runs, log. `part=live`: the part that changes while it runs."""
    service, caller = admitted(request)
    polled = await reads.reading(service.pool, caller.chain, task_id(id), LogPage(MAX_LOG_ENTRIES))
    assert polled.task is not None
    task = shown_task(caller, service.catalog, polled.task, polled.reads)
    recorded, _ = await run_reads.runs(service.pool, caller.chain, task_id(id), Page(MAX_RUNS))
    runs = [each.run for each in recorded if sees(caller, each.reads, service.catalog)]
    target, trigger = _readable(task)
    now = await progress.read(service.pool, caller.chain, task_id(id), service.settings.heartbeat_timeout)
    if not sees(caller, polled.reads, service.catalog):
        now = msgspec.structs.replace(now, **UNKNOWN)
    whole = await requests.editable(service.pool, caller.chain, task_id(id))
    listed, _ = await backfills.of_task(service.pool, caller.chain, task_id(id), Page(MAX_BACKFILLS))
    found, _ = await delivery_reads.of_task(service.pool, caller.chain, task_id(id), Page(MAX_DELIVERIES))
    deliveries = [each for each in found if sees(caller, each.reads, service.catalog)]
    content: dict[str, Any] = {
        "task": task,
        "has_schedule": bool(trigger) and ("repeat" in trigger or "cron" in trigger) and not whole.schedule_ended,
        "backfills": listed if sees(caller, polled.reads, service.catalog) else [],
        "target": target,
        "trigger": trigger,
        "runs": [(run, _resolved(run.segment)) for run in runs],
        "deliveries": deliveries,
        "undelivered": _undelivered(deliveries),
        "longest": max((run.seconds or 0 for run in runs), default=0) or 1,
        "progress": now,
        "over": task.state.code in (Code.DONE, Code.ERROR),
        "may_write": caller.level >= Level.WRITE,
        "many_files": is_files(task.result),
        "has_file": task.state.code == Code.DONE and bool(task.result),
    }
    if part == "live":
        return await asyncio.to_thread(
            html, "task_live.html", chain=caller.chain, base=f"/console/{caller.chain}", **content
        )
    rules, name = await _rules(request, task) if target else ([], "")
    content |= {"rules": rules, "segment_name": name, "endpoint": endpoint(request)}
    return await page(request, "task.html", "tasks", f"Task {task.id}", **content)


def _undelivered(deliveries: Sequence[DeliveryRow]) -> list[int]:
    """Return the runs that lack a good delivery to one of their places, of deliveries with the newest first."""
    newest: dict[tuple[int, str, str], str] = {}
    for each in deliveries:
        newest.setdefault((each.run, each.destination, each.place), each.state)
    pending = {run for (run, _, _), state in newest.items() if state == "pending"}
    ended = [run for (run, _, _), state in newest.items() if state in ("failed", "cancelled")]
    return [run for run in dict.fromkeys(ended) if run not in pending]


def _readable(task: Task) -> tuple[Any, Any]:
    """Return a task's target and trigger as values; None for both where this version does not understand them."""
    try:
        target, trigger = msgspec.json.decode(task.target), msgspec.json.decode(task.trigger)
        msgspec.convert(trigger, Schedule)
        if target["action"] == "export":
            stored_export(task.target, task.trigger)
        if trigger.get("cron") or trigger.get("once"):
            return target, trigger
    except (msgspec.MsgspecError, TypeError, KeyError):
        pass
    return None, None


async def _rules(request: AnyRequest, task: Task) -> tuple[list[tuple[str, Any]], str]:
    """Return a task's segments in words, each with its index where there are several, and the name of a stored one."""
    service, caller = admitted(request)
    asked = TRIGGER.decode(task.trigger)
    if asked.segment is not None:
        target = msgspec.json.decode(task.target, type=ExportTarget)
        segments = [(name, asked.of(target, name)) for name in target.names]
        several = target.export_indexes is not None
        return [(name if several else "", _in_words(segment)) for name, segment in segments if segment], ""
    stored = as_uuid(asked.segment_id or "")
    if stored is None:
        return [], ""
    try:
        found = await stored_segment(service.pool, caller.chain, stored)
    except NotFoundError:
        return [], "a stored segment that was deleted"
    if (shown := shown_segment(caller, service.catalog, found)).segment is None:
        return [], f"{found.name}, whose rules you may not see"
    return [("", _in_words(READ.decode(shown.segment)))], found.name


def _in_words(segment: Segment) -> Any:
    return {"join": segment.join, "rules": describe.of_segment(segment)}


def _resolved(segment: Any) -> Any:
    """Return the rules that a run used, with relative times resolved."""
    if not segment:
        return None
    return {"join": segment["join"], "rules": describe.of_resolved(segment)}


@get("/console/{chain:int}/tasks/{id:str}/events", media_type="text/event-stream", include_in_schema=False)
async def task_events(
    request: AnyRequest, id: Id, last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = ""
) -> Stream:
    """Return the API's event stream of a task: a browser's EventSource sends no header that names the chain."""
    return await events.stream(request, id, last_event_id)


@get("/console/{chain:int}/schedules", include_in_schema=False)
async def show_schedules(request: AnyRequest) -> Response[str]:
    """Return the planned runs of the next seven days, by day."""
    service, caller = admitted(request)
    planned = await overview.planned(service.pool, caller.chain, timedelta(days=DAYS))
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [
        (day, [each for each in planned if day <= each.at < day + timedelta(days=1)])
        for day in (today + timedelta(days=number) for number in range(DAYS + 1))
    ]
    return await page(request, "schedules.html", "schedules", "Schedules", days=days, count=len(planned))
