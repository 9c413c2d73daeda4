"""Liveness, readiness and metrics of the service, and the pages that explain problems."""

import asyncio

import asyncpg
import structlog
from litestar import MediaType, Response, get
from litestar.params import FromPath
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from longshore.api.openapi_responses import problems
from longshore.api.problem_kinds import KINDS
from longshore.api.service import AnyRequest, Service
from longshore.database.retry import is_transient
from longshore.errors import ProblemError

log = structlog.get_logger()

# Workers send due tasks within two seconds, so a task that has been due for a minute means that none works.
# The update changes no row; it fails where the database is read-only.
READY = """
with written as (update longshore.migrations set name = name where number < 0)
select exists (select from longshore.pgqueuer limit 1) as queue,
       exists (select from longshore.tasks where due_at < now() - interval '1 minute' and not paused) as late
"""


@get("/healthz")
async def get_health() -> dict[str, str]:
    """Return that this process answers."""
    return {"status": "ok"}


@get("/readyz", responses=problems(503))
async def get_readiness(request: AnyRequest) -> dict[str, str]:
    """Return that the database takes writes and the queue exists: `ready`, or `late` if no worker sends due tasks.

    `late` is 200 too, as the API can answer while no worker runs.
    """
    service: Service = request.app.state.service
    try:
        async with asyncio.timeout(5):
            row = await service.pool.fetchrow(READY)
    except asyncpg.PostgresError as error:
        if is_transient(error):
            raise
        log.error("not ready: the database refuses a statement", error=str(error))
        detail = "The database refuses a statement of the service; its log has the reason."
        raise ProblemError("unavailable", detail, {"Retry-After": "1"}) from None
    assert row is not None
    return {"status": "late" if row["late"] else "ready"}


@get("/metrics", include_in_schema=False)
async def get_metrics(request: AnyRequest) -> Response[bytes]:
    """Return metrics for Prometheus: of this process, and of all tasks of the service."""
    service: Service = request.app.state.service
    await service.figures.refresh()
    service_wide = CollectorRegistry()
    service_wide.register(service.figures)
    text = generate_latest() + generate_latest(service_wide)
    # Litestar adds the character set to every text by itself.
    return Response(text, media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8"))


@get("/problems/{kind:str}", include_in_schema=False)
async def get_problem(kind: FromPath[str]) -> Response[str]:
    """Return the page that explains a problem's `type`."""
    if kind not in KINDS:
        raise ProblemError("not-found", "There is no problem of this name.")
    found = KINDS[kind]
    return Response(f"{found.title} ({found.status})\n\n{found.about}\n", media_type=MediaType.TEXT)
