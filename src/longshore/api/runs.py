"""The resource `runs`: acknowledging the increment of a run."""

from litestar import post

from longshore.api.audited import audited
from longshore.api.documentation import problems
from longshore.api.guard import admitted
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, RunNumber, lock_to_change, task_id
from longshore.tasks import reads, watermarks
from longshore.tasks.model import Run


@post(
    "/tasks/{id:str}/runs/{run:str}/ack",
    opt={"conditional": True},
    status_code=200,
    responses=problems(409),
)
async def acknowledge_run(request: AnyRequest, id: Id, run: RunNumber) -> Run:
    """Confirm that the increment of a run has arrived: the next run begins after it. Repeating this changes nothing."""
    service, caller = admitted(request)
    task = task_id(id)
    async with audited(request, "run.acknowledge", f"task {task}", {"run": run}) as change:
        await lock_to_change(request, change.connection, task)
        await watermarks.acknowledge(change.connection, caller.chain, task, run)
    return await reads.one_run(service.pool, caller.chain, task, run)
