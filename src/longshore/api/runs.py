"""The resource `runs`: the runs of a task, their manifests, and acknowledging the increment of one."""

from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import PathParameter

from longshore.access.tokens import Caller
from longshore.api.audited_changes import audited
from longshore.api.bodies import BytesResponse
from longshore.api.guard import service_and_caller
from longshore.api.openapi_responses import problems
from longshore.api.paging import MAX_OFFSET, Limit, Offset, page_response
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.api.visibility_checks import refuse_hidden_run
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page
from longshore.errors import NotFoundError
from longshore.exports.manifest import FilesManifest, Manifest
from longshore.exports.rights import may_see
from longshore.tasks import run_queries, watermarks
from longshore.tasks.model import Run
from longshore.validation import ValidationError, Violation

LATEST = "latest"
JOSE = "application/jose"
AnyRun = int | Literal["latest"]
RunNumber = Annotated[
    AnyRun,
    PathParameter(
        description="Number of the run, or `latest`: the `DONE` run whose data interval ends last.",
        schema_extra={
            "one_of": [Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_OFFSET), Schema(const=LATEST)]
        },
    ),
]


async def run_number(pool: Pool | Connection, caller: Caller, id: int, run: AnyRun) -> int:
    """Return the number of a run of a task that an address names. Raises ValidationError for one out of range.

    Raises NotFoundError, also where it is `latest` and no run is `DONE`.
    """
    if isinstance(run, int):
        if not 1 <= run <= MAX_OFFSET:
            raise ValidationError(
                [Violation(f"expected a number from 1 to {MAX_OFFSET}, or `latest`", parameter="run")]
            )
        return run
    found = await run_queries.latest_run(pool, caller.chain, task_id(id))
    if found is None:
        raise NotFoundError("run-not-found", f"No run of task {id} is DONE yet.")
    return found


@get("/tasks/{id:str}/runs")
async def list_runs(request: AnyRequest, id: Id, limit: Limit = 25, offset: Offset = 0) -> Response[list[Run]]:
    """Return the runs of a task that the credential may see, newest first, with their results."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    recorded, more = await run_queries.runs(service.pool, caller.chain, task_id(id), page)
    visible = [each.run for each in recorded if may_see(caller, each.reads, service.catalog)]
    return page_response(request, (visible, more), page)


@get("/tasks/{id:str}/runs/{run:str}/manifest")
async def get_manifest(request: AnyRequest, id: Id, run: RunNumber) -> Response[Manifest | FilesManifest]:
    """Return the manifest of a run's result, with the bytes that the next manifest's hash is of."""
    _, text = await manifest_of(request, id, run)
    return BytesResponse(text, {})


async def manifest_of(request: AnyRequest, id: Id, run: RunNumber) -> tuple[int, bytes]:
    """Return the number of a run that the caller may see, and the bytes of its manifest. Raises NotFoundError."""
    service, caller = service_and_caller(request)
    number = await run_number(service.pool, caller, id, run)
    text, recorded = await run_queries.manifest(service.pool, caller.chain, task_id(id), number)
    refuse_hidden_run(caller, service.catalog, recorded)
    if text is None:
        raise NotFoundError("run-not-found", f"Task {id} has no run {number} that left a result.")
    return number, text.encode()


@get("/tasks/{id:str}/runs/{run:str}/manifest.jws", media_type=JOSE)
async def get_manifest_signature(request: AnyRequest, id: Id, run: RunNumber) -> Response[str]:
    """Return the signature of a run's manifest: a compact JWS with an empty payload (RFC 7515, appendix F).

    It is over the bytes that `…/manifest` answers. Its `kid` names a key of `/.well-known/longshore-keys.json`.
    """
    service, caller = service_and_caller(request)
    number = await run_number(service.pool, caller, id, run)
    text, recorded = await run_queries.signature(service.pool, caller.chain, task_id(id), number)
    refuse_hidden_run(caller, service.catalog, recorded)
    if text is None:
        raise NotFoundError("run-not-found", f"Task {id} has no run {number} that left a manifest.")
    return Response(text, media_type=JOSE)


@get("/tasks/{id:str}/runs/{run:str}")
async def get_run(request: AnyRequest, id: Id, run: RunNumber) -> Run:
    """Return one run of a task, as the list of runs has it."""
    service, caller = service_and_caller(request)
    number = await run_number(service.pool, caller, id, run)
    found = await run_queries.one_run(service.pool, caller.chain, task_id(id), number)
    if found is None:
        raise NotFoundError("run-not-found", f"Task {id} has no run {number}.")
    refuse_hidden_run(caller, service.catalog, found.reads)
    return found.run


@post("/tasks/{id:str}/runs/{run:str}/ack", opt={"conditional": True}, status_code=200, responses=problems(409))
async def acknowledge_run(request: AnyRequest, id: Id, run: RunNumber) -> Run:
    """Confirm that the increment of a run has arrived: the next run begins after it. Repeating this changes nothing."""
    service, caller = service_and_caller(request)
    task = task_id(id)
    async with audited(request, "run.acknowledge", f"task {task}") as change:
        await lock_to_change(request, change.connection, task)
        number = await run_number(change.connection, caller, id, run)
        change.details = {"run": number}
        await watermarks.acknowledge(change.connection, caller.chain, task, number)
    found = await run_queries.one_run(service.pool, caller.chain, task, number)
    if found is None:
        raise NotFoundError("task-not-found")  # deleted meanwhile
    return found.run
