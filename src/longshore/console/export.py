"""The page *New export*. The API's own functions make the task, and the previews of its rows."""

import asyncio
import contextlib
import re
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import QueryParameter, RawBody

from longshore.api import segments
from longshore.api.bodies import stored_members
from longshore.api.download_urls import base_url
from longshore.api.guard import service_and_caller
from longshore.api.idempotency_key import claim_of
from longshore.api.service import AnyRequest
from longshore.api.tasks import create
from longshore.api.visibility_checks import visible_catalog
from longshore.console.copied_export import NO_EXPORT, ExportBody, form_values, repeated_export
from longshore.console.export_form import ExportForm, export_of, read_form
from longshore.console.pages import export_form_error, pop_idempotency_key, redirect, render_page
from longshore.console.rendering import render
from longshore.console.rule_form import choices, operands
from longshore.console.snippets import snippets_of
from longshore.database.rows import Page, as_uuid
from longshore.destinations.stored import MAX_DESTINATIONS, list_destinations
from longshore.errors import NotFoundError
from longshore.exports.first_rows import rows_of
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import PROFILES
from longshore.exports.segments import stored as stored_segments
from longshore.exports.segments.operators import MAX_AMOUNTS, OPERATORS, WINDOWS

MAX_SEGMENTS = 100
"""Stored segments to choose from; the one that an address names is always among them."""
PLAIN_LINES = 5
"""Rules of the form without scripts."""
PHRASE_OPERANDS = re.compile(r"\{\w+\}( \{\w+\})?")


OPERATOR_CHOICES = [
    (name, PHRASE_OPERANDS.sub("…", operator.phrase), " ".join(operator.types), " ".join(operands(name)))
    for name, operator in OPERATORS.items()
]
"""Each operator with its words, such as `is less than … ago`, the types of the fields that it is for, and operands."""


@get("/console/{chain:int}/new", include_in_schema=False)
async def new_export(
    request: AnyRequest,
    repeated: Annotated[int | None, QueryParameter(name="from", ge=1)] = None,
    segment: Annotated[str, QueryParameter(max_length=100)] = "",
    index: Annotated[str, QueryParameter(max_length=100)] = "",
) -> Response[str]:
    """Return the form of a new export. `from`: the task whose target and trigger fill it.

    `segment`: the stored segment that it has. `index`: the one whose columns the form has without scripts.
    """
    service, caller = service_and_caller(request)
    catalog = visible_catalog(caller, service.catalog)
    export = None if repeated is None else await repeated_export(request, repeated)
    if export and export.indexes[0] not in catalog:
        export = None
    segment = export.trigger.get("segment_id", "") if export else segment
    stored, _ = await stored_segments.list_segments(service.pool, caller.chain, Page(MAX_SEGMENTS))
    segment_choices = [(str(each.id), each.name, stored_segments.index_of(each)) for each in stored]
    if segment and segment not in [id for id, _, _ in segment_choices]:
        segment_choices.insert(0, await _named_segment(request, segment))
    segment_index = next((name for id, _, name in segment_choices if id == segment), "")
    index = index or (export.indexes[0] if export else segment_index)
    chosen = index if index in catalog else next(iter(catalog), "")
    places, _ = await list_destinations(service.pool, caller.chain, Page(MAX_DESTINATIONS))
    kinds = service.destinations.kinds
    return await render_page(
        request,
        "new.html",
        "New export",
        indexes=catalog,
        chosen=chosen,
        rule_fields={name: choices(about) for name, about in catalog.items()},
        plain_lines=PLAIN_LINES,
        operators=OPERATOR_CHOICES,
        factors=list(MAX_AMOUNTS),
        windows=list(WINDOWS),
        formats=list(FORMATS),
        compressible=[name for name, format in FORMATS.items() if format.compression == "external"],
        profiles=list(PROFILES),
        segments=segment_choices,
        segment=segment,
        form=form_values(export or NO_EXPORT, chosen),
        repeated=repeated if export else None,
        not_shown=None if export else repeated,
        destinations=[(each.name, kinds[each.kind].takes) for each in places if each.kind in kinds],
    )


async def _named_segment(request: AnyRequest, id: str) -> tuple[str, str, str]:
    """Return id, label and index of a stored segment; no index where it is gone."""
    service, caller = service_and_caller(request)
    uuid = as_uuid(id)
    if uuid is not None:
        with contextlib.suppress(NotFoundError):
            found = await stored_segments.get(service.pool, caller.chain, uuid)
            return id, found.name, stored_segments.index_of(found)
    return id, f"{id}, which does not exist any more", ""


@post(
    "/console/{chain:int}/new",
    status_code=200,
    include_in_schema=False,
    exception_handlers={Exception: export_form_error},
)
async def create_export(request: AnyRequest, body: RawBody) -> Response[str]:
    """Create the export of a form, and show its page."""
    _, caller = service_and_caller(request)
    form = await read_form(request, body)
    export = await asyncio.to_thread(export_of, form)
    value = {"chain": caller.chain, **msgspec.structs.asdict(export)}
    # A repeated request has the same form, and a later time where that begins now.
    created, _ = await create(request, value, claim_of(request, pop_idempotency_key(form.fields), form.pairs))
    to_task = redirect(request, f"tasks/{created.task.id}")
    return Response("", headers={"HX-Redirect": to_task.url}) if "hx-request" in request.headers else to_task


@post(
    "/console/{chain:int}/new/preview",
    status_code=200,
    include_in_schema=False,
    exception_handlers={Exception: export_form_error},
)
async def preview_export(
    request: AnyRequest, body: RawBody, fragment: Annotated[str, QueryParameter(max_length=10)] = "forecast"
) -> Response[str]:
    """Return a part of the page, for the form as it is now.

    `fragment`: `forecast`; `rows`, the first ten, which has an entry in the audit log; or `snippets`, the same request
    from elsewhere.
    """
    _, caller = service_and_caller(request)
    form = await read_form(request, body)
    # In threads, as the largest form takes longer than a request may hold the event loop.
    export = await asyncio.to_thread(export_of, form)
    if fragment == "snippets":
        is_later, address = form.fields.get("when") == "at", base_url(request)
        snippets = await asyncio.to_thread(snippets_of, export, caller.chain, address, is_later=is_later)
        return await asyncio.to_thread(render, "export_snippets.html", snippets=snippets)
    found = await segments.preview_of_body(
        request, await _preview_body(request, form, export), shows_rows=fragment == "rows"
    )
    if fragment == "rows":
        return await asyncio.to_thread(lambda: render("export_rows.html", first=rows_of(found.sample)))
    return render("export_forecast.html", found=found)


async def _preview_body(request: AnyRequest, form: ExportForm, export: ExportBody) -> dict[str, Any]:
    """Return the body of `POST /segments/preview` for the first index of an export."""
    index = export.indexes[0]
    segment = export.of("segment", index)
    if "segment_id" in export.trigger:
        stored = await segments.get_segment.fn(request, export.trigger["segment_id"])
        segment = stored_members(stored.content.segment)
    if segment is None:
        segment = {"entity": "people", "index": index, "join": "all", "chain_id": form.caller.chain, "rules": []}
    options = {
        "fields": export.of("fields", index),
        "timezone": export.trigger.get("timezone"),
        "incremental": export.target.get("incremental"),
        "deletes": export.target.get("deletes"),
    }
    return {"segment": segment, **{key: value for key, value in options.items() if value is not None}}
