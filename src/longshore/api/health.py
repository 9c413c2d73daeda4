"""Is it alive, is it ready, how is it doing; and the pages that explain problems."""

import asyncio

from litestar import MediaType, Response, get
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from longshore.api.access import AnyRequest
from longshore.api.documentation import problems
from longshore.api.problems import KINDS, ProblemError
from longshore.api.service import Service

READY = "select exists (select from longshore.pgqueuer limit 1)"


@get("/healthz")
async def get_health() -> dict[str, str]:
    """Whether this process answers."""
    return {"status": "ok"}


@get("/readyz", responses=problems(503))
async def get_readiness(request: AnyRequest) -> dict[str, str]:
    """Whether the database and the queue in it can be reached."""
    service: Service = request.app.state.service
    async with asyncio.timeout(5):
        await service.pool.fetchval(READY)
    return {"status": "ready"}


@get("/metrics", include_in_schema=False)
async def get_metrics() -> Response[bytes]:
    """Figures for Prometheus."""
    # Litestar adds the character set to every text by itself.
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8"))


@get("/problems/{kind:str}", include_in_schema=False)
async def get_problem(kind: str) -> Response[str]:
    """What a problem's `type` means."""
    if kind not in KINDS:
        raise ProblemError("not-found", "There is no problem of this name.")
    found = KINDS[kind]
    return Response(f"{found.title} ({found.status})\n\n{found.about}\n", media_type=MediaType.TEXT)
