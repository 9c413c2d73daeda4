"""Lists: shares, their schema, and the tables that the token may read now."""

from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.params import PathParameter

from longshore.access.tokens import Caller
from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest, Service
from longshore.errors import NotFoundError
from longshore.exports.rights import may_see
from longshore.sharing.pages import MAX_PAGE, Items, MaxResults, PageToken, name_before, page_answer, page_size
from longshore.sharing.protocol import ACCESS_MODES, JSON, ListedTable, Schema, Share, table_id
from longshore.tasks import shared_tables
from longshore.tasks.shared_tables import Table

SCHEMA = "exports"

ShareName = Annotated[str, PathParameter(description="Name of the share: the number of the chain.")]
SchemaName = Annotated[str, PathParameter(description="Name of the schema: `exports`.")]


class ShareAnswer(msgspec.Struct, frozen=True):
    """One share."""

    share: Share


@get("/delta-sharing/shares")
async def list_shares(
    request: AnyRequest, max_results: MaxResults = None, page_token: PageToken = None
) -> Response[Items]:
    """Return the shares of the token: a share for each chain of its scope, named by the chain's number."""
    service, _ = service_and_caller(request, allow_unknown=True)
    callers = await service.token_auth.callers(request.headers.get("authorization"))
    after, size = name_before(page_token), page_size(max_results)
    found = sorted({str(caller.chain) for caller in callers.values()})
    following = [name for name in found if name > after]
    shown = following[:size]
    return page_answer([Share(name) for name in shown], (shown or [after])[-1] if len(following) > size else None)


@get("/delta-sharing/shares/{share:str}")
async def get_share(request: AnyRequest, share: ShareName) -> Response[ShareAnswer]:
    """Return one share."""
    service_and_caller(request, allow_unknown=True)
    return Response(ShareAnswer(Share(share)), media_type=JSON)


@get("/delta-sharing/shares/{share:str}/schemas")
async def list_schemas(
    request: AnyRequest, share: ShareName, max_results: MaxResults = None, page_token: PageToken = None
) -> Response[Items]:
    """Return the one schema of a share, `exports`."""
    service_and_caller(request, allow_unknown=True)
    after = name_before(page_token)
    found = [Schema(SCHEMA, share)] if after < SCHEMA else []
    return page_answer(found, None) if page_size(max_results) else page_answer([], after if found else None)


@get("/delta-sharing/shares/{share:str}/all-tables")
async def list_all_tables(
    request: AnyRequest, share: ShareName, max_results: MaxResults = None, page_token: PageToken = None
) -> Response[Items]:
    """Return the tables of a share that the token may read now, by name."""
    service, caller = service_and_caller(request, allow_unknown=True)
    return await _tables(service, caller, share, max_results, page_token)


@get("/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables")
async def list_tables(
    request: AnyRequest,
    share: ShareName,
    schema: SchemaName,
    max_results: MaxResults = None,
    page_token: PageToken = None,
) -> Response[Items]:
    """Return the tables of a schema that the token may read now, by name."""
    service, caller = service_and_caller(request, allow_unknown=True)
    refuse_other_schema(schema)
    return await _tables(service, caller, share, max_results, page_token)


def refuse_other_schema(name: str) -> None:
    """Raise NotFoundError for the name of a schema that no share has. Names ignore case."""
    if name.lower() != SCHEMA:
        raise NotFoundError("table-not-found", f"There is no schema {name}; that of every share is {SCHEMA}.")


async def _tables(
    service: Service, caller: Caller, share: str, max_results: int | None, page_token: str | None
) -> Response[Items]:
    after, size = name_before(page_token), page_size(max_results)
    # A page token is readable: it names no table that the token may not see.
    visible: list[Table] = []
    begin = after.lower()
    while len(visible) <= size:
        found = await shared_tables.tables(service.pool, caller.chain, begin, MAX_PAGE)
        visible += [table for table in found if may_see(caller, table.reads, service.catalog)]
        if len(found) < MAX_PAGE:
            break
        begin = found[-1].key
    last = None if len(visible) <= size else visible[size - 1].key if size else after
    shown = [ListedTable(table.name, SCHEMA, share, table_id(table), ACCESS_MODES) for table in visible[:size]]
    return page_answer(shown, last)
