"""The resource `auth`: users sign in and out, list and end their sessions, and change their password."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import FromPath, RawBody

from longshore.access import passwords, sessions, users
from longshore.access.sessions import NewSession, Session
from longshore.access.sign_in import OneTimeCodeChallenge, SignInError
from longshore.api.audited_changes import audited_user
from longshore.api.bodies import check_body, read_json
from longshore.api.guard import COOKIES, actor, refuse_other_site, service_of, signed_in_user
from longshore.api.ids import uuid_of
from longshore.api.openapi_responses import answers
from longshore.api.service import AnyRequest
from longshore.errors import NotFoundError
from longshore.validation import ValidationError, Violation


class SignInBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name and password of a user who signs in."""

    username: str
    password: str
    cookie: bool = False
    """Whether the session goes into a cookie, for browsers, and not into the answer."""


class OneTimeCodeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second step of signing in, for users with one-time codes."""

    attempt_id: UUID
    passcode: str
    cookie: bool = False
    """Whether the session goes into a cookie, for browsers, and not into the answer."""


class PasswordBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new password."""

    password: str
    new_password: str


ONE_TIME_CODE_NEEDED = "The password is right, and a one-time code is needed: send it to `POST /auth/session`."


@post("/auth/login", status_code=200, responses=answers(OneTimeCodeChallenge, {202: ONE_TIME_CODE_NEEDED}))
async def login(request: AnyRequest, body: Annotated[RawBody, SignInBody]) -> Response[NewSession]:
    """Sign in with user name and password. Answers a session, or 202 where a one-time code is needed as well."""
    service = service_of(request)
    fields = check_body(SignInBody, read_json(request, body))
    if "\x00" in fields.username:  # PostgreSQL takes no U+0000
        raise ValidationError([Violation("expected a string without U+0000", "/username")])
    if fields.cookie:
        refuse_other_site(request)
    session = await service.sign_in.with_password(fields.username, fields.password, actor(request))
    if isinstance(session, OneTimeCodeChallenge):
        return Response(session, status_code=202)  # type: ignore[arg-type]  # the other answer, documented beside it
    return _answer(request, session, fields.cookie)


@post("/auth/session", status_code=200)
async def open_session(request: AnyRequest, body: Annotated[RawBody, OneTimeCodeBody]) -> Response[NewSession]:
    """Complete a sign-in with a one-time code. Five wrong codes end the sign-in."""
    service = service_of(request)
    fields = check_body(OneTimeCodeBody, read_json(request, body))
    if fields.cookie:
        refuse_other_site(request)
    session = await service.sign_in.with_one_time_code(fields.attempt_id, fields.passcode, actor(request))
    return _answer(request, session, fields.cookie)


@get("/auth/sessions")
async def list_sessions(request: AnyRequest) -> list[Session]:
    """Return your sessions, newest first."""
    service, user = signed_in_user(request)
    return await service.sessions.list(user)


@delete("/auth/sessions/{id:str}")
async def end_session(request: AnyRequest, id: FromPath[str]) -> None:
    """End one of your sessions."""
    _, user = signed_in_user(request)
    session = uuid_of(id, "session-not-found")
    async with audited_user(request, "session.end") as connection:
        if not await sessions.end(connection, user.user, session):
            raise NotFoundError("session-not-found")


@post("/auth/logout", status_code=204)
async def logout(request: AnyRequest) -> Response[None]:
    """End the session of this request."""
    _, user = signed_in_user(request)
    async with audited_user(request, "session.end") as connection:
        await sessions.end(connection, user.user, user.session)
    return Response(None, cookies=no_cookies(request))


@post("/auth/password", status_code=204)
async def change_password(request: AnyRequest, body: Annotated[RawBody, PasswordBody]) -> None:
    """Change your password. All your sessions end, this one included."""
    value = read_json(request, body)
    service, user = signed_in_user(request)
    fields = check_body(PasswordBody, value)
    if expected := passwords.violation(fields.new_password):
        raise ValidationError([Violation(expected, "/new_password")])
    confirmed = await service.sign_in.confirm(user.user, fields.password, actor(request))
    async with service.pool.acquire() as connection, connection.transaction():
        if not await users.set_password(connection, actor(request), user.user, fields.new_password, confirmed):
            raise SignInError  # an operator has set another password meanwhile, or disabled the user


def _answer(request: AnyRequest, session: NewSession, in_cookie: bool) -> Response[NewSession]:
    if not in_cookie:
        return Response(session)
    return Response(msgspec.structs.replace(session, session_key=""), cookies=[cookie_of(request, session)])


def cookie_of(request: AnyRequest, session: NewSession) -> Cookie:
    """Return the cookie of a new session."""
    secure = request.scope["scheme"] == "https"
    seconds = int(request.app.state.settings.session_life)
    return _cookie(request, COOKIES["https" if secure else "http"], f"{session.user_id}.{session.session_key}", seconds)


def no_cookies(request: AnyRequest) -> list[Cookie]:
    """Return the cookies that delete the session's cookie in the browser."""
    return [_cookie(request, name, "", 0) for name in COOKIES.values() if name in request.cookies]


def _cookie(request: AnyRequest, name: str, value: str, seconds: int) -> Cookie:
    secure = request.scope["scheme"] == "https"
    return Cookie(key=name, value=value, path="/", max_age=seconds, secure=secure, httponly=True, samesite="strict")
