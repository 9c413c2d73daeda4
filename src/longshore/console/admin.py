"""The pages *Access*, *Audit* and *System*."""

from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import Response, get
from litestar.params import QueryParameter

from longshore.access import audit, clients, tokens, users
from longshore.access.audit import AuditFilter
from longshore.access.sessions import SignedIn
from longshore.access.tokens import Level
from longshore.api.guard import admitted, shown_session
from longshore.api.paging import Offset
from longshore.api.service import AnyRequest
from longshore.console.pages import page
from longshore.database.rows import Page
from longshore.tasks import overview

FIRST_PAGE = Page(100)
PAGE_SIZE = 50


@get("/console/{chain:int}/access", include_in_schema=False)
async def show_access(request: AnyRequest) -> Response[str]:
    """Return the page *Access*: your sessions; for admins also clients, tokens and users."""
    service, caller = admitted(request)
    person: SignedIn = await service.sessions.signed_in(shown_session(request))
    content: dict[str, Any] = {"sessions": await service.sessions.list(person)}
    if caller.level >= Level.ADMIN:
        content["clients"], content["more_clients"] = await clients.of_chain(service.pool, caller.chain, FIRST_PAGE)
        content["tokens"], content["more_tokens"] = await tokens.of_chain(service.pool, caller.chain, None, FIRST_PAGE)
        content["people"], content["more_people"] = await users.of_chain(service.pool, caller.chain, FIRST_PAGE)
        content["columns"] = [f"{name}.{field}" for name, index in service.catalog.items() for field in index.fields]
        content["indexes"] = list(service.catalog)
    return await page(request, "access.html", "access", "Access", **content)


@get("/console/{chain:int}/audit", include_in_schema=False)
async def show_audit(
    request: AnyRequest,
    action: Annotated[str, QueryParameter(max_length=200)] = "",
    actor: Annotated[str, QueryParameter(max_length=200)] = "",
    object: Annotated[str, QueryParameter(max_length=200)] = "",
    offset: Offset = 0,
) -> Response[str]:
    """Return the page *Audit*."""
    service, caller = admitted(request)
    filters = {"action": action, "actor": actor, "object": object}
    filters = {key: value.replace("\x00", "") for key, value in filters.items() if value}
    found, more = await audit.entries(
        service.pool,
        caller.chain,
        AuditFilter(filters.get("action"), filters.get("actor"), filters.get("object")),
        Page(PAGE_SIZE, offset),
    )
    older = "?" + urlencode({**filters, "offset": offset + PAGE_SIZE}) if more else None
    newer = "?" + urlencode({**filters, "offset": max(0, offset - PAGE_SIZE)}) if offset else None
    return await page(request, "audit.html", "audit", "Audit", entries=found, asked=filters, older=older, newer=newer)


@get("/console/{chain:int}/system", include_in_schema=False)
async def show_system(request: AnyRequest) -> Response[str]:
    """Return the page *System*: workers, queue, throughput and storage of the chain."""
    service, caller = admitted(request)
    figures = await overview.figures(service.pool, caller.chain)
    template = "system_figures.html" if "hx-request" in request.headers else "system.html"
    return await page(request, template, "system", "System", figures=figures)
