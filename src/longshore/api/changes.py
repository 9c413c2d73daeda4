"""Changes of a task by its clients: change, cancel, delete; and a look at the times of a trigger."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Response, delete, patch, post
from litestar.params import Parameter

from longshore.access import audit
from longshore.api.access import AnyRequest, actor, admitted
from longshore.api.bodies import BODY, read_json
from longshore.api.documentation import problems, taking
from longshore.api.limits import may_change_task, may_have
from longshore.api.new_task import Trigger, check_schedule
from longshore.api.revisions import known, tag
from longshore.api.tasks import Id, read_task, task_id
from longshore.exports import export, schemas
from longshore.faults import Fault, FaultyError, check
from longshore.results.store import StoreAwayError, StoreError
from longshore.tasks import changing, ending, read
from longshore.tasks.ending import same_times
from longshore.tasks.lifecycle import NeverDueError
from longshore.tasks.model import Task
from longshore.tasks.schedule import Schedule, preview

log = structlog.get_logger()

SHOWN = 10  # times of a trigger

SCHEDULED = tuple(field.name for field in msgspec.structs.fields(Schedule))


class TaskChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What `PATCH /tasks/{id}` takes. What is named is replaced as a whole, the rest stays."""

    desc: str | None = None
    target: Any = None
    trigger: Trigger | None = None
    debug: str | None = None


class TriggerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /tasks/preview` takes."""

    trigger: Trigger


class Times(msgspec.Struct, frozen=True):
    """When a task with a trigger would run."""

    times: list[datetime]
    """The next ten at most, in UTC; the first is now where `once` has passed."""


@patch(
    "/tasks/{id:str}",
    operation_class=taking(TaskChange),
    responses=problems(400, 404, 409, 412, 413, 415),
)
async def change_task(
    request: AnyRequest,
    id: Id,
    body: bytes,
    if_match: Annotated[
        str, Parameter(header="If-Match", description="`ETag` that the task must have; 412 where it has another.")
    ] = "",
) -> Response[Task]:
    """Change a task that does not run. A trigger with other times is planned anew, as that of a new task is."""
    service, caller = admitted(request)
    chain, task = caller.chain, task_id(id)
    given = read_json(request, body)
    faults: list[Fault] = []
    check(TaskChange, given, "", faults)
    if faults:
        raise FaultyError(faults)
    async with service.pool.acquire() as connection, connection.transaction():
        old = await may_change_task(service, caller, connection, task)
        if if_match.strip() not in ("", "*") and old.revision not in known(if_match, id):
            raise changing.ChangedMeanwhileError
        stored = {key: BODY.decode(getattr(old, key)) for key in ("trigger", "target")}
        value: dict[str, Any] = {"chain": chain, "desc": old.desc, "debug": old.debug, **stored}
        value |= {key: part for key, part in given.items() if part is not None}
        new = await read_task(service, caller, value)
        await may_have(caller, service, connection, new.target, new.trigger)
        if (shape := export.pinned(new.target, service.catalog)) is not None:
            await schemas.remember(connection, chain, shape)
        # A schedule that was cancelled begins anew with any trigger, also with the same one.
        planned_anew = (old.schedule_ended and "trigger" in given) or not same_times(new.trigger, old.trigger)
        who = actor(request)
        why = f"changed by {who.name}: {', '.join(given) or 'nothing'}"
        definer = who.name if {"target", "trigger"} & given.keys() else None
        await changing.change(connection, task, old.revision, new, why, planned_anew=planned_anew, defined_by=definer)
        await audit.record(connection, who, chain, "task.change", f"task {task}")
        found = await read.reading(connection, chain, task, 10, 0)
    headers = {"ETag": tag(id, found.revision)}
    return Response(found.task, headers=headers)  # type: ignore[arg-type]  # which `reading` gives


@post(
    "/tasks/{id:str}/cancel",
    status_code=200,
    responses=problems(400, 404, 409),
)
async def cancel_task(request: AnyRequest, id: Id) -> Task:
    """Cancel a task that waits or runs, and all later runs of it.

    It can be executed again, once each time; only a changed trigger begins a schedule anew.
    """
    service, caller = admitted(request)
    chain, task = caller.chain, task_id(id)
    async with service.pool.acquire() as connection, connection.transaction():
        await may_change_task(service, caller, connection, task)
        who = actor(request)
        await ending.cancel(connection, chain, task, who.name)
        await audit.record(connection, who, chain, "task.cancel", f"task {task}")
    return await read.get(service.pool, chain, task, 10, 0)


@delete("/tasks/{id:str}", responses=problems(400, 404, 409))
async def delete_task(request: AnyRequest, id: Id) -> None:
    """Delete a task that does not run, with its log, its runs and their results."""
    service, caller = admitted(request)
    chain, task = caller.chain, task_id(id)
    async with service.pool.acquire() as connection, connection.transaction():
        await may_change_task(service, caller, connection, task)
        await changing.delete(connection, chain, task)
        await audit.record(connection, actor(request), chain, "task.delete", f"task {task}")
    try:
        await asyncio.to_thread(service.store.remove_task, chain, task)
    except (StoreError, StoreAwayError) as error:
        log.warning("results of a deleted task left to the task cleanup", task=task, error=str(error))


@post(
    "/tasks/preview",
    status_code=200,
    operation_class=taking(TriggerBody),
    responses=problems(400, 413, 415),
)
async def preview_trigger(request: AnyRequest, body: bytes) -> Times:
    """When a task with this trigger would run: the next ten times at most."""
    service, _ = admitted(request)
    value = read_json(request, body)
    faults: list[Fault] = []
    check(TriggerBody, value, "", faults)
    if isinstance(value, dict) and isinstance(value.get("trigger"), dict):
        faults += check_schedule(value["trigger"], "/trigger")
    if faults:
        raise FaultyError(faults)
    chosen = {key: part for key, part in value["trigger"].items() if key in SCHEDULED and part is not None}
    now = await service.pool.fetchval("select now()")
    times = preview(msgspec.convert(chosen, Schedule), now, SHOWN)
    if not times:
        raise NeverDueError
    return Times([time.replace(microsecond=0) for time in times])
