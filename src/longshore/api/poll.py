"""The heart: `GET /tasks/{id}`, polled with or without an `ETag`, or waiting for a change."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.params import Parameter

from longshore.access.tokens import Caller
from longshore.api import revisions
from longshore.api.access import AnyRequest, admitted
from longshore.api.bodies import Encoded
from longshore.api.documentation import answers, problems
from longshore.api.limits import shown_task
from longshore.api.paging import Offset
from longshore.api.revisions import LONGEST_WAIT, preferred_wait
from longshore.api.service import Service
from longshore.api.tasks import Id, encode, task_id
from longshore.api.waiting import waiting
from longshore.tasks import read
from longshore.tasks.model import Task, TaskId

Reader = Callable[[tuple[int, ...]], Awaitable[read.Reading]]
"""Reads a task, unless its revision is one of those given."""


@get(
    "/tasks/{id:str}",
    opt={"parameters": ("log_limit", "offset", "wait")},
    responses=problems(400, 404) | answers(None, {304: "The task is as `If-None-Match` names it."}),
)
async def get_task(
    request: AnyRequest,
    id: Id,
    log_limit: Annotated[int, Parameter(ge=0, le=1000, description="How many log entries to give at most.")] = 10,
    offset: Offset = 0,
    wait: Annotated[
        int | None, Parameter(ge=0, le=LONGEST_WAIT, description="Seconds to wait for a change before answering.")
    ] = None,
    prefer: Annotated[str, Parameter(header="Prefer", description="`wait=30`: as `wait`.")] = "",
    if_none_match: Annotated[
        str, Parameter(header="If-None-Match", description="`ETag` of the task as you know it: 304 if it still is so.")
    ] = "",
) -> Response[Task]:
    """One task, with a page of its log, oldest entry first. Poll this until `state.code` is `DONE` or `ERROR`.

    With `wait` it answers once the task differs from the `ETag` in `If-None-Match`, or without one, from now.
    """
    service, caller = admitted(request)
    chain, task = caller.chain, task_id(id)
    seconds = preferred_wait(prefer) if wait is None else wait
    known = revisions.known(if_none_match, id)
    reading = partial(_reading, service, caller, task, log_limit, offset)
    headers = {} if wait is not None or seconds is None else {"Preference-Applied": f"wait={seconds}"}
    if seconds:
        tagged = if_none_match.strip() not in ("", "*")
        key = (chain, task, log_limit, offset, caller.level, caller.limits)  # who may see the same
        found, body = await _changed(request, service, task, seconds, known if tagged else None, key, reading)
    else:
        found = await reading(known)
        body = encode(found.task) if found.task else b""
    headers |= revisions.headers(id, found)
    if found.created_by is not None:
        headers["X-Created-By"] = found.created_by
    if found.revision in known or (if_none_match.strip() == "*" and not seconds):
        return Encoded(b"", headers, 304)
    return Encoded(body, headers)


async def _reading(
    service: Service, caller: Caller, task: TaskId, log_limit: int, offset: int, known: tuple[int, ...]
) -> read.Reading:
    """A task as its caller may see it, which is left out where its revision is one of those known."""
    if known:
        standing = await service.polls.standing(caller.chain, task)
        if standing.revision in known:
            return standing
    found = await read.reading(service.pool, caller.chain, task, log_limit, offset)
    assert found.task is not None
    return msgspec.structs.replace(found, task=shown_task(caller, service.catalog, found.task, found.reads))


async def _changed(
    request: AnyRequest,
    service: Service,
    task: TaskId,
    seconds: int,
    known: tuple[int, ...] | None,
    key: Hashable,
    reading: Reader,
) -> tuple[read.Reading, bytes]:
    """The task and its JSON, once it differs from what is known, or when so many seconds have passed.

    `known`: None where the client has not said, and wants the next change from now.
    """

    async def encoded(known: tuple[int, ...]) -> tuple[read.Reading, bytes]:
        found = await reading(known)
        return found, encode(found.task)

    deadline = asyncio.get_running_loop().time() + seconds
    async with waiting(request, task) as waiter:
        first = found, body = await encoded(known or ())
        asked = known
        if asked is None:  # a task that has ended is what everybody waits for
            asked = () if found.settled else (found.revision,)
        while found.revision in asked:
            waiter.revision = found.revision
            if not await waiter.wait(deadline - asyncio.get_running_loop().time()):
                break
            found, body = await service.watch.shared((key, asked), waiter, partial(encoded, asked))
        # In vain, the last reading left the task out, which a client without an ETag has to get all the same.
        return (found, body) if found.task or known else first
