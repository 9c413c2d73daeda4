"""The pages *New export* and *Segments*. They show the catalog; their requests go to the API."""

import contextlib
import re
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter, RawBody
from litestar.response import Redirect

from longshore.access.tokens import Caller, UnauthorizedError
from longshore.api import segments
from longshore.api.bodies import read_json
from longshore.api.guard import admitted
from longshore.api.paging import MAX_OFFSET, Offset
from longshore.api.problems import to_response
from longshore.api.segments import previewed
from longshore.api.service import AnyRequest
from longshore.api.visibility_checks import shown_segment, visible_catalog
from longshore.console.pages import page, paging, redirect, to_page
from longshore.console.repeated import RepeatedExport, form_values, repeated_export
from longshore.console.rule_form import MAX_LINES, choices
from longshore.database.rows import Page, as_uuid
from longshore.destinations.stored import MAX_DESTINATIONS, list_destinations
from longshore.errors import NotFoundError
from longshore.exports.catalog import Catalog, Field, Index
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import PROFILES
from longshore.exports.preview import Preview
from longshore.exports.segments import describe
from longshore.exports.segments import stored as stored_segments
from longshore.exports.segments.operators import FACTORS, OPERATORS, WINDOWS

PAGE_SIZE = 50
MAX_SEGMENTS = 100
"""Stored segments to choose from; the one that an address names is always among them."""
PHRASE_OPERANDS = re.compile(r"\{\w+\}( \{\w+\})?")


LABELS = {name: PHRASE_OPERANDS.sub("…", operator.phrase) for name, operator in OPERATORS.items()}
"""The operators in words, such as `is less than … ago`."""


class _Rules(msgspec.Struct, frozen=True):
    """A stored segment whose rules are not decoded yet: a page shows few of them."""

    index: str
    join: str
    rules: list[msgspec.Raw]


RULES = msgspec.json.Decoder(_Rules)


@get("/console/{chain:int}/new", include_in_schema=False)
async def new_export(
    request: AnyRequest,
    like: Annotated[int | None, QueryParameter(name="from", ge=1)] = None,
    segment: Annotated[str, QueryParameter(max_length=100)] = "",
    index: Annotated[str, QueryParameter(max_length=100)] = "",
) -> Response[str]:
    """Return the form of a new export. `from`: the task whose target and trigger fill it.

    `segment`: the stored segment that it has. `index`: the one whose columns the form has without scripts.
    """
    service, caller = admitted(request)
    catalog = visible_catalog(caller, service.catalog)
    export = None if like is None else await repeated_export(request, like)
    if export and export.indexes[0] not in catalog:
        export = None
    segment = (export.trigger.get("segment_id") or "") if export else segment
    stored, _ = await stored_segments.list_segments(service.pool, caller.chain, Page(MAX_SEGMENTS))
    segment_label, segment_index = await _named_segment(request, segment)
    index = index or (export.indexes[0] if export else segment_index)
    chosen = index if index in catalog else next(iter(catalog), "")
    places, _ = await list_destinations(service.pool, caller.chain, Page(MAX_DESTINATIONS))
    kinds = service.destinations.kinds
    return await page(
        request,
        "new.html",
        "new",
        "New export",
        known=msgspec.json.encode(_known(caller, catalog, export)).decode().replace("<", "\\u003c"),
        indexes=catalog,
        chosen=chosen,
        columns=catalog[chosen].fields if catalog else {},
        rule_fields=choices(catalog[chosen]) if catalog else [],
        rule_lines=MAX_LINES,
        operators=LABELS,
        factors=list(FACTORS),
        formats=list(FORMATS),
        profiles=list(PROFILES),
        stored=[(str(each.id), each.name) for each in stored],
        segment=segment,
        segment_label=segment_label,
        form=form_values(export, chosen),
        not_shown=like if export is None else None,
        destinations=[(each.name, kinds[each.kind].takes) for each in places if each.kind in kinds],
    )


@post(
    "/console/{chain:int}/forecast",
    status_code=200,
    include_in_schema=False,
    exception_handlers={UnauthorizedError: to_page, Exception: to_response},
)
async def forecast(request: AnyRequest, body: RawBody) -> Preview:
    """Return the preview of a body of `POST /segments/preview` without rows: nothing of the data is shown."""
    return await previewed(request, read_json(request, body), shows_rows=False)


async def _named_segment(request: AnyRequest, id: str) -> tuple[str, str]:
    """Return the label and the index of the stored segment that the form begins with; no index where it is gone."""
    service, caller = admitted(request)
    uuid = as_uuid(id)
    if uuid is not None:
        with contextlib.suppress(NotFoundError):
            found = await stored_segments.get(service.pool, caller.chain, uuid)
            return found.name, RULES.decode(found.segment).index
    return f"{id}, which does not exist any more", ""


def _known(caller: Caller, catalog: Catalog, export: RepeatedExport | None) -> dict[str, Any]:
    """Return the data of the form's scripts."""
    return {
        "chain": caller.chain,
        "indexes": {name: _index(index) for name, index in catalog.items()},
        "operators": {
            name: {
                "label": LABELS[name],
                "types": [kind.value for kind in operator.types],
                # An amount comes before its unit.
                "needs": sorted(operator.operands, key=lambda need: need == "time_factor"),
                "may": operator.optional_operands,
            }
            for name, operator in OPERATORS.items()
        },
        "factors": list(FACTORS),
        "windows": list(WINDOWS),
        "like": export and export.for_script(),
    }


def _index(index: Index) -> dict[str, Any]:
    return {"fields": _fields(index.fields), "time": index.time}


def _fields(fields: dict[str, Field]) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": field.type, "description": field.description, "fields": _fields(field.fields)}
        for name, field in fields.items()
    ]


@get("/console/{chain:int}/segments", include_in_schema=False)
async def show_segments(request: AnyRequest, offset: Offset = 0) -> Response[str]:
    """Return the page of stored segments, with their rules in words."""
    service, caller = admitted(request)
    part = Page(PAGE_SIZE, min(offset, MAX_OFFSET))
    listed, more = await stored_segments.list_segments(service.pool, caller.chain, part)
    visible = [shown_segment(caller, service.catalog, each) for each in listed]
    shown = [(each, _in_words(each)) for each in visible if each.segment is not None]
    return await page(request, "segments.html", "segments", "Segments", segments=shown, **paging(part, more))


@post("/console/{chain:int}/segments/{id:str}/delete", include_in_schema=False)
async def delete_segment(request: AnyRequest, id: FromPath[str]) -> Redirect:
    """Delete a stored segment."""
    await segments.delete_segment.fn(request, id)
    return redirect(request, "segments")


def _in_words(stored: stored_segments.StoredSegment) -> dict[str, Any]:
    segment = RULES.decode(stored.segment)
    return {"index": segment.index, "join": segment.join, "rules": describe.of_rules(segment.rules)}
