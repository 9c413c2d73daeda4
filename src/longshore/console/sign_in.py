"""Signing in and out of the console."""

from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import RawBody
from litestar.response import Redirect

from longshore.access import users
from longshore.access.sessions import NewSession
from longshore.access.sign_in import OneTimeCodeChallenge, SignInError
from longshore.access.tokens import UnauthorizedError
from longshore.api.auth import cookie_of, logout, no_cookies
from longshore.api.guard import actor, refuse_other_site, shown_session
from longshore.api.problem_kinds import KINDS
from longshore.api.service import AnyRequest, Service
from longshore.console.pages import form_of
from longshore.console.rendering import render
from longshore.errors import OverloadError

WRONG_CREDENTIALS = "The name or the password is wrong."
WRONG_CODE = "The one-time code is wrong, or this sign-in has ended. Sign in again."


@get("/", include_in_schema=False)
async def home(request: AnyRequest) -> Response[str]:
    """Redirect to the tasks of the user's first chain, or to the sign-in page."""
    service: Service = request.app.state.service
    try:
        user = await service.sessions.signed_in(shown_session(request))
    except UnauthorizedError:
        return Redirect("/sign-in", status_code=303)
    name, levels = await users.name_and_levels(service.pool, user.user)
    if not levels:
        detail = f"{name} has no level for any chain. An admin of a chain can give one."
        return render("problem.html", 403, title="No chain", detail=detail, request_id="", violations=[], chain=None)
    return Redirect(f"/console/{min(levels)}/tasks", status_code=303)


@get("/sign-in", include_in_schema=False)
async def show_sign_in(request: AnyRequest) -> Response[str]:
    """Return the form for name and password."""
    return render("sign_in.html", next=_local(request.query_params.get("next", "")), violation="", name="")


@post("/sign-in", status_code=200, include_in_schema=False)
async def sign_in(request: AnyRequest, body: RawBody) -> Response[str]:
    """Check name and password; return the form for a one-time code where one is needed."""
    service: Service = request.app.state.service
    refuse_other_site(request)
    form = form_of(body)
    next_path, name = _local(form.get("next", "")), form.get("username", "")
    try:
        session = await service.sign_in.with_password(
            name.replace("\x00", ""), form.get("password", ""), actor(request)
        )
    except SignInError:
        return render("sign_in.html", 401, next=next_path, violation=WRONG_CREDENTIALS, name=name)
    except OverloadError as error:
        violation = f"{error.detail} Try again in {error.seconds} seconds."
        answer = render("sign_in.html", KINDS[error.kind].status, next=next_path, violation=violation, name=name)
        answer.headers |= error.headers
        return answer
    if isinstance(session, OneTimeCodeChallenge):
        return render("one_time_code.html", next=next_path, pending=str(session.attempt_id))
    return _signed_in(request, session, next_path)


@post("/sign-in/passcode", status_code=200, include_in_schema=False)
async def one_time_code(request: AnyRequest, body: RawBody) -> Response[str]:
    """Check the one-time code."""
    service: Service = request.app.state.service
    refuse_other_site(request)
    form = form_of(body)
    next_path = _local(form.get("next", ""))
    try:
        pending = UUID(form.get("pending", ""))
        session = await service.sign_in.with_one_time_code(pending, form.get("passcode", ""), actor(request))
    except (SignInError, ValueError):
        return render("sign_in.html", 401, next=next_path, violation=WRONG_CODE, name="")
    return _signed_in(request, session, next_path)


@post("/sign-out", status_code=303, include_in_schema=False)
async def sign_out(request: AnyRequest) -> Response[Any]:
    """End the session, if there is one, and show the sign-in page."""
    service: Service = request.app.state.service
    try:
        request.scope["user"] = await service.sessions.signed_in(shown_session(request))
        await logout.fn(request)
    except UnauthorizedError:
        pass
    return Redirect("/sign-in", status_code=303, cookies=no_cookies(request))


def _signed_in(request: AnyRequest, session: NewSession, there: str) -> Response[str]:
    return Redirect(there or "/", status_code=303, cookies=[cookie_of(request, session)])


def _local(path: str) -> str:
    """Return a path of this service; an empty string for one that browsers take for another site's address."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else ""
