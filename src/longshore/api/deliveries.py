"""The resource `deliveries`: where the result of a run has been brought, and bringing it again."""

import asyncio

import msgspec
from litestar import Response, get, post

from longshore.access.tokens import Caller
from longshore.api.audited_changes import audited_in
from longshore.api.download_urls import result_gone
from longshore.api.guard import actor, service_and_caller
from longshore.api.idempotency_key import REPLAYED, IdempotencyKey, claim_of
from longshore.api.openapi_responses import problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.runs import AnyRun, RunNumber, run_number
from longshore.api.service import AnyRequest, Service
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.api.visibility_checks import refuse_hidden_run
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page
from longshore.errors import ProblemError
from longshore.exports.target import ExportTarget, decode_definition
from longshore.exports.target.deliver import BUNDLE, TemplateValues, new_deliveries
from longshore.tasks import delivery_queries, delivery_requests, idempotency
from longshore.tasks.delivery_queries import RunDelivery
from longshore.tasks.delivery_requests import DeliverableRun
from longshore.tasks.idempotency import StoredAnswer
from longshore.tasks.model import ChainId, NewDelivery
from longshore.validation import in_json

PAGE = Page(limit=25)


@get("/tasks/{id:str}/runs/{run:str}/deliveries")
async def list_run_deliveries(
    request: AnyRequest, id: Id, run: RunNumber, limit: Limit = 25, offset: Offset = 0
) -> Response[list[RunDelivery]]:
    """Return the deliveries of a run to destinations, newest first, each with what was read back there."""
    service, caller = service_and_caller(request)
    found = await _visible_run(service, caller, service.pool, id, run)
    page = Page(limit, offset)
    listed = await delivery_queries.of_run(service.pool, caller.chain, found.task, found.run, page)
    return page_response(request, listed, page)


@post(
    "/tasks/{id:str}/runs/{run:str}/deliver", opt={"conditional": True}, status_code=202, responses=problems(409, 410)
)
async def deliver_run(
    request: AnyRequest, id: Id, run: RunNumber, idempotency_key: IdempotencyKey = None
) -> Response[list[RunDelivery]]:
    """Bring the result of a run to those of the target's destinations that lack it, or to all where none lacks it.

    The bytes are those of the run. Where a run in `ERROR` is then at all of them, it is `DONE`, and so is its task if
    that was its last run. Answers the deliveries of the run, newest first.
    """
    service, caller = service_and_caller(request)
    chain, task = caller.chain, task_id(id)
    claim = claim_of(request, idempotency_key)
    replays = await idempotency.find(service.pool, claim) is not None
    missing = None if replays else await _missing(service, caller, id, run)

    async def make(connection: Connection) -> StoredAnswer:
        async with audited_in(connection, request, "run.deliver", f"task {task}") as change:
            await lock_to_change(request, connection, task)
            found = await _visible_run(service, caller, connection, id, run)
            wanted = _planned(chain, found, missing)
            chosen = await delivery_requests.deliver(connection, chain, wanted, found, actor(request).name)
            change.details = {"run": found.run, "destinations": [each.destination for each in chosen]}
        return StoredAnswer(task, str(found.run).encode())

    kept, replayed = await idempotency.once(service.pool, claim, make)
    number = int(kept.answer)
    if replayed:  # the credential may see less by now
        await _visible_run(service, caller, service.pool, id, number)
    path = f"/tasks/{task}/runs/{number}/deliveries"
    listed = await delivery_queries.of_run(service.pool, chain, task, number, PAGE)
    answer = page_response(request, listed, PAGE, path)
    answer.headers |= {"Location": path, **(REPLAYED if replayed else {})}
    return answer


async def _missing(service: Service, caller: Caller, id: int, run: AnyRun) -> str | None:
    """Return the location of a run's result if its file is gone; None too for a request that is refused anyway.

    The store may take seconds to answer, so it is asked before the transaction that locks the task.
    """
    try:
        found = await _visible_run(service, caller, service.pool, id, run)
    except ProblemError:
        return None
    if found.location is None or await asyncio.to_thread(service.store.exists, found.location):
        return None
    return found.location


async def _visible_run(
    service: Service, caller: Caller, connection: Connection | Pool, id: int, run: AnyRun
) -> DeliverableRun:
    """Return a run that the caller may see. Raises ValidationError, NotFoundError and ForbiddenError."""
    number = await run_number(connection, caller, id, run)
    found = await delivery_requests.run_of(connection, caller.chain, task_id(id), number)
    refuse_hidden_run(caller, service.catalog, found.reads)
    return found


def _planned(chain: ChainId, run: DeliverableRun, missing: str | None) -> list[NewDelivery]:
    """Return the deliveries of a run by the task's present target. Raises ProblemError where there can be none.

    `missing`: the location of a result that is gone.
    """
    what = f"run {run.run} of task {run.task}"
    if run.action != "export":
        raise ProblemError("no-export", f"The action of {what} is {in_json(run.action)}, which delivers nothing.")
    if run.result is None:
        raise ProblemError("task-not-done", f"{what[:1].upper()}{what[1:]} has no result.")
    target, zone = _definition(run)
    if not target.deliver:
        raise ProblemError("no-destinations")
    if run.location in (None, missing):
        raise result_gone(what)
    index = BUNDLE if target.export_indexes is not None or run.index is None else run.index
    return new_deliveries(
        target.deliver, TemplateValues(chain, run.task, run.run, index, run.result, run.interval, zone)
    )


def _definition(run: DeliverableRun) -> tuple[ExportTarget, str]:
    """Return the target of a run's task, and its time zone."""
    try:
        target, trigger = decode_definition(run.target, run.trigger)
    except msgspec.MsgspecError as error:
        raise ProblemError("no-destinations", f"This version cannot read the target: {error}.") from error
    return target, trigger.zone
