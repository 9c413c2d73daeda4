"""Paging: the parameters of lists, and the `Link` header to the next page."""

from typing import Annotated, TypeVar
from urllib.parse import urlencode

from litestar import Response
from litestar.params import QueryParameter

from longshore.api.service import AnyRequest
from longshore.database.rows import Page

MAX_OFFSET = 2**31 - 1

T = TypeVar("T")

Offset = Annotated[int, QueryParameter(ge=0, le=MAX_OFFSET, description="Number of entries to skip.")]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="Number of entries at most.")]


def paged(request: AnyRequest, listed: tuple[list[T], bool], page: Page) -> Response[list[T]]:
    """Return the answer with a page of a list. `listed`: its entries, and whether more follow."""
    entries, more = listed
    return Response(entries, headers=next_page(request, more, page.limit, page.offset))


def next_page(request: AnyRequest, more: bool, limit: int, offset: int) -> dict[str, str]:
    """Return the `Link` header to the next page (RFC 8288), if there is one."""
    if not more:
        return {}
    query = [(key, value) for key, value in request.query_params.multi_items() if key not in ("limit", "offset")]
    address = f"{request.url.path}?{urlencode([*query, ('limit', limit), ('offset', offset + limit)])}"
    return {"Link": f'<{address}>; rel="next"'}
