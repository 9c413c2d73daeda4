"""The pages *Destinations*: a chain's own places for results, created, tested, changed and deleted by forms.

The forms need no script; the API's own functions carry them out. A page never holds a secret, so an answer to a form
has its secret fields empty.
"""

from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter, RawBody

from longshore.access.tokens import Caller
from longshore.api import destinations
from longshore.api.bodies import stored_members
from longshore.api.destinations import DestinationKind, DestinationTest, tag_of
from longshore.api.guard import service_and_caller
from longshore.api.paging import Offset
from longshore.api.problems import Problem
from longshore.api.service import AnyRequest, Service
from longshore.console.destination_form import (
    KIND_NAMES,
    distinctive_settings,
    fields_of,
    form_violations,
    setting_texts,
    texts_of,
    values_of,
)
from longshore.console.pages import answer_form, form_of, json_body, paging, pop_idempotency_key, redirect, render_page
from longshore.database.rows import Page
from longshore.destinations import stored
from longshore.destinations.stored import Destination
from longshore.errors import ProblemError
from longshore.exports.rights import may_see
from longshore.tasks import delivery_queries
from longshore.validation import ValidationError, Violation

PAGE_SIZE = 50
DELIVERIES_PAGE_SIZE = 25


class DestinationForm(msgspec.Struct, frozen=True):
    """The form of a new destination or of a change, as it is shown."""

    kind: DestinationKind
    name: str
    texts: dict[str, str]
    """The texts in the inputs of the settings, by name."""
    destination: Destination | None = None
    """The destination to change."""
    revision: str = ""
    """The entity tag that the destination had when the form was opened."""


@get("/console/{chain:int}/destinations", include_in_schema=False)
async def show_destinations(request: AnyRequest, offset: Offset = 0) -> Response[str]:
    """Return the chain's destinations, newest first, each with its last delivery."""
    service, caller = service_and_caller(request)
    listed, more = await stored.list_destinations(service.pool, caller.chain, Page(PAGE_SIZE, offset))
    newest = await delivery_queries.newest_of(service.pool, caller.chain, [each.name for each in listed])
    last = {name: row for name, row in newest.items() if may_see(caller, row.reads, service.catalog)}
    schemas = {kind.kind: kind.settings for kind in await _kinds(request)}
    rows = [
        (each, distinctive_settings(schemas.get(each.kind), stored_members(each.settings)), last.get(each.name))
        for each in listed
    ]
    return await render_page(
        request,
        "destinations.html",
        "Destinations",
        rows=rows,
        kind_names=KIND_NAMES,
        **paging(Page(PAGE_SIZE, offset), more),
    )


@get("/console/{chain:int}/destinations/new", include_in_schema=False)
async def show_new_destination(
    request: AnyRequest, kind: Annotated[str, QueryParameter(max_length=100)] = ""
) -> Response[str]:
    """Return the form of a new destination of a kind; without a kind, those to choose from."""
    kinds = await _kinds(request)
    for chosen in kinds:
        if chosen.kind == kind:
            return await _form(request, DestinationForm(chosen, "", texts_of("settings", chosen.settings, {})))
    return await render_page(request, "destination_kinds.html", "New destination", kinds=kinds, kind_names=KIND_NAMES)


@post("/console/{chain:int}/destinations/new", status_code=200, include_in_schema=False)
async def create_destination(request: AnyRequest, body: RawBody) -> Response[str]:
    """Create the destination of a form, or test it; `test` in the form says so."""
    fields = form_of(body)
    key = pop_idempotency_key(fields)
    chosen = await _kind(request, fields.get("kind", ""))
    if chosen is None:
        raise ValidationError([Violation("expected a kind of destination that is installed", "/kind")])
    form = DestinationForm(chosen, fields.get("name", ""), fields)
    value = _body(form, fields)

    async def create() -> Response[str]:
        if "test" in fields:
            return await _form(
                request, form, test=await destinations.test_new_destination.fn(request, json_body(value))
            )
        new = (await destinations.create_destination.fn(request, json_body(value), key)).content
        return redirect(request, f"destinations/{new.id}")

    return await answer_form(request, create(), partial(_form, request, form))


@get("/console/{chain:int}/destinations/{id:str}", include_in_schema=False)
async def show_destination(request: AnyRequest, id: FromPath[str], offset: Offset = 0) -> Response[str]:
    """Return one destination: its settings, and what was delivered when."""
    return await _page_of(request, id, offset=offset)


@post("/console/{chain:int}/destinations/{id:str}/test", status_code=200, include_in_schema=False)
async def test_destination(request: AnyRequest, id: FromPath[str]) -> Response[str]:
    """Test a destination with what is stored, and show the steps on its page."""

    async def test() -> Response[str]:
        return await _page_of(request, id, test=await destinations.test_destination.fn(request, id))

    return await answer_form(request, test(), partial(_page_of, request, id))


@get("/console/{chain:int}/destinations/{id:str}/change", include_in_schema=False)
async def show_change(request: AnyRequest, id: FromPath[str]) -> Response[str]:
    """Return the form that changes a destination's settings, its secret, or both."""
    return await _form(request, await _stored_form(request, id))


@post("/console/{chain:int}/destinations/{id:str}/change", status_code=200, include_in_schema=False)
async def change_destination(request: AnyRequest, id: FromPath[str], body: RawBody) -> Response[str]:
    """Change a destination as a form says, or test it so; `test` in the form says so. An empty secret is kept."""
    before, fields = await _stored_form(request, id), form_of(body)
    form = msgspec.structs.replace(before, texts=fields, revision=fields.get("revision", before.revision))
    value = _body(form, fields)

    async def change() -> Response[str]:
        if "test" in fields:
            return await _form(
                request, form, test=await destinations.test_new_destination.fn(request, json_body(value))
            )
        same = all(fields.get(name, "").replace("\r\n", "\n") == text for name, text in before.texts.items())
        members = [*([] if same else ["settings"]), *(["secret"] if value["secret"] else [])]
        changed = {member: value[member] for member in members}
        await destinations.change_stored(request, id, changed, expected=form.revision)
        return redirect(request, f"destinations/{id}")

    return await answer_form(request, change(), partial(_form, request, form))


@post("/console/{chain:int}/destinations/{id:str}/delete", status_code=200, include_in_schema=False)
async def delete_destination(request: AnyRequest, id: FromPath[str]) -> Response[str]:
    """Delete a destination; while a task uses it, its page says so."""

    async def delete() -> Response[str]:
        await destinations.delete_destination.fn(request, id)
        return redirect(request, "destinations")

    return await answer_form(request, delete(), partial(_page_of, request, id))


async def _kinds(request: AnyRequest) -> list[DestinationKind]:
    return await destinations.list_destination_kinds.fn(request)  # type: ignore[no-any-return]  # Litestar's `fn` is Any


async def _kind(request: AnyRequest, name: str) -> DestinationKind | None:
    return next((kind for kind in await _kinds(request) if kind.kind == name), None)


async def _stored_form(request: AnyRequest, id: str) -> DestinationForm:
    """Return the form of a stored destination. Raises ProblemError."""
    current = await destinations.get_stored(request, id)
    found = current.destination
    kind = await _kind(request, found.kind)
    if kind is None:
        raise ProblemError("destination-unusable", f"The kind {found.kind!r} is not installed.")
    texts = texts_of("settings", kind.settings, stored_members(found.settings))
    return DestinationForm(kind, found.name, texts, found, tag_of(current))


def _body(form: DestinationForm, fields: dict[str, str]) -> dict[str, Any]:
    """Return the body of `POST /destinations` that a form stands for."""
    return {
        **({"name": form.name} if form.name else {}),
        "kind": form.kind.kind,
        "settings": values_of("settings", form.kind.settings, fields),
        "secret": values_of("secret", form.kind.secret, fields),
    }


async def _form(
    request: AnyRequest, form: DestinationForm, problem: Problem | None = None, test: DestinationTest | None = None
) -> Response[str]:
    """Return the page with a form, and the problem or the test that its fields had."""
    settings = fields_of("settings", form.kind.settings, form.texts)
    secret = fields_of("secret", form.kind.secret, {}, hidden=True)
    violations = (problem and problem.errors) or []
    return await render_page(
        request,
        "destination_form.html",
        f"Change {form.name}" if form.destination else "New destination",
        form=form,
        kind_name=KIND_NAMES.get(form.kind.kind, form.kind.kind),
        members=[("settings", "Settings", settings), ("secret", "Secret", secret)],
        violations=form_violations(violations, settings + secret),
        problem=problem,
        test=test,
    )


async def _page_of(
    request: AnyRequest, id: str, problem: Problem | None = None, test: DestinationTest | None = None, offset: int = 0
) -> Response[str]:
    """Return the page of a destination, and the problem or the test that its forms led to."""
    service, caller = service_and_caller(request)
    found = (await destinations.get_stored(request, id)).destination
    kind = await _kind(request, found.kind)
    deliveries, more = await _deliveries(service, caller, found, offset)
    return await render_page(
        request,
        "destination.html",
        found.name,
        destination=found,
        kind_name=KIND_NAMES.get(found.kind, found.kind),
        settings=setting_texts(kind.settings if kind else None, stored_members(found.settings)),
        is_usable=kind is not None,
        deliveries=deliveries,
        problem=problem,
        test=test,
        **paging(Page(DELIVERIES_PAGE_SIZE, offset), more),
    )


async def _deliveries(
    service: Service, caller: Caller, found: Destination, offset: int
) -> tuple[list[delivery_queries.DeliveryRow], bool]:
    """Return a page of the deliveries to a destination that the caller may see, and whether more follow."""
    of_page = Page(DELIVERIES_PAGE_SIZE, offset)
    rows, more = await delivery_queries.of_destination(service.pool, caller.chain, found.name, of_page)
    return [row for row in rows if may_see(caller, row.reads, service.catalog)], more
