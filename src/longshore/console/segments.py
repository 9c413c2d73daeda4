"""The page *Segments*, and the button of *New export* that stores rules. The API's own functions carry them out."""

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, RawBody
from litestar.response import Redirect

from longshore.api import segments
from longshore.api.guard import service_and_caller
from longshore.api.paging import MAX_OFFSET, Offset
from longshore.api.service import AnyRequest
from longshore.api.visibility_checks import visible_segment
from longshore.console.export_form import read_form
from longshore.console.pages import export_form_error, json_body, paging, redirect, render_page
from longshore.console.rendering import render
from longshore.database.rows import Page
from longshore.exports.segments import describe
from longshore.exports.segments import stored as stored_segments

PAGE_SIZE = 50


class _Rules(msgspec.Struct, frozen=True):
    """A stored segment whose rules are not decoded yet: a page shows few of them."""

    index: str
    join: str
    rules: list[msgspec.Raw]


RULES = msgspec.json.Decoder(_Rules)


@get("/console/{chain:int}/segments", include_in_schema=False)
async def show_segments(request: AnyRequest, offset: Offset = 0) -> Response[str]:
    """Return the page of stored segments, with their rules in words."""
    service, caller = service_and_caller(request)
    page = Page(PAGE_SIZE, min(offset, MAX_OFFSET))
    listed, more = await stored_segments.list_segments(service.pool, caller.chain, page)
    visible = [visible_segment(caller, service.catalog, each) for each in listed]
    described = [(each, _in_words(each)) for each in visible if each.segment is not None]
    return await render_page(request, "segments.html", "Segments", segments=described, **paging(page, more))


@post(
    "/console/{chain:int}/segments",
    status_code=200,
    include_in_schema=False,
    exception_handlers={Exception: export_form_error},
)
async def store_segment(request: AnyRequest, body: RawBody) -> Response[str]:
    """Store the rules of the form of a new export; show the page of segments, for htmx the new choice of the form."""
    _, caller = service_and_caller(request)
    form = await read_form(request, body)
    name = form.fields.get("segment-name", "")
    value = {"chain": caller.chain, "name": name, "segment": form.segment()}
    stored = (await segments.create_segment.fn(request, json_body(value))).content
    if "hx-request" in request.headers:
        return render("segment_choice.html", stored=stored, index=form.indexes[0])
    return redirect(request, "segments")


@post("/console/{chain:int}/segments/{id:str}/delete", include_in_schema=False)
async def delete_segment(request: AnyRequest, id: FromPath[str]) -> Redirect:
    """Delete a stored segment."""
    await segments.delete_segment.fn(request, id)
    return redirect(request, "segments")


def _in_words(stored: stored_segments.StoredSegment) -> dict[str, Any] | None:
    """Return the rules of a stored segment in words; None where this version cannot read them."""
    try:
        segment = RULES.decode(stored.segment)
        return {"index": segment.index, "join": segment.join, "rules": describe.of_rules(segment.rules)}
    except msgspec.DecodeError:
        return None
