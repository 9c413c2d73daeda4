"""Paging: the parameters of lists, and the `Link` header to the next page."""

from typing import Annotated
from urllib.parse import urlencode

from litestar.params import QueryParameter

from longshore.api.service import AnyRequest

MAX_OFFSET = 2**31 - 1

Offset = Annotated[int, QueryParameter(ge=0, le=MAX_OFFSET, description="Number of entries to skip.")]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="Number of entries at most.")]


def next_page(request: AnyRequest, more: bool, limit: int, offset: int) -> dict[str, str]:
    """Return the `Link` header to the next page (RFC 8288), if there is one."""
    if not more:
        return {}
    query = [(key, value) for key, value in request.query_params.multi_items() if key not in ("limit", "offset")]
    address = f"{request.url.path}?{urlencode([*query, ('limit', limit), ('offset', offset + limit)])}"
    return {"Link": f'<{address}>; rel="next"'}
