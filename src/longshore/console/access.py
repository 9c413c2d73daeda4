"""The page *Access* and its forms, which need no script. The API's own functions carry them out."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, RawBody
from litestar.response import Redirect

from longshore.access import clients, tokens, users
from longshore.access.sessions import SessionUser
from longshore.access.tokens import Level
from longshore.access.work_of_credentials import OngoingWork
from longshore.api import auth
from longshore.api import clients as client_api
from longshore.api import users as user_api
from longshore.api.clients import ClientId, NewToken
from longshore.api.guard import service_and_caller, shown_session
from longshore.api.problems import Problem
from longshore.api.service import AnyRequest
from longshore.api.users import UserId
from longshore.console.pages import answer_form, as_number, form_of, json_body, redirect, render_page
from longshore.console.zones import with_offset, zone_of
from longshore.database.rows import Page
from longshore.sharing.profile import TokenId, revoke_profile

FIRST_PAGE = Page(100)
NEVER_SHOWN_AGAIN = ("password", "new_password")
"""Fields of forms that come back empty."""


class RefusedForm(msgspec.Struct, frozen=True):
    """A form that was refused, as it comes back."""

    name: str = ""
    """`client`, `token`, `user` or `password`; empty for none."""
    values: dict[str, list[str]] = {}
    """Of its fields, of which some have several."""
    problem: Problem | None = None


NO_FORM = RefusedForm()


class EndedCredential(msgspec.Struct, frozen=True):
    """A credential that a form has ended, with the work that it leaves behind."""

    form: str
    """The path of the form, which stops the work when it is sent again with `stop`."""
    work: OngoingWork
    tried: bool
    """Whether the work was to be stopped."""


@get("/console/{chain:int}/access", include_in_schema=False)
async def show_access(request: AnyRequest) -> Response[str]:
    """Return the page *Access*: your profile files and sessions; for admins also clients, tokens and users."""
    return await _access(request)


async def _access(
    request: AnyRequest,
    form: RefusedForm = NO_FORM,
    token: NewToken | None = None,
    ended: EndedCredential | None = None,
) -> Response[str]:
    """Return the page, with a form that was refused, the secret of a new token, or the work of an ended credential."""
    service, caller = service_and_caller(request)
    user: SessionUser = await service.sessions.signed_in(shown_session(request))
    content: dict[str, Any] = {"form": form, "new_token": token, "ended": ended, "zone": zone_of(request, "")}
    content["sessions"] = await service.sessions.list(user)
    content["profiles"], content["more_profiles"] = await tokens.of_user(
        service.pool, caller.chain, user.user, FIRST_PAGE
    )
    if caller.level >= Level.ADMIN:
        content["clients"], content["more_clients"] = await clients.of_chain(service.pool, caller.chain, FIRST_PAGE)
        content["tokens"], content["more_tokens"] = await tokens.of_chain(service.pool, caller.chain, None, FIRST_PAGE)
        content["users"], content["more_users"] = await users.of_chain(service.pool, caller.chain, FIRST_PAGE)
        content["columns"] = [f"{name}.{field}" for name, index in service.catalog.items() for field in index.fields]
        content["indexes"] = list(service.catalog)
    return await render_page(request, "access.html", "Access", **content)


async def _carry_out(
    request: AnyRequest, body: bytes, name: str, change: Callable[[dict[str, str]], Awaitable[Any]]
) -> Response[str]:
    """Carry out a form, and show the page again: with the form as it was sent, if it was refused."""

    async def carry_out() -> Response[str]:
        outcome = await change(form_of(body))
        token = outcome.content if isinstance(outcome, Response) and isinstance(outcome.content, NewToken) else None
        return await _access(request, token=token) if token else redirect(request, "access")

    async def show(problem: Problem) -> Response[str]:
        values = {field: texts for field, texts in _all_values(body).items() if field not in NEVER_SHOWN_AGAIN}
        return await _access(request, RefusedForm(name, values, problem))

    return await answer_form(request, carry_out(), show)


def _all_values(body: bytes) -> dict[str, list[str]]:
    return parse_qs(body.decode("utf-8", "replace"))


@post("/console/{chain:int}/access/clients", status_code=200, include_in_schema=False)
async def add_client(request: AnyRequest, body: RawBody) -> Response[str]:
    """Create a service client."""
    return await _carry_out(
        request, body, "client", lambda fields: client_api.create_service_client.fn(request, json_body(fields))
    )


@post("/console/{chain:int}/access/clients/{id:str}", status_code=200, include_in_schema=False)
async def enable_or_disable_client(request: AnyRequest, id: ClientId, body: RawBody) -> Response[str]:
    """Turn a service client on or off."""
    stop = _stop(body)
    changed = await client_api.change_service_client.fn(request, id, _enabled(body), stop)
    return await _after_end(request, changed.ongoing, stop)


async def _after_end(request: AnyRequest, work: OngoingWork | None, stop: bool) -> Response[str]:
    """Return the page with the work of an ended credential; a redirect to the page if there is none."""
    if work is None or not (work.tasks or work.webhooks):
        return redirect(request, "access")
    return await _access(request, ended=EndedCredential(request.scope["path"], work, stop))


def _stop(body: bytes) -> bool:
    return form_of(body).get("stop") == "true"


def _enabled(body: bytes) -> RawBody:
    return json_body({"enabled": form_of(body).get("enabled") == "true"})


@post("/console/{chain:int}/access/tokens", status_code=200, include_in_schema=False)
async def add_token(request: AnyRequest, body: RawBody) -> Response[str]:
    """Create an access token, and show its secret."""
    values = _all_values(body)

    async def create(fields: dict[str, str]) -> Any:
        expires = fields.get("expires", "")
        value: dict[str, Any] = {
            "client_id": as_number(fields.get("client_id", "")),
            "level": fields.get("level", ""),
            "hidden_columns": values.get("hidden_columns", []),
        }
        if "indexes" in values:
            value["indexes"] = values["indexes"]
        if expires:
            value["expires"] = with_offset(expires, zone_of(request, ""))
        return await client_api.create_access_token.fn(request, json_body(value))

    return await _carry_out(request, body, "token", create)


@post("/console/{chain:int}/access/tokens/{id:str}/revoke", status_code=200, include_in_schema=False)
async def revoke_token(request: AnyRequest, id: FromPath[str], body: RawBody) -> Response[str]:
    """Revoke an access token."""
    stop = _stop(body)
    return await _after_end(request, await client_api.revoke_access_token.fn(request, id, stop), stop)


@post("/console/{chain:int}/access/profiles/{id:str}/revoke", include_in_schema=False)
async def revoke_own_profile(request: AnyRequest, id: TokenId) -> Redirect:
    """Revoke the token of one of your profile files."""
    await revoke_profile.fn(request, id)
    return redirect(request, "access")


@post("/console/{chain:int}/access/users", status_code=200, include_in_schema=False)
async def add_user(request: AnyRequest, body: RawBody) -> Response[str]:
    """Create a user."""
    return await _carry_out(request, body, "user", lambda fields: user_api.create_user.fn(request, json_body(fields)))


@post("/console/{chain:int}/access/users/{id:str}", status_code=200, include_in_schema=False)
async def enable_or_disable_user(request: AnyRequest, id: UserId, body: RawBody) -> Response[str]:
    """Turn a user's level for the chain on or off."""
    stop = _stop(body)
    changed = await user_api.change_user.fn(request, id, _enabled(body), stop)
    return await _after_end(request, changed.ongoing, stop)


@post("/console/{chain:int}/access/sessions/{id:str}/end", include_in_schema=False)
async def end_session(request: AnyRequest, id: FromPath[str]) -> Redirect:
    """End one of your sessions; after this one the page leads to the sign-in page."""
    back = redirect(request, "access")
    await _as_user(request)
    await auth.end_session.fn(request, id)
    return back


@post("/console/{chain:int}/access/password", status_code=200, include_in_schema=False)
async def set_password(request: AnyRequest, body: RawBody) -> Response[str]:
    """Change your password, which ends all your sessions."""
    caller = request.scope["user"]

    async def change(fields: dict[str, str]) -> None:
        await _as_user(request)
        try:
            await auth.change_password.fn(request, json_body(fields))
        finally:
            request.scope["user"] = caller

    return await _carry_out(request, body, "password", change)


async def _as_user(request: AnyRequest) -> None:
    """Make the signed-in user, and not their level for a chain, that of the request."""
    service, _ = service_and_caller(request)
    request.scope["user"] = await service.sessions.signed_in(shown_session(request))
