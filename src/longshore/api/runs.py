"""The resource `runs`: acknowledging what one of them gave."""

from typing import Annotated

from litestar import post
from litestar.params import Parameter

from longshore.access import audit
from longshore.api.documentation import problems
from longshore.api.guard import AnyRequest, actor, admitted
from longshore.api.paging import FAR
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.tasks import reads, watermarks
from longshore.tasks.model import Run


@post(
    "/tasks/{id:str}/runs/{run:str}/ack",
    opt={"conditional": True},
    status_code=200,
    responses=problems(400, 404, 409, 412),
)
async def acknowledge_run(
    request: AnyRequest, id: Id, run: Annotated[int, Parameter(ge=1, le=FAR, description="Number of the run.")]
) -> Run:
    """Confirm that the increment of a run has arrived, so that the next run goes on behind it. Twice is as once."""
    service, caller = admitted(request)
    task = task_id(id)
    async with service.pool.acquire() as connection, connection.transaction():
        await lock_to_change(request, connection, task)
        await watermarks.acknowledge(connection, caller.chain, task, run)
        await audit.record(connection, actor(request), caller.chain, "run.acknowledge", f"task {task}", {"run": run})
    return await reads.one_run(service.pool, caller.chain, task, run)
