"""The resource `tasks`: create, list, execute, progress, runs. Reading one is in `poll`."""

import hashlib
from functools import partial
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.params import Parameter

from longshore.access import audit
from longshore.access.tokens import Caller
from longshore.api.access import AnyRequest, actor, admitted
from longshore.api.bodies import Encoded, read_json
from longshore.api.documentation import answers, problems, taking
from longshore.api.limits import may_export, refuse_hidden_fields, refuse_hidden_rules
from longshore.api.new_task import NewTaskBody, read_new_task
from longshore.api.paging import FAR, Limit, Offset, next_page
from longshore.api.problems import ProblemError
from longshore.api.requests import concerns
from longshore.api.service import Service
from longshore.api.waiting import waiting
from longshore.exports import export, schemas, stored_segments
from longshore.exports.export import ExportTarget
from longshore.exports.manifest import Manifest
from longshore.tasks import idempotency, lifecycle, progress, read
from longshore.tasks.model import ChainId, Code, Progress, Run, State, Task, TaskId

LARGEST = 2**63 - 1
PRINTABLE = r"^[^\x00-\x1f]*$"  # PostgreSQL takes no U+0000

encode = msgspec.json.Encoder().encode
CANONICAL = msgspec.json.Encoder(decimal_format="number", order="sorted")

Id = Annotated[int, Parameter(ge=1, description="Number of the task.")]


@post(
    "/tasks",
    operation_class=taking(NewTaskBody),
    responses=problems(400, 413, 415, 422),
)
async def create_task(
    request: AnyRequest,
    body: bytes,
    idempotency_key: Annotated[
        str | None,
        Parameter(
            header="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]+$",
            description="The same key and body within 24 hours give the same task and answer.",
        ),
    ] = None,
) -> Response[Task]:
    """Create a task. It runs at `trigger.once`, or now if that has passed."""
    service, caller = admitted(request)
    value = read_json(request, body)
    digest = hashlib.sha256(CANONICAL.encode(value)).digest()
    if idempotency_key and (kept := await idempotency.find(service.pool, caller.chain, idempotency_key, digest)):
        return _created(*kept, replayed=True)
    index_of = partial(stored_segments.index_of, service.pool, caller.chain)
    pinned_of = partial(schemas.remembered, service.pool, caller.chain)
    new = await read_new_task(value, service.catalog, service.actions, index_of, pinned_of)
    if new.chain != caller.chain:
        raise ProblemError("forbidden", f"The credential is for chain {caller.chain}, the body says {new.chain}.")
    await may_have(caller, service, new.target, new.trigger)
    async with service.pool.acquire() as connection, connection.transaction():
        if not idempotency_key or await idempotency.claim(connection, caller.chain, idempotency_key, digest):
            id = await lifecycle.create(connection, new)
            await audit.record(connection, actor(request), caller.chain, "task.create", f"task {id}")
            if (shape := export.pinned(new.target, service.catalog)) is not None:
                await schemas.remember(connection, new.chain, shape)
            answer = encode(await read.get(connection, caller.chain, id, 10, 0))
            if idempotency_key:
                await idempotency.keep(connection, caller.chain, idempotency_key, id, answer)
            return _created(id, answer)
    assert idempotency_key
    kept = await idempotency.find(service.pool, caller.chain, idempotency_key, digest)
    assert kept, "a key that is claimed is kept for a day"
    return _created(*kept, replayed=True)


async def may_have(caller: Caller, service: Service, target: str, trigger: str) -> None:
    """Raise what keeps a caller from a task of this target and trigger, which were checked: what it may not see.

    ForbiddenError, HiddenError.
    """
    if msgspec.json.decode(target)["action"] != "export":
        return
    asked = msgspec.json.decode(target, type=ExportTarget)
    index = service.catalog.get(asked.export_index)
    if index is None:  # the catalog has it no more
        return
    may_export(caller, asked.export_index, index, "/target/export_index")
    if caller.limits is None:
        return
    refuse_hidden_fields(caller, asked.export_index, index, asked.fields, "/target/fields")
    rules = export.TRIGGER.decode(trigger)
    if rules.segment is not None:
        refuse_hidden_rules(caller, rules.segment, "/trigger/segment")
    stored = stored_segments.as_id(rules.segment_id or "")
    if stored is not None:
        try:
            found = await stored_segments.get(service.pool, caller.chain, stored)
        except stored_segments.SegmentNotFoundError:
            return  # deleted since; a new task's was looked for before
        refuse_hidden_rules(caller, stored_segments.READ.decode(found.segment), "/trigger/segment_id")


def _created(id: TaskId, answer: bytes, *, replayed: bool = False) -> Response[Task]:
    concerns(task=id)
    headers = {"Location": f"/tasks/{id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Encoded(answer, headers, 201)


@get(
    "/tasks",
    opt={"parameters": ("status", "action", "campaign_id", "limit", "offset")},
    responses=problems(400),
)
async def list_tasks(
    request: AnyRequest,
    status: Annotated[Code | None, Parameter(description="Only tasks in this state.")] = None,
    action: Annotated[
        str | None, Parameter(description="Only tasks of this action.", max_length=100, pattern=PRINTABLE)
    ] = None,
    campaign_id: Annotated[int | None, Parameter(ge=1, le=LARGEST, description="Only tasks of this campaign.")] = None,
    limit: Limit = 25,
    offset: Offset = 0,
) -> Response[list[Task]]:
    """The chain's tasks, newest first, each with its ten newest log entries at most."""
    service, caller = admitted(request)
    tasks, more = await read.list_tasks(service.pool, caller.chain, status, action, campaign_id, limit, offset)
    return Response(tasks, headers=next_page(request, more, limit, offset))


@post(
    "/tasks/{id:str}/execute",
    status_code=200,
    responses=problems(400, 404, 409) | answers(State, {202: "The run was asked for (`Prefer: respond-async`)."}),
)
async def execute_task(
    request: AnyRequest,
    id: Id,
    prefer: Annotated[str, Parameter(header="Prefer", description="`respond-async`: do not wait for the end.")] = "",
) -> Response[State]:
    """Run a task now, whatever its trigger says. Answers its state when the run is over."""
    service, caller = admitted(request)
    chain, task = caller.chain, task_id(id)
    if "respond-async" in preferences(prefer):
        await _execute(request, chain, task)
        standing = await read.standing(service.pool, chain, task)
        headers = {"Location": f"/tasks/{task}", "Preference-Applied": "respond-async"}
        return Response(standing.state, status_code=202, headers=headers)
    async with waiting(request, task) as waiter:  # before the run is asked for, as there may be too many who wait
        run = await _execute(request, chain, task)
        return Response(await service.watch.until_run_ended(waiter, chain, task, run))


async def _execute(request: AnyRequest, chain: ChainId, task: TaskId) -> int:
    service, _ = admitted(request)
    async with service.pool.acquire() as connection, connection.transaction():
        await read.standing(connection, chain, task)
        run = await lifecycle.execute(connection, chain, task)
        await audit.record(connection, actor(request), chain, "task.execute", f"task {task}")
    return run


@get("/tasks/{id:str}/progress", responses=problems(400, 404))
async def get_progress(request: AnyRequest, id: Id) -> Progress:
    """How far the newest run of a task is: rows, speed, time left, signs of life, and what comes next."""
    service, caller = admitted(request)
    return await progress.read(service.pool, caller.chain, task_id(id), service.settings.heartbeat_timeout)


@get(
    "/tasks/{id:str}/runs",
    opt={"parameters": ("limit", "offset")},
    responses=problems(400, 404),
)
async def list_runs(request: AnyRequest, id: Id, limit: Limit = 25, offset: Offset = 0) -> Response[list[Run]]:
    """The runs of a task, newest first, with what each left behind."""
    service, caller = admitted(request)
    runs, more = await read.runs(service.pool, caller.chain, task_id(id), limit, offset)
    return Response(runs, headers=next_page(request, more, limit, offset))


@get(
    "/tasks/{id:str}/runs/{run:str}/manifest",
    responses=problems(400, 404),
)
async def get_manifest(
    request: AnyRequest, id: Id, run: Annotated[int, Parameter(ge=1, le=FAR, description="Number of the run.")]
) -> Response[Manifest]:
    """What the result of a run is, byte for byte as the next run's manifest names it: hashes, counts, fields, rules."""
    service, caller = admitted(request)
    text = await read.manifest(service.pool, caller.chain, task_id(id), run)
    if text is None:
        raise ProblemError("run-not-found", f"Task {id} has no run {run} that left a result.")
    return Encoded(text.encode(), {})


def task_id(number: int) -> TaskId:
    """A path's number as a task's id. A number beyond PostgreSQL's range is a task that does not exist."""
    if number > LARGEST:
        raise read.TaskNotFoundError
    return TaskId(number)


def preferences(header: str) -> set[str]:
    """The preferences that a `Prefer` header names (RFC 7240), without their values."""
    return {part.split(";")[0].split("=")[0].strip().lower() for part in header.split(",")}
