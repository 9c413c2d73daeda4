"""The page *Audit*: the entries of a chain's audit log."""

from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter

from longshore.access import audit
from longshore.access.audit import AuditFilter
from longshore.api.guard import service_and_caller
from longshore.api.paging import Offset
from longshore.api.service import AnyRequest
from longshore.console.pages import paging, render_page
from longshore.database.rows import Page

PAGE_SIZE = 50


@get("/console/{chain:int}/audit", include_in_schema=False)
async def show_audit(
    request: AnyRequest,
    action: Annotated[str, QueryParameter(max_length=200)] = "",
    actor: Annotated[str, QueryParameter(max_length=200)] = "",
    object: Annotated[str, QueryParameter(max_length=200)] = "",
    offset: Offset = 0,
) -> Response[str]:
    """Return the page *Audit*."""
    service, caller = service_and_caller(request)
    filters = {"action": action, "actor": actor, "object": object}
    filters = {key: value.replace("\x00", "") for key, value in filters.items() if value}
    page = Page(PAGE_SIZE, offset)
    found, more = await audit.entries(
        service.pool,
        caller.chain,
        AuditFilter(filters.get("action"), filters.get("actor"), filters.get("object")),
        page,
    )
    content = {"entries": found, "filters": filters, **paging(page, more, **filters)}
    return await render_page(request, "audit.html", "Audit", **content)
