"""`GET /tasks/{id}`: a poll, a conditional poll, or a long poll."""

import asyncio
from enum import StrEnum
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.params import HeaderParameter, QueryParameter

from longshore.access.tokens import Caller
from longshore.api import conditional
from longshore.api.bodies import BytesResponse
from longshore.api.conditional import UNMODIFIED, KnownTags, known_versions
from longshore.api.guard import service_and_caller
from longshore.api.openapi_responses import answers, problems
from longshore.api.paging import Offset
from longshore.api.prefer import MAX_WAIT_SECONDS, preferred_wait
from longshore.api.service import AnyRequest, Service
from longshore.api.tasks import Id, encode, task_id
from longshore.api.visibility_checks import visible_task
from longshore.api.waiting import held_open
from longshore.tasks import queries
from longshore.tasks.model import Task, TaskId, TaskVersion
from longshore.tasks.queries import LogPage, PolledStatus, PolledTask


class LogOrder(StrEnum):
    """The order of a task's log entries."""

    ASC = "asc"
    DESC = "desc"


class LongPoll(msgspec.Struct, frozen=True):
    """A poll that waits for a change of a task.

    `known`: the versions that the client has; it is answered at once where the task is at another one, so also where
    the set is empty. None: the client names no version, and waits for the next change.
    """

    task: TaskId
    seconds: int
    """The longest wait."""
    known: frozenset[TaskVersion] | None
    page: LogPage


NO_VERSIONS: frozenset[TaskVersion] = frozenset()
PAGING = ("wait", "log_limit", "offset")  # parameters that differ in the address of another page


@get("/tasks/{id:str}", responses=answers(None, UNMODIFIED) | problems(412))
async def get_task(  # noqa: PLR0913 (the parameters of the query, and headers)
    request: AnyRequest,
    id: Id,
    log_limit: Annotated[int, QueryParameter(ge=0, le=1000, description="Number of log entries at most.")] = 10,
    offset: Offset = 0,
    log_order: Annotated[
        LogOrder, QueryParameter(description="`asc`: oldest entry first. `desc`: newest first.")
    ] = LogOrder.ASC,
    wait: Annotated[
        int | None,
        QueryParameter(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for a change before answering."),
    ] = None,
    _prefer: Annotated[str, HeaderParameter(name="Prefer", description="`wait=30`: as `wait`.")] = "",
    _known: KnownTags = "",
) -> Response[Task]:
    """Return one task with a page of its log. Poll this until `state.code` is `DONE` or `ERROR` without `Retry-After`.

    An ended task with another run in the queue has `Retry-After`, as every task that has not ended.
    With `wait` it answers once the task differs from the `ETag` in `If-None-Match`; without one, at the next change.
    `X-Log-Length` is the number of log entries; `Link` has the addresses of the next and the last page.
    """
    service, caller = service_and_caller(request)
    task = task_id(id)
    seconds = preferred_wait(request) if wait is None else wait
    lines = request.headers.getall("if-none-match", [])
    tags = conditional.parse_tags(lines)
    known = known_versions(tags, id)
    page = LogPage(log_limit, offset, newest_first=log_order is LogOrder.DESC)
    headers = {} if wait is not None or seconds is None else {"Preference-Applied": f"wait={seconds}"}
    if seconds:
        tagged = ",".join(lines).strip() not in ("", conditional.ANY)
        polled, body = await _changed(request, LongPoll(task, seconds, known if tagged else None, page))
    else:
        polled, body = await _read(service, caller, task, page, known)
    conditional.require_task_match(request, id, polled.version.revision)
    headers |= conditional.task_headers(id, polled)
    if isinstance(polled, PolledTask) and polled.created_by is not None:
        headers["X-Created-By"] = polled.created_by
    if polled.version in known or (tags is not None and tags.any and not seconds):
        return BytesResponse(b"", headers, 304)
    return BytesResponse(body, headers | _pages(request, page, polled.log_length))


def _pages(request: AnyRequest, page: LogPage, length: int) -> dict[str, str]:
    """Return the `Link` field (RFC 8288) to the next and the last page of a log of this length, where there are any."""
    if not page.limit or page.offset + page.limit >= length:
        return {}
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in PAGING]

    def link(rel: str, offset: int) -> str:
        query = urlencode([*kept, ("log_limit", page.limit), ("offset", offset)])
        return f'<{request.url.path}?{query}>; rel="{rel}"'

    last = (length - 1) // page.limit * page.limit
    return {"Link": f"{link('next', page.offset + page.limit)}, {link('last', last)}"}


async def _read(
    service: Service, caller: Caller, task: TaskId, page: LogPage, known: frozenset[TaskVersion]
) -> tuple[PolledStatus, bytes]:
    """Return a task as its caller may see it, and its JSON; its status alone where its version is known."""
    if known:
        status = await service.batched_reads.status(caller.chain, task)
        if status.version in known:
            return status, b""
    polled = await queries.poll(service.pool, caller.chain, task, page)
    visible = visible_task(caller, service.catalog, polled.task, polled.reads)
    return msgspec.structs.replace(polled, task=visible), encode(visible)


async def _changed(request: AnyRequest, poll: LongPoll) -> tuple[PolledStatus, bytes]:
    """Return a task and its JSON once its revision is not a known one, or after the seconds of the poll.

    Progress wakes no waiter, so after that time the task is read again. Each read checks the level that the caller has
    at that time.
    """
    service, caller = service_and_caller(request)
    deadline = asyncio.get_running_loop().time() + poll.seconds
    with service.waiters.of(poll.task) as waiter:
        polled, body = await _read(service, caller, poll.task, poll.page, poll.known or NO_VERSIONS)
        if poll.known is not None:
            seen = {version.revision for version in poll.known}
        else:  # a task that has ended is answered at once
            seen = set() if polled.settled else {polled.version.revision}
        if polled.version.revision in seen:
            async with held_open(request, waiter) as opened:  # polls that are answered at once do not count
                while polled.version.revision in seen:
                    waiter.revision = polled.version.revision
                    in_time = await waiter.wait(deadline - asyncio.get_running_loop().time())
                    caller = opened.caller
                    if not in_time:
                        return await _read(service, caller, poll.task, poll.page, poll.known or NO_VERSIONS)
                    last = frozenset({polled.version})
                    # Callers with equal rights share one answer.
                    key = (poll.task, poll.page, caller.chain, caller.level, caller.limits, last)
                    reading = partial(_read, service, caller, poll.task, poll.page, last)
                    polled, body = await service.waiters.shared(key, waiter, reading)
        if isinstance(polled, PolledTask):
            return polled, body
        return await _read(service, caller, poll.task, poll.page, NO_VERSIONS)
