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


def page_response(
    request: AnyRequest, listed: tuple[list[T], bool], page: Page, path: str | None = None
) -> Response[list[T]]:
    """Return the answer with a page of a list, and with a `Link` header to the next page (RFC 8288), if there is one.

    `listed`: its entries, and whether more follow. `path`: of the list, if it is not that of the request.
    """
    entries, more = listed
    headers = {}
    if more:
        query = [(key, value) for key, value in request.query_params.multi_items() if key not in ("limit", "offset")]
        following = urlencode([*query, ("limit", page.limit), ("offset", page.offset + page.limit)])
        headers["Link"] = f'<{path or request.url.path}?{following}>; rel="next"'
    return Response(entries, headers=headers)
