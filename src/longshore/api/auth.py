"""The resource `auth`: people sign in and out, see their sessions, and change their password."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import FromPath, RawBody

from longshore.access import audit, passwords, sessions, users
from longshore.access.passwords import PasswordError
from longshore.access.sessions import NewSession, Session
from longshore.access.sign_in import PasscodeChallenge
from longshore.api.bodies import read_json
from longshore.api.documentation import answers
from longshore.api.guard import COOKIES, AnyRequest, actor, person, refuse_other_site, unknown_parameters
from longshore.api.service import Service
from longshore.errors import ProblemError
from longshore.validation import ValidationError, Violation, check


class LoginBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who signs in."""

    username: str
    password: str
    cookie: bool = False
    """Put the session into a cookie, for a browser, rather than the key into the answer."""


class PasscodeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second step, where a user has passcodes."""

    attempt_id: UUID
    passcode: str
    cookie: bool = False
    """Put the session into a cookie, for a browser, rather than the key into the answer."""


class PasswordBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new password."""

    password: str
    new_password: str


WAITS = "The password is right, and a passcode is needed: send it to `POST /auth/session`."


@post(
    "/auth/login",
    status_code=200,
    responses=answers(PasscodeChallenge, {202: WAITS}),
)
async def login(request: AnyRequest, body: Annotated[RawBody, LoginBody]) -> Response[NewSession]:
    """Sign in with user name and password. Answers a session, or 202 where a passcode is needed as well."""
    service = _service(request)
    given = _read(LoginBody, request, body)
    if "\x00" in given.username:  # PostgreSQL takes no U+0000
        raise ValidationError([Violation("expected a string without U+0000", "/username")])
    if given.cookie:
        refuse_other_site(request)
    opened = await service.doorman.login(given.username, given.password, actor(request))
    if isinstance(opened, PasscodeChallenge):
        return Response(opened, status_code=202)  # type: ignore[arg-type]  # the other answer, documented beside it
    return _answer(request, opened, given.cookie)


@post(
    "/auth/session",
    status_code=200,
)
async def open_session(request: AnyRequest, body: Annotated[RawBody, PasscodeBody]) -> Response[NewSession]:
    """End signing in with a passcode. Five wrong ones end the attempt."""
    service = _service(request)
    given = _read(PasscodeBody, request, body)
    if given.cookie:
        refuse_other_site(request)
    opened = await service.doorman.passcode(given.attempt_id, given.passcode, actor(request))
    return _answer(request, opened, given.cookie)


@get("/auth/sessions")
async def list_sessions(request: AnyRequest) -> list[Session]:
    """Your sessions, newest first."""
    service, who = person(request)
    return await service.sessions.list(who)


@delete(
    "/auth/sessions/{id:str}",
    status_code=204,
)
async def end_session(request: AnyRequest, id: FromPath[str]) -> None:
    """End one of your sessions."""
    service, who = person(request)
    try:
        session = UUID(id)
    except ValueError:
        session = UUID(int=0)
    async with service.pool.acquire() as connection, connection.transaction():
        if not await sessions.end(connection, who.user, session):
            raise ProblemError("session-not-found", "You have no session of this id.")
        await audit.record_of_user(connection, actor(request), who.user, "session.end")


@post("/auth/logout", status_code=204)
async def logout(request: AnyRequest) -> Response[None]:
    """End the session that this request came with."""
    service, who = person(request)
    async with service.pool.acquire() as connection, connection.transaction():
        await sessions.end(connection, who.user, who.session)
        await audit.record_of_user(connection, actor(request), who.user, "session.end")
    return Response(None, status_code=204, cookies=no_cookies(request))


@post(
    "/auth/password",
    status_code=204,
)
async def change_password(request: AnyRequest, body: Annotated[RawBody, PasswordBody]) -> None:
    """Change your password. All your sessions end, this one too."""
    service, who = person(request)
    given = _read(PasswordBody, request, body)
    try:
        passwords.check_new(given.new_password)
    except PasswordError as error:
        raise ValidationError([Violation(str(error), "/new_password")]) from None
    await service.doorman.confirm(who.user, given.password, actor(request))
    async with service.pool.acquire() as connection, connection.transaction():
        await users.set_password(connection, who.user, given.new_password)
        await audit.record_of_user(connection, actor(request), who.user, "user.password")


def _service(request: AnyRequest) -> Service:
    violations = unknown_parameters(request)
    if violations:
        raise ValidationError(violations)
    service: Service = request.app.state.service
    return service


def _read(kind: Any, request: AnyRequest, body: bytes) -> Any:
    violations: list[Violation] = []
    found = check(kind, read_json(request, body), "", violations)
    if violations:
        raise ValidationError(violations)
    return found


def _answer(request: AnyRequest, opened: NewSession, in_cookie: bool) -> Response[NewSession]:
    if not in_cookie:
        return Response(opened)
    return Response(msgspec.structs.replace(opened, session_key=""), cookies=[cookie_of(request, opened)])


def cookie_of(request: AnyRequest, opened: NewSession) -> Cookie:
    """The cookie of a new session."""
    secure = request.scope["scheme"] == "https"
    life = int(request.app.state.settings.session_life)
    return _cookie(request, COOKIES["https" if secure else "http"], f"{opened.user_id}.{opened.session_key}", life)


def no_cookies(request: AnyRequest) -> list[Cookie]:
    """What takes the session's cookie from a browser."""
    return [_cookie(request, name, "", 0) for name in COOKIES.values() if name in request.cookies]


def _cookie(request: AnyRequest, name: str, value: str, life: int) -> Cookie:
    secure = request.scope["scheme"] == "https"
    return Cookie(key=name, value=value, path="/", max_age=life, secure=secure, httponly=True, samesite="strict")
