"""The resource `tasks`: create, list, progress. `poll` reads one task, `execute` runs it, `runs` has its runs."""

from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import HeaderParameter, PathParameter, QueryParameter, RawBody

from longshore.access.tokens import Caller
from longshore.api import conditional
from longshore.api.audited_changes import audited_in
from longshore.api.bodies import BytesResponse, read_json
from longshore.api.conditional import require_task_match
from longshore.api.guard import actor, service_and_caller
from longshore.api.idempotency_key import REPLAYED, IdempotencyKey, claim_of
from longshore.api.ids import number_of
from longshore.api.middleware import bind_ids
from longshore.api.new_task import NewTaskBody, read_new_task
from longshore.api.openapi_responses import problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.prefer import preferences
from longshore.api.service import AnyRequest, Service
from longshore.api.task_secrets import read_secrets, with_secret_digests
from longshore.api.visibility_checks import changeable_task, refuse_hidden_run, refuse_hidden_task_body, visible_task
from longshore.database.connect import Connection
from longshore.database.rows import MAX_BIGINT, Page
from longshore.exports import schemas
from longshore.exports.target.check import pinned_shapes
from longshore.tasks import idempotency, progress, queries, quotas, requests, task_secrets
from longshore.tasks.idempotency import Claim, StoredAnswer
from longshore.tasks.model import Progress, StateCode, Task, TaskId
from longshore.tasks.queries import TaskFilter
from longshore.tasks.requests import EditableTask

PRINTABLE = r"^[^\x00-\x1f]*\Z"  # PostgreSQL takes no U+0000

encode = msgspec.json.Encoder().encode

Id = Annotated[int, PathParameter(ge=1, description="Number of the task.")]


@post("/tasks", responses=problems(404, 409))
async def create_task(
    request: AnyRequest,
    body: Annotated[RawBody, NewTaskBody],
    idempotency_key: IdempotencyKey = None,
    _prefer: Annotated[
        str,
        HeaderParameter(
            name="Prefer",
            description="`retry-failed`: a new task where the one of the `Idempotency-Key` ended in `ERROR`.",
        ),
    ] = "",
) -> Response[Task]:
    """Create a task. It runs at `trigger.once`, or now if that has passed."""
    service, _ = service_and_caller(request)
    value = read_json(request, body)
    claim = claim_of(request, idempotency_key, *(with_secret_digests(service, value) if idempotency_key else ()))
    return _created(*await create(request, value, claim))


async def create(request: AnyRequest, value: Any, claim: Claim | None) -> tuple[queries.PolledTask, dict[str, str]]:
    """Create the task of a body, once for a claim; return it with header fields of the answer. Raises ProblemError."""
    service, caller = service_and_caller(request)
    refuse_hidden_task_body(caller, service.catalog, value)
    # The outcome of an earlier request does not depend on whether the body is still valid.
    if (earlier := await idempotency.find(service.pool, claim)) is not None:
        task = await _current(service, caller, earlier)
        if not _may_retry(request, task):
            return task, REPLAYED
    new, target = await read_new_task(caller, service, service.pool, value)

    async def make(connection: Connection) -> StoredAnswer:
        before = await quotas.usage(connection, caller.chain)
        async with audited_in(connection, request, "task.create") as change:
            secrets = await read_secrets(service, connection, new)
            id = await requests.create(connection, new, actor(request).name)
            if secrets is not None:
                await task_secrets.save(connection, service.vault, new.chain, id, secrets)
            change.object = f"task {id}"
        await quotas.check_tasks(connection, caller.chain, service.quotas, before)
        await schemas.save(connection, new.chain, pinned_shapes(target, service.catalog))
        return StoredAnswer(id, b"")

    kept, replayed = await idempotency.once(service.pool, claim, make)
    task = await _current(service, caller, kept)
    headers: dict[str, str] = {}
    if replayed and _may_retry(request, task):
        assert claim
        assert kept.task
        headers["Preference-Applied"] = "retry-failed"
        renewed = await idempotency.renew(service.pool, claim, kept.task, make)
        replayed = renewed is None
        kept = renewed or (await idempotency.once(service.pool, claim, make))[0]
        task = await _current(service, caller, kept)
    return task, headers | (REPLAYED if replayed else {})


def _may_retry(request: AnyRequest, task: queries.PolledTask) -> bool:
    """Return whether a repeated request may replace the task of the first one."""
    return "retry-failed" in preferences(request) and task.code == StateCode.ERROR and task.settled


def _created(task: queries.PolledTask, headers: dict[str, str]) -> Response[Task]:
    id = task.task.id
    bind_ids(task=id)
    headers = {**headers, "Location": f"/tasks/{id}"}
    return BytesResponse(encode(task.task), headers | conditional.task_headers(id, task), 201)


async def _current(service: Service, caller: Caller, kept: StoredAnswer) -> queries.PolledTask:
    """Return the task of an idempotency key as its caller may see it. Raises NotFoundError if it was deleted."""
    assert kept.task
    found = await queries.poll(service.pool, caller.chain, kept.task)
    return msgspec.structs.replace(found, task=visible_task(caller, service.catalog, found.task, found.reads))


@get("/tasks")
async def list_tasks(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    status: Annotated[StateCode | None, QueryParameter(description="Only tasks in this state.")] = None,
    action: Annotated[
        str | None, QueryParameter(description="Only tasks of this action.", max_length=100, pattern=PRINTABLE)
    ] = None,
    campaign_id: Annotated[
        int | None, QueryParameter(ge=1, le=MAX_BIGINT, description="Only tasks of this campaign.")
    ] = None,
    limit: Limit = 25,
    offset: Offset = 0,
) -> Response[list[Task]]:
    """Return the chain's tasks, newest first, each with its ten newest log entries."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    conditions = TaskFilter(status, action, campaign_id)
    listed, more = await queries.list_tasks(service.pool, caller.chain, conditions, page)
    tasks = [visible_task(caller, service.catalog, each.task, each.reads) for each in listed]
    return page_response(request, (tasks, more), page)


async def lock_to_change(request: AnyRequest, connection: Connection, task: TaskId) -> EditableTask:
    """Lock a task, so that nothing else changes it until the transaction ends, and return it.

    Raises NotFoundError, ForbiddenError where the caller may not change it, and
    ProblemError where it is not at the version that the request demands.
    """
    service, caller = service_and_caller(request)
    status = await queries.lock(connection, caller.chain, task)
    editable = await changeable_task(service, caller, connection, task)
    require_task_match(request, task, status.revision)
    return editable


@get("/tasks/{id:str}/progress")
async def get_task_progress(request: AnyRequest, id: Id) -> Progress:
    """Return the progress of a task's newest run: rows, speed, time left, heartbeat, and the next step."""
    service, caller = service_and_caller(request)
    timeout = service.settings.heartbeat_timeout
    found, reads = await progress.read(service.pool, caller.chain, task_id(id), timeout)
    refuse_hidden_run(caller, service.catalog, reads)
    return found


def task_id(number: int) -> TaskId:
    """Return a path's number as the id of a task. Raises NotFoundError beyond PostgreSQL's range."""
    return TaskId(number_of(number, "task-not-found"))
