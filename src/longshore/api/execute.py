"""`POST /tasks/{id}/execute`: a run at once, for the time since the schedule's newest run or an earlier interval."""

import contextlib
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, post
from litestar.params import HeaderParameter, RawBody
from msgspec import Meta

from longshore.api.audited_changes import audited_in
from longshore.api.bodies import check_body, read_optional_json, time_violations
from longshore.api.guard import actor, service_and_caller
from longshore.api.idempotency_key import REPLAYED, IdempotencyKey, claim_of
from longshore.api.openapi_responses import answers, problems
from longshore.api.prefer import preferences
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.api.waiting import held_open
from longshore.database.connect import Connection
from longshore.errors import ProblemError
from longshore.exports.rights import stored_export
from longshore.tasks import idempotency, queries, requests, watermarks
from longshore.tasks.idempotency import StoredAnswer
from longshore.tasks.model import ENDED, State
from longshore.tasks.requests import EditableTask


class ExecuteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /tasks/{id}/execute`, which may be left out."""

    interval_end: Annotated[datetime, Meta(examples=["2026-05-26T01:00:00Z"])] | None = None
    """A time of the schedule: the run is for the data interval that ends then, once more."""
    full: bool = False
    """Of an incremental task: the run takes all rows, not those since the last run alone, and later runs go on from it.
    For a copy that has lost rows, or a table that is new to the task."""


@post(
    "/tasks/{id:str}/execute",
    opt={"conditional": True, "optional_body": True},
    status_code=200,
    responses=problems(409)
    | answers(State, {202: "The run was accepted (`Prefer: respond-async`), or its result is being delivered."}),
)
async def execute_task(
    request: AnyRequest,
    id: Id,
    body: Annotated[RawBody, ExecuteBody],
    _prefer: Annotated[
        str, HeaderParameter(name="Prefer", description="`respond-async`: do not wait for the end.")
    ] = "",
    idempotency_key: IdempotencyKey = None,
) -> Response[State]:
    """Run a task now, whatever its trigger says. Answers its state when the run has ended, or is being delivered (202).

    The run is for the data interval from the end of the schedule's newest run until now. With `interval_end`, a time of
    the schedule, it is for the interval of that time again. With `full`, the run of an incremental task takes all rows.
    Where an `execute` waits to start, another one for the same interval joins its run, and one for another interval is
    409 `run-queued`.
    """
    service, caller = service_and_caller(request)
    chain, task = caller.chain, task_id(id)
    value = read_optional_json(request, body)
    wanted = check_body(ExecuteBody, value, lambda body: time_violations(body.interval_end, "/interval_end"))
    details = {key: each for key, each in msgspec.structs.asdict(wanted).items() if each} or None

    async def make(connection: Connection) -> StoredAnswer:
        whole = await lock_to_change(request, connection, task)
        if wanted.interval_end is not None:
            refuse_without_intervals(whole)
        if wanted.full:
            _refuse_without_watermark(whole)
        async with audited_in(connection, request, "task.execute", f"task {task}", details):
            if wanted.full:
                await watermarks.reset(connection, chain, task, actor(request).name)
            run = await requests.execute(connection, chain, task, actor(request).name, wanted.interval_end)
        return StoredAnswer(task, str(run).encode())

    claim = claim_of(request, idempotency_key, value or None)
    if "respond-async" in preferences(request):
        _, replayed = await idempotency.once(service.pool, claim, make)
        status = await queries.status(service.pool, chain, task)
        headers = {"Location": f"/tasks/{task}", "Preference-Applied": "respond-async"}
        return Response(status.state, status_code=202, headers=headers | (REPLAYED if replayed else {}))
    with service.waiters.of(task) as waiter:
        async with held_open(request, waiter):  # may refuse the request, so it comes before the run is requested
            kept, replayed = await idempotency.once(service.pool, claim, make)
            state = await service.waiters.until_run_ended(waiter, chain, task, int(kept.answer))
    return Response(state, status_code=200 if state.code in ENDED else 202, headers=REPLAYED if replayed else {})


def refuse_without_intervals(task: EditableTask) -> None:
    """Raise ProblemError where no interval of a task can be run again."""
    with contextlib.suppress(msgspec.MsgspecError):  # as its run will say
        export = stored_export(task.target, task.trigger)
        if export is not None and (why := export[0].why_without_intervals) is not None:
            raise ProblemError("no-intervals", why)


def _refuse_without_watermark(task: EditableTask) -> None:
    """Raise ProblemError where all runs of a task take all rows anyway."""
    try:
        export = stored_export(task.target, task.trigger)
    except msgspec.MsgspecError:  # as its run will say
        return
    if export is None or not export[0].incremental:
        raise ProblemError("not-incremental", "The target is not `incremental`, so each run takes all rows.")
