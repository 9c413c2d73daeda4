"""The schedule of a task: pause, resume, and backfills."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, post
from litestar.params import PathParameter, RawBody

from longshore.api.audited_changes import audited, audited_in
from longshore.api.bodies import check_body, read_json, read_optional_json, time_violations
from longshore.api.execute import refuse_without_intervals
from longshore.api.guard import actor, service_and_caller
from longshore.api.idempotency_key import REPLAYED, IdempotencyKey, claim_of
from longshore.api.openapi_responses import problems
from longshore.api.paging import MAX_OFFSET, Limit, Offset, page_response
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.api.visibility_checks import refuse_hidden_run
from longshore.database.connect import Connection
from longshore.database.rows import Page
from longshore.errors import NotFoundError
from longshore.tasks import backfills, idempotency, pauses, queries, requests
from longshore.tasks.backfills import BackfillRange
from longshore.tasks.idempotency import StoredAnswer
from longshore.tasks.model import Backfill, NewBackfill, Task
from longshore.tasks.pauses import CatchUp, schedule_of
from longshore.validation import Violation

BackfillNumber = Annotated[int, PathParameter(ge=1, le=MAX_OFFSET, description="Number of the backfill.")]


class ResumeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /tasks/{id}/resume`, which may be left out.

    `catch_up`: the handling of the runs that were missed until now, in place of the trigger's `catch_up`.
    """

    catch_up: CatchUp | None = None


@post("/tasks/{id:str}/pause", opt={"conditional": True}, status_code=200, responses=problems(409))
async def pause_task(request: AnyRequest, id: Id) -> Task:
    """Pause the schedule of a task: a run that has begun ends as usual, and no further one begins.

    `execute` still runs the task, once each time. Pausing a paused task changes nothing.
    """
    service, caller = service_and_caller(request)
    task = task_id(id)
    async with audited(request, "task.pause", f"task {task}") as change:
        locked = await lock_to_change(request, change.connection, task)
        change.happens = await pauses.pause(change.connection, caller.chain, task, locked, actor(request).name)
    return await queries.get(service.pool, caller.chain, task)


@post(
    "/tasks/{id:str}/resume", opt={"conditional": True, "optional_body": True}, status_code=200, responses=problems(409)
)
async def resume_task(request: AnyRequest, id: Id, body: Annotated[RawBody, ResumeBody]) -> Task:
    """Resume a paused schedule. `catch_up` decides on the runs that were missed meanwhile.

    Resuming a task that is not paused changes nothing.
    """
    value = read_optional_json(request, body)
    service, caller = service_and_caller(request)
    task = task_id(id)
    wanted = check_body(ResumeBody, value)
    async with audited(request, "task.resume", f"task {task}", value or None) as change:
        locked = await lock_to_change(request, change.connection, task)
        by = actor(request).name
        change.happens = await pauses.resume(change.connection, task, locked, by, wanted.catch_up)
    return await queries.get(service.pool, caller.chain, task)


@post("/tasks/{id:str}/backfill", opt={"conditional": True}, status_code=202, responses=problems(409))
async def create_backfill(
    request: AnyRequest, id: Id, body: Annotated[RawBody, BackfillRange], idempotency_key: IdempotencyKey = None
) -> Response[NewBackfill]:
    """Run the schedule's times after `start` and up to `end` that have come, also those before `once`.

    The runs begin oldest first and one at a time; a run of the schedule that is due goes first. A run in `ERROR` does
    not stop the others.
    """
    value = read_json(request, body)
    claim = claim_of(request, idempotency_key, value)
    service, _ = service_and_caller(request)
    task, wanted = task_id(id), check_body(BackfillRange, value, _check_range)

    async def make(connection: Connection) -> StoredAnswer:
        async with audited_in(connection, request, "task.backfill", f"task {task}") as change:
            found = await lock_to_change(request, connection, task)
            schedule = schedule_of(found)
            refuse_without_intervals(found)
            made = await backfills.create(connection, task, schedule, wanted, actor(request).name)
            change.details = {**value, "backfill": made.id, "runs": made.runs}
        return StoredAnswer(task, msgspec.json.encode(made))

    kept, replayed = await idempotency.once(service.pool, claim, make)
    headers = {"Location": f"/tasks/{id}/backfills", **(REPLAYED if replayed else {})}
    return Response(msgspec.json.decode(kept.answer, type=NewBackfill), headers=headers)


def _check_range(wanted: BackfillRange) -> list[Violation]:
    violations = time_violations(wanted.start, "/start") + time_violations(wanted.end, "/end")
    if not violations and wanted.end <= wanted.start:
        violations.append(Violation("expected a time after `start`", "/end"))
    return violations


@get("/tasks/{id:str}/backfills")
async def list_backfills(
    request: AnyRequest, id: Id, limit: Limit = 25, offset: Offset = 0
) -> Response[list[Backfill]]:
    """Return the backfills of a task with their progress, newest first."""
    service, caller = service_and_caller(request)
    whole = await requests.editable(service.pool, caller.chain, task_id(id))
    refuse_hidden_run(caller, service.catalog, whole.reads)
    page = Page(limit, offset)
    return page_response(request, await backfills.of_task(service.pool, caller.chain, task_id(id), page), page)


@delete("/tasks/{id:str}/backfills/{backfill:str}", opt={"conditional": True})
async def end_backfill(request: AnyRequest, id: Id, backfill: BackfillNumber) -> None:
    """End a backfill: a run that has begun finishes, and no further one begins. Repeating this changes nothing."""
    _, caller = service_and_caller(request)
    task = task_id(id)
    async with audited(request, "task.backfill.end", f"task {task}", {"backfill": backfill}) as change:
        await lock_to_change(request, change.connection, task)
        if not await backfills.exists(change.connection, task, backfill):
            raise NotFoundError("backfill-not-found", f"Task {id} has no backfill {backfill}.")
        by = actor(request).name
        change.happens = await backfills.end(change.connection, caller.chain, task, backfill, by)
