"""The page of one task: state, runs, charts, result, deliveries, links, log and definition."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, HeaderParameter, QueryParameter, RawBody
from litestar.response import Redirect, Stream

from longshore.access.tokens import ForbiddenError, Level
from longshore.api import deliveries as api_deliveries
from longshore.api import downloads, events
from longshore.api.bodies import check_body
from longshore.api.guard import service_and_caller
from longshore.api.paging import Offset
from longshore.api.runs import RunNumber
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, task_id
from longshore.api.visibility_checks import changeable_task, hides_rules, visible_segment, visible_task
from longshore.console import run_charts
from longshore.console.pages import as_number, form_of, pop_idempotency_key, redirect, render_page
from longshore.console.rendering import render
from longshore.console.run import details_of
from longshore.database.rows import Page, as_uuid
from longshore.errors import NotFoundError
from longshore.exports.manifest import is_files
from longshore.exports.rights import may_see, may_see_task
from longshore.exports.segments import describe
from longshore.exports.segments.rules import Segment
from longshore.exports.segments.stored import decode
from longshore.exports.segments.stored import get as stored_segment
from longshore.exports.target import TRIGGER, ExportTarget, decode_definition
from longshore.results import links
from longshore.results.links import Link
from longshore.sharing.profile import DAY_SECONDS, Profile, ProfileBody, endpoint, new_profile
from longshore.tasks import backfills, delivery_queries, progress, queries, requests, run_queries
from longshore.tasks.delivery_queries import DeliveryRow
from longshore.tasks.model import HIDDEN_MESSAGE, Progress, StateCode, Task, TaskId
from longshore.tasks.queries import LogPage, PolledTask
from longshore.tasks.schedule import Schedule

LOG_PAGE_SIZE = 200
MAX_RUNS = 50
MAX_BACKFILLS = 10
MAX_DELIVERIES = 25
MAX_LINKS = 10
NO_COUNTS: dict[str, Any] = {
    "rows": 0,
    "bytes": 0,
    "rows_expected": None,
    "rows_per_second": None,
    "seconds_left": None,
}


@get("/console/{chain:int}/tasks/{id:str}", include_in_schema=False)
async def show_task(
    request: AnyRequest, id: Id, fragment: Annotated[str, QueryParameter(max_length=10)] = "", log: Offset = 0
) -> Response[str]:
    """Return one task. `log`: entries of its log that are newer than those to show.

    `fragment`: for htmx, the part that changes with each entry of the log (`live`) or with each report (`now`).
    """
    service, caller = service_and_caller(request)
    frame: dict[str, Any] = {"chain": caller.chain, "base": f"/console/{caller.chain}"}
    polled = await queries.poll(service.pool, caller.chain, task_id(id), LogPage(LOG_PAGE_SIZE, log, newest_first=True))
    task = visible_task(caller, service.catalog, polled.task, polled.reads)
    now = await _progress(request, polled)
    content: dict[str, Any] = {
        "task": task,
        "progress": now,
        "over": task.state.code in (StateCode.DONE, StateCode.ERROR),
    }
    if fragment == "now":
        return await asyncio.to_thread(render, "task_progress.html", **frame, **content)
    content |= _log(polled, task, log) | await _live(request, polled, task)
    content["reason"] = _shown_reason(request, polled, polled.reason)
    if fragment == "live":
        return await asyncio.to_thread(render, "task_live.html", **frame, **content)
    rules, name = await _rules(request, task) if content["target"] else ([], "")
    content |= {"rules": rules, "segment_name": name, "endpoint": endpoint(request)}
    return await render_page(request, "task.html", f"Task {task.id}", **content)


async def _progress(request: AnyRequest, polled: PolledTask) -> Progress:
    service, caller = service_and_caller(request)
    id = TaskId(polled.task.id)
    now, _ = await progress.read(service.pool, caller.chain, id, service.settings.heartbeat_timeout)
    return now if may_see(caller, polled.reads, service.catalog) else msgspec.structs.replace(now, **NO_COUNTS)


def _log(polled: PolledTask, task: Task, newer: int) -> dict[str, Any]:
    """Return the entries of the log to show, oldest first, each with its number; and the addresses of the others."""
    first = max(0, polled.log_length - newer - len(task.logs))
    earlier = f"?log={newer + LOG_PAGE_SIZE}#log" if first else None
    later = f"?log={max(0, newer - LOG_PAGE_SIZE)}#log" if newer else None
    return {
        "log": list(enumerate(reversed(task.logs), start=first + 1)),
        "earlier": earlier,
        "later": later,
        "newer": newer,
    }


async def _live(request: AnyRequest, polled: PolledTask, task: Task) -> dict[str, Any]:
    """Return what changes with the entries of the log: runs, charts, result, deliveries, links, backfills."""
    service, caller = service_and_caller(request)
    id = TaskId(task.id)
    recorded, _ = await run_queries.runs(service.pool, caller.chain, id, Page(MAX_RUNS))
    seen = [each for each in recorded if may_see(caller, each.reads, service.catalog)]
    runs = [each.run for each in seen]
    whole = await requests.editable(service.pool, caller.chain, id)
    listed, _ = await backfills.of_task(service.pool, caller.chain, id, Page(MAX_BACKFILLS))
    found, _ = await delivery_queries.of_task(service.pool, caller.chain, id, Page(MAX_DELIVERIES))
    deliveries = [each for each in found if may_see(caller, each.reads, service.catalog)]
    target, trigger = _readable(task)
    newest = next((run for run in runs if run.result), None)
    return {
        "has_schedule": bool(trigger) and ("repeat" in trigger or "cron" in trigger) and not whole.schedule_ended,
        "target": target,
        "trigger": trigger,
        "reasons": {each.run.run: _shown_reason(request, polled, each.reason) for each in seen},
        "backfills": listed if may_see(caller, polled.reads, service.catalog) else [],
        "runs": runs,
        "charts": run_charts.of_runs(runs),
        "details": newest and await details_of(request, id, newest),
        "deliveries": deliveries,
        "undelivered": _undelivered(deliveries),
        "links": await _links(request, id),
        "may_write": caller.level >= Level.WRITE,
        "many_files": is_files(task.result),
        "has_file": task.state.code == StateCode.DONE and bool(task.result),
    }


def _shown_reason(request: AnyRequest, polled: PolledTask, reason: str | None) -> str | None:
    """Return the reason of a failure as its viewer may see it, like the log of the task."""
    service, caller = service_and_caller(request)
    if reason is None or may_see_task(caller, service.catalog, polled.task.target, polled.task.trigger, polled.reads):
        return reason
    return HIDDEN_MESSAGE


async def _links(request: AnyRequest, id: TaskId) -> list[Link]:
    """Return the newest download addresses of a task; none to those who may not revoke them."""
    service, caller = service_and_caller(request)
    if caller.level < Level.WRITE:
        return []
    try:
        await changeable_task(service, caller, service.pool, id)
    except ForbiddenError:
        return []
    found, _ = await links.of_task(service.pool, caller.chain, id, service.sessions.lifetimes, Page(MAX_LINKS))
    return found


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
        schedule = msgspec.convert(trigger, Schedule)
        if target["action"] == "export":
            # Encoded anew: members that have their default, or are null, are left out.
            target = msgspec.to_builtins(decode_definition(task.target, task.trigger)[0])
        if schedule.cron or schedule.once:
            return target, trigger | {"once": schedule.once}
    except (msgspec.MsgspecError, TypeError, KeyError):
        pass
    return None, None


async def _rules(request: AnyRequest, task: Task) -> tuple[list[tuple[str, Any]], str]:
    """Return a task's segments in words, each with its index where there are several, and a note.

    The note is the name of a stored segment, or says that the rules are hidden.
    """
    service, caller = service_and_caller(request)
    if hides_rules(task):
        return [], HIDDEN_MESSAGE
    trigger = TRIGGER.decode(task.trigger)
    if trigger.segment is not None:
        target = msgspec.json.decode(task.target, type=ExportTarget)
        segments = [(name, trigger.of(target, name)) for name in target.names]
        several = target.export_indexes is not None
        return [(name if several else "", _in_words(segment)) for name, segment in segments if segment], ""
    stored = as_uuid(trigger.segment_id or "")
    if stored is None:
        return [], ""
    try:
        found = await stored_segment(service.pool, caller.chain, stored)
    except NotFoundError:
        return [], "a stored segment that was deleted"
    if (visible := visible_segment(caller, service.catalog, found)).segment is None:
        return [], f"{found.name}, whose rules you may not see"
    if (segment := decode(visible.segment)) is None:
        return [], f"{found.name}, whose rules this version cannot read"
    return [("", _in_words(segment))], found.name


def _in_words(segment: Segment) -> Any:
    return {"join": segment.join, "rules": describe.of_segment(segment)}


@get("/console/{chain:int}/tasks/{id:str}/events", media_type="text/event-stream", include_in_schema=False)
async def task_events(
    request: AnyRequest,
    id: Id,
    after: Annotated[str, QueryParameter(max_length=40)] = "",
    last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = "",
) -> Stream:
    """Return the API's event stream of a task: a browser's EventSource sends no header that names the chain.

    `after`: the id of the last event that the page has seen; a new EventSource sends no `Last-Event-ID`.
    """
    stream: Stream = await events.stream_task_events.fn(request, id, last_event_id or after)
    return stream


@post("/console/{chain:int}/tasks/{id:str}/links/{link:str}/revoke", include_in_schema=False)
async def revoke_link(request: AnyRequest, id: Id, link: FromPath[str]) -> Redirect:
    """Revoke a download address."""
    await downloads.revoke_download_link.fn(request, id, link)
    return redirect(request, f"tasks/{id}#links")


@post("/console/{chain:int}/tasks/{id:str}/runs/{run:str}/deliver", include_in_schema=False)
async def deliver_again(request: AnyRequest, id: Id, run: RunNumber, body: RawBody) -> Redirect:
    """Deliver the result of a run again."""
    await api_deliveries.deliver_run.fn(request, id, run, pop_idempotency_key(form_of(body)))
    return redirect(request, f"tasks/{id}#deliveries")


@get("/console/{chain:int}/tasks/{id:str}/download", include_in_schema=False)
async def download(request: AnyRequest, id: Id) -> Redirect:
    """Redirect to a signed address of a task's result."""
    found = await downloads.get_download_url.fn(request, id)
    return Redirect(found.url, status_code=303)


@post("/console/{chain:int}/profile", status_code=200, include_in_schema=False)
async def make_profile(request: AnyRequest, body: RawBody) -> Response[Profile]:
    """Make a read token, and send its profile file."""
    days = as_number(form_of(body).get("days", ""))
    seconds = days * DAY_SECONDS if isinstance(days, int) else days
    return await new_profile(request, check_body(ProfileBody, {"expires_in": seconds}).expires_in)
