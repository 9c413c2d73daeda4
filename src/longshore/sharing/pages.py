"""Pages of the protocol's lists: `maxResults` and `pageToken`, which names the last entry of the page before."""

import base64
import binascii
import re
from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.params import QueryParameter

from longshore.sharing.protocol import JSON
from longshore.validation import ValidationError, Violation

MAX_PAGE = 500
MAX_INT32 = 2**31 - 1
TOKEN = re.compile("after:([A-Za-z0-9_]{0,255})")

MaxResults = Annotated[
    int | None,
    QueryParameter(
        name="maxResults", ge=0, le=MAX_INT32, description=f"Number of entries at most; a page has {MAX_PAGE} at most."
    ),
]
PageToken = Annotated[
    str | None, QueryParameter(name="pageToken", description="The `nextPageToken` of the page before.")
]


class Items(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A page of a list."""

    items: list[Any]
    next_page_token: str | None = None
    """The `pageToken` of the next page; missing on the last one."""


def page_size(max_results: int | None) -> int:
    """Return the number of entries of a page."""
    return MAX_PAGE if max_results is None else min(max_results, MAX_PAGE)


def name_before(token: str | None) -> str:
    """Return the name of the last entry before a page; empty for the first page. Raises ValidationError."""
    if not token:
        return ""
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    match = TOKEN.fullmatch(text)
    if match is None:
        raise ValidationError([Violation("expected the `nextPageToken` of an earlier answer", parameter="pageToken")])
    return match[1]


def page_answer(items: list[Any], last: str | None) -> Response[Items]:
    """Return the answer with a page. `last`: the name that the next one begins after; None where there is none."""
    token = None if last is None else base64.urlsafe_b64encode(f"after:{last}".encode()).decode()
    return Response(Items(items, token), media_type=JSON)
