"""`GET /tasks/{id}/events`: changes of a task as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html. An event's id is `<revision>-<log entries seen>`, so
that a client that sends it in `Last-Event-ID` misses nothing and gets nothing twice. Progress has no id: a client that
missed one needs the newest alone.
"""

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import HeaderParameter
from litestar.response import Stream

from longshore.access.open_requests import OpenRequest
from longshore.access.tokens import ForbiddenError, UnauthorizedError
from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest, Service
from longshore.api.tasks import Id, task_id
from longshore.api.visibility_checks import visible_entry
from longshore.api.waiting import stay_open
from longshore.errors import NotFoundError
from longshore.exports.rights import may_see_task
from longshore.tasks import progress, queries
from longshore.tasks.model import ChainId, StateCode, TaskId
from longshore.tasks.waiters import Waiter

HEARTBEAT_SECONDS = 15.0  # between two comments in a quiet stream
RECONNECT = b"retry: 2000\n\n"  # milliseconds
LAST_ID = re.compile(r"(\d{1,18})-(\d{1,9})")

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@get("/tasks/{id:str}/events", media_type="text/event-stream")
async def stream_task_events(
    request: AnyRequest,
    id: Id,
    last_event_id: Annotated[
        str, HeaderParameter(name="Last-Event-ID", description="The id of the last event seen; go on behind it.")
    ] = "",
) -> Stream:
    """Stream the changes of a task: `state`, `log`, `progress` and, when nothing more comes, `end`.

    The last event is `unauthorized` where the credential has ended or its level has become too low.
    """
    service, caller = service_and_caller(request)
    task = task_id(id)
    status = await queries.status(service.pool, caller.chain, task)
    opened = stay_open(request)
    match = LAST_ID.fullmatch(last_event_id)
    position = (int(match[1]), int(match[2])) if match else (0, 0)
    if position[0] > status.revision or position[1] > status.log_length:  # this task has sent no such id
        position = (0, 0)

    async def events() -> AsyncIterator[bytes]:
        with service.waiters.of(task) as waiter:
            opened.on_end(waiter.end)
            try:
                async for event in _events(service, waiter, opened, task, position):
                    yield event
            except (UnauthorizedError, ForbiddenError):
                yield _event("unauthorized", None)

    return Stream(events(), headers=HEADERS)


async def _events(
    service: Service, waiter: Waiter, opened: OpenRequest, task: TaskId, position: tuple[int, int]
) -> AsyncIterator[bytes]:
    """Yield the events of a task behind a position: a revision, and the log entries seen."""
    chain, (revision, seen) = opened.caller.chain, position
    yield RECONNECT
    last_progress = None
    while not service.waiters.closing:
        waiter.raise_error()
        try:
            changes = await _changes(service, waiter, chain, task, seen)
        except NotFoundError:  # deleted meanwhile
            yield _event("end", None)
            return
        waiter.revision = changes.revision
        whole = may_see_task(opened.caller, service.catalog, changes.target, changes.trigger, changes.reads)
        for entry in changes.logs:
            waiter.raise_error()
            seen += 1
            yield _event("log", entry if whole else visible_entry(entry), f"{revision}-{seen}")
        if changes.more:
            continue
        if changes.revision > revision:
            revision = changes.revision
            yield _event("state", changes.state, f"{revision}-{seen}")
        if changes.settled:
            yield _event("end", changes.state, f"{revision}-{seen}")
            return
        if whole and changes.state.code == StateCode.INPROGRESS:
            so_far = await _progress(service, waiter, chain, task)
            if so_far != last_progress:
                yield so_far
                last_progress = so_far
        while not service.waiters.closing and not await waiter.wait(HEARTBEAT_SECONDS):
            yield b":\n\n"


async def _changes(service: Service, waiter: Waiter, chain: ChainId, task: TaskId, seen: int) -> queries.TaskChanges:
    reading = partial(queries.since, service.pool, chain, task, seen)
    return await service.waiters.shared(("changes", chain, task, seen), waiter, reading)


async def _progress(service: Service, waiter: Waiter, chain: ChainId, task: TaskId) -> bytes:
    async def reading() -> bytes:
        found, _ = await progress.read(service.pool, chain, task, service.settings.heartbeat_timeout)
        return _event("progress", found)

    return await service.waiters.shared(("progress", chain, task), waiter, reading)


def _event(name: str, data: object, id: str | None = None) -> bytes:
    text = b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n"
    return text + (b"id: " + id.encode() if id else b"") + (b"\n\n" if id else b"\n")
