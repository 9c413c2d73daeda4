"""Paging: the parameters of a list, and the header that leads to its next page."""

from typing import Annotated
from urllib.parse import urlencode

from litestar.params import QueryParameter

from longshore.api.guard import AnyRequest

FAR = 2**31 - 1

Offset = Annotated[int, QueryParameter(ge=0, le=FAR, description="How many to skip.")]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many to give at most.")]


def next_page(request: AnyRequest, more: bool, limit: int, offset: int) -> dict[str, str]:
    """A `Link` header to the page behind this one (RFC 8288), where there is one."""
    if not more:
        return {}
    query = [(key, value) for key, value in request.query_params.multi_items() if key not in ("limit", "offset")]
    address = f"{request.url.path}?{urlencode([*query, ('limit', limit), ('offset', offset + limit)])}"
    return {"Link": f'<{address}>; rel="next"'}
