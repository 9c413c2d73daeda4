"""The schedule of a task: pause and resume."""

from typing import Annotated

import msgspec
from litestar import post
from litestar.params import RawBody

from longshore.api.audited import audited
from longshore.api.bodies import read_optional_json
from longshore.api.documentation import problems
from longshore.api.guard import AnyRequest, actor, admitted
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.tasks import pauses, reads
from longshore.tasks.model import Task
from longshore.tasks.pauses import CatchUp
from longshore.validation import ValidationError, Violation, check


class Resumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /tasks/{id}/resume`, which may be left out."""

    catch_up: CatchUp | None = None
    """The handling of the runs that were missed until now, in place of the trigger's `catch_up`."""


@post("/tasks/{id:str}/pause", opt={"conditional": True}, status_code=200, responses=problems(409))
async def pause_task(request: AnyRequest, id: Id) -> Task:
    """Pause the schedule of a task: a run that has begun ends as usual, and no further one begins.

    `execute` still runs the task, once each time. Pausing a paused task changes nothing.
    """
    service, caller = admitted(request)
    task = task_id(id)
    async with audited(request, "task.pause", f"task {task}") as change:
        await lock_to_change(request, change.connection, task)
        change.happens = await pauses.pause(change.connection, caller.chain, task, actor(request).name)
    return await reads.get(service.pool, caller.chain, task)


@post(
    "/tasks/{id:str}/resume",
    opt={"conditional": True, "optional_body": True},
    status_code=200,
    responses=problems(409),
)
async def resume_task(request: AnyRequest, id: Id, body: Annotated[RawBody, Resumption]) -> Task:
    """Resume a paused schedule. `catch_up` decides on the runs that were missed meanwhile.

    Resuming a task that is not paused changes nothing.
    """
    service, caller = admitted(request)
    task = task_id(id)
    violations: list[Violation] = []
    wanted = check(Resumption, read_optional_json(request, body), "", violations)
    if violations or wanted is None:
        raise ValidationError(violations)
    async with audited(request, "task.resume", f"task {task}") as change:
        await lock_to_change(request, change.connection, task)
        change.details = {"catch_up": wanted.catch_up} if wanted.catch_up else None
        by = actor(request).name
        change.happens = await pauses.resume(change.connection, caller.chain, task, by, wanted.catch_up)
    return await reads.get(service.pool, caller.chain, task)
