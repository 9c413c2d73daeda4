"""The resource `tasks`: create, list, execute, progress, runs. Reading one is in `poll`."""

import hashlib
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import Parameter

from longshore.access import audit
from longshore.access.tokens import Caller
from longshore.api.access import AnyRequest, actor, admitted
from longshore.api.bodies import Encoded, read_json
from longshore.api.documentation import answers, problems, taking
from longshore.api.limits import (
    may_change_task,
    may_have,
    may_see_run,
    refuse_hidden_body,
    shown_task,
    visible_catalog,
)
from longshore.api.new_task import NewTaskBody, read_new_task
from longshore.api.paging import FAR, Limit, Offset, next_page
from longshore.api.problems import ProblemError
from longshore.api.requests import concerns
from longshore.api.service import Service
from longshore.api.waiting import waiting
from longshore.exports import export, schemas, stored_segments
from longshore.exports.catalog import Shape
from longshore.exports.manifest import Manifest
from longshore.exports.rights import sees
from longshore.tasks import idempotency, lifecycle, progress, read
from longshore.tasks.lifecycle import NewTask
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
    key = idempotency_key and idempotency.key_of(actor(request).name, idempotency_key)
    if key and (kept := await idempotency.find(service.pool, caller.chain, key, digest)):
        return await _replayed(service, caller, *kept)
    new = await read_task(service, caller, value)
    if new.chain != caller.chain:
        raise ProblemError("forbidden", f"The credential is for chain {caller.chain}, the body says {new.chain}.")
    await may_have(caller, service, service.pool, new.target, new.trigger)
    async with service.pool.acquire() as connection, connection.transaction():
        if not key or await idempotency.claim(connection, caller.chain, key, digest):
            id = await lifecycle.create(connection, new, actor(request).name)
            await audit.record(connection, actor(request), caller.chain, "task.create", f"task {id}")
            if (shape := export.pinned(new.target, service.catalog)) is not None:
                await schemas.remember(connection, new.chain, shape)
            answer = encode(await read.get(connection, caller.chain, id, 10, 0))
            if key:
                await idempotency.keep(connection, caller.chain, key, id, answer)
            return _created(id, answer)
    assert key
    kept = await idempotency.find(service.pool, caller.chain, key, digest)
    assert kept, "a key that is claimed is kept for a day"
    return await _replayed(service, caller, *kept)


async def read_task(service: Service, caller: Caller, value: Any) -> NewTask:
    """The task that a body asks for, as far as the caller may know of it.

    Raises ForbiddenError, HiddenError, and FaultyError with everything that is wrong with the body.
    """
    refuse_hidden_body(caller, service.catalog, value)
    index_of = partial(stored_segments.index_of, service.pool, caller.chain)

    async def pinned_of(pinned: str) -> Shape | None:
        # Somebody else's schema may name what is hidden from a token with limits.
        return None if caller.limits else await schemas.remembered(service.pool, caller.chain, pinned)

    catalog = visible_catalog(caller, service.catalog)
    return await read_new_task(value, catalog, service.actions, index_of, pinned_of)


async def _replayed(service: Service, caller: Caller, id: TaskId, answer: bytes) -> Response[Task]:
    kept = msgspec.json.decode(answer, type=_Kept)
    await may_have(caller, service, service.pool, bytes(kept.target), bytes(kept.trigger))
    return _created(id, answer, replayed=True)


class _Kept(msgspec.Struct, frozen=True):
    """What of an answer that was kept says whether it may be given again."""

    target: msgspec.Raw
    trigger: msgspec.Raw


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
    found, more = await read.list_tasks(service.pool, caller.chain, status, action, campaign_id, limit, offset)
    tasks = [shown_task(caller, service.catalog, each.task, each.reads) for each in found]
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
    service, caller = admitted(request)
    async with service.pool.acquire() as connection, connection.transaction():
        await may_change_task(service, caller, connection, task)
        run = await lifecycle.execute(connection, chain, task, actor(request).name)
        await audit.record(connection, actor(request), chain, "task.execute", f"task {task}")
    return run


@get("/tasks/{id:str}/progress", responses=problems(400, 404))
async def get_progress(request: AnyRequest, id: Id) -> Progress:
    """How far the newest run of a task is: rows, speed, time left, signs of life, and what comes next."""
    service, caller = admitted(request)
    reads = await read.newest_reads(service.pool, caller.chain, task_id(id))
    may_see_run(caller, service.catalog, reads)
    return await progress.read(service.pool, caller.chain, task_id(id), service.settings.heartbeat_timeout)


@get(
    "/tasks/{id:str}/runs",
    opt={"parameters": ("limit", "offset")},
    responses=problems(400, 404),
)
async def list_runs(request: AnyRequest, id: Id, limit: Limit = 25, offset: Offset = 0) -> Response[list[Run]]:
    """The runs of a task that the credential may see, newest first, with what each left behind."""
    service, caller = admitted(request)
    found, more = await read.runs(service.pool, caller.chain, task_id(id), limit, offset)
    runs = [each.run for each in found if sees(caller, each.reads, service.catalog)]
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
    text, reads = await read.manifest(service.pool, caller.chain, task_id(id), run)
    may_see_run(caller, service.catalog, reads)
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
