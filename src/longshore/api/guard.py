"""The guard in front of every endpoint: it authenticates the credential, checks its level and counts the request.

`routes` has the level that each endpoint needs, `visibility_checks` what a credential may not see.
"""

import re
from collections import Counter
from typing import Any

import msgspec
from litestar import Response
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException

from longshore.access.audit import Actor
from longshore.access.rate_limits import network
from longshore.access.sessions import SessionCredential, SessionUser
from longshore.access.tokens import Caller, Level, UnauthorizedError, level_error
from longshore.api.conditional import refuse_malformed_conditions, require_match
from longshore.api.middleware import bind_ids
from longshore.api.parameters import non_decimal_parameters, unknown_parameters
from longshore.api.routes import NEEDED, NoLevel
from longshore.api.service import AnyRequest, Service
from longshore.api.sharing_errors import is_sharing
from longshore.database.fair_pool import use_connections_of
from longshore.errors import NotFoundError, ProblemError
from longshore.validation import MAX_SUGGESTIONS, ValidationError, Violation, pointer

COOKIES = {"https": "__Host-longshore", "http": "longshore"}
"""The name of a session's cookie by scheme. Browsers let only the host itself set cookies that begin with `__Host-`."""

PREFIXES = ("x-session-", "x-spaaza-session-")
CHAIN_HEADERS = tuple(f"{prefix}chain-id" for prefix in PREFIXES)
CHAIN_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")  # chain 0 has the service's own tasks
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

AnyConnection = ASGIConnection[Any, Any, Any, Any]


async def guard(connection: AnyRequest) -> Response[None] | None:
    """Raise the ProblemError that refuses a request; answer an OPTIONS with the methods of its path alone."""
    service: Service = connection.app.state.service
    scope = connection.scope
    needed = NEEDED.get((scope["method"], scope["path_template"]))
    _refuse_odd_numbers(connection)
    if scope["method"] == "OPTIONS":
        needed = NoLevel.PUBLIC
    if needed is not NoLevel.PROBE:
        count_address(connection)
    connection.scope["state"]["counted"] = True
    if isinstance(needed, Level):
        caller = await _caller(connection, service, needed)
        _count(connection, service, "credential", f"{caller.kind} {caller.id}")
        connection.scope["user"] = caller
        bind_ids(chain=caller.chain)
        use_connections_of(caller.chain)
    elif needed is NoLevel.USER:
        user = await service.sessions.signed_in(shown_session(connection))
        _count(connection, service, "credential", f"user {user.user}")
        connection.scope["user"] = user
    elif needed is None:
        raise level_error(Level.ADMIN)
    refuse_repeated(connection)
    if scope["method"] not in SAFE:
        refuse_malformed_conditions(connection)
        if not connection.route_handler.opt.get("conditional"):
            require_match(connection, None)
    if "idempotency-key" in connection.headers and connection.route_handler.opt.get("without_key"):
        expected = "is not supported here: each request is executed, and a repeated one once more"
        raise ValidationError([Violation(expected, parameter="Idempotency-Key")])
    if scope["method"] == "POST" and "body" not in connection.route_handler.parsed_fn_signature.parameters:
        await _refuse_body(connection)
    return _methods(scope["path_template"]) if scope["method"] == "OPTIONS" else None


async def _refuse_body(request: AnyRequest) -> None:
    """Raise ValidationError for the body of a request that takes none; an empty object is none."""
    body = (await request.body()).strip()
    if not body:
        return
    try:
        keys = list(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValidationError([Violation("expected no body, or an empty JSON object", "")]) from None
    if keys:
        raise ValidationError([Violation("unknown key", pointer("", key)) for key in keys[:MAX_SUGGESTIONS]])


def _refuse_odd_numbers(connection: AnyRequest) -> None:
    """Raise NotFoundException for a number in a page's path that is not decimal digits, such as `1_0`."""
    numbers = {f"{{{name}}}": str(value) for name, value in connection.path_params.items() if isinstance(value, int)}
    if numbers:
        scope = connection.scope
        steps = zip(scope["path_template"].split("/"), scope["path"].split("/"), strict=False)  # a file's path is long
        if any(numbers.get(name, step) != step for name, step in steps):
            raise NotFoundException


def _methods(template: str) -> Response[None]:
    methods = sorted({"OPTIONS"} | {method for method, path in NEEDED if path == template})
    headers = {"Allow": ", ".join(methods)}
    if "PATCH" in methods:
        headers["Accept-Patch"] = "application/merge-patch+json, application/json"  # RFC 5789, section 3.1
    return Response(None, status_code=204, headers=headers)


async def _caller(connection: AnyConnection, service: Service, level: Level) -> Caller:
    if is_sharing(connection.scope["path"]):
        return await _sharing_caller(connection, service, level)
    authorization = connection.headers.get("authorization")
    if authorization is not None and "chain" not in connection.path_params:  # the console is for users
        callers = await service.token_auth.callers(authorization)
        caller = callers.get(_chain(connection) or "")
        if caller is None or caller.level < level:
            raise level_error(level)
        return caller
    session = shown_session(connection)
    try:
        chain = _chain_of_session(connection)
    except ValidationError:
        await service.sessions.signed_in(session)  # 401 comes first for a session that has ended
        raise
    return await service.sessions.caller(session, chain, level)


async def _sharing_caller(connection: AnyConnection, service: Service, level: Level) -> Caller:
    """Return the caller of a request of the Delta Sharing protocol, which knows bearer tokens alone.

    Its chain is the share of the path, else that of the token's client.
    """
    callers = await service.token_auth.callers(connection.headers.get("authorization"))
    share = connection.path_params.get("share", "")
    caller = callers.get(share)
    if caller is None:
        raise NotFoundError("table-not-found", f"The token is for no share {share}; `…/shares` lists those it is for.")
    if caller.level < level:
        raise level_error(level)
    return caller


def _chain(connection: AnyConnection) -> str | None:
    """Return the chain that a request names: in the path of a console's page, else in a header; None without one.

    Raises ValidationError.
    """
    if (chain := connection.path_params.get("chain")) is not None:
        return str(chain)
    for name in CHAIN_HEADERS:
        if (chain := connection.headers.get(name)) is not None:
            if not CHAIN_NUMBER.fullmatch(chain):
                raise ValidationError([Violation("expected the number of a chain", parameter=name.title())])
            return chain
    return None


def _chain_of_session(connection: AnyConnection) -> str:
    """Return the chain that a request with a session names. Raises ValidationError if it names none."""
    if (chain := _chain(connection)) is None:
        raise ValidationError([Violation("is required with a session", parameter="X-Session-Chain-Id")])
    return chain


def shown_session(connection: AnyConnection) -> SessionCredential:
    """Return the session that a request names in headers or its cookie. Raises UnauthorizedError and ProblemError."""
    headers = connection.headers
    for prefix in PREFIXES:
        user, key = headers.get(f"{prefix}user-id"), headers.get(f"{prefix}key")
        if user is not None and key is not None:
            return SessionCredential(user, key)
    user, dot, key = _cookie(connection).partition(".")
    if dot:
        refuse_other_site(connection)
        return SessionCredential(user, key)
    raise UnauthorizedError


def _cookie(connection: AnyConnection) -> str:
    """Return the session's cookie. Its name must match byte by byte: a reader that trims it would take a forged one.

    https://www.rfc-editor.org/rfc/rfc6265#section-5.4
    """
    wanted = COOKIES[connection.scope["scheme"]]
    for line in connection.headers.getall("cookie", []):
        for pair in line.split(";"):
            name, _, value = pair.strip(" \t").partition("=")
            if name == wanted:
                return value
    return ""


def refuse_other_site(connection: AnyConnection) -> None:
    """Raise ProblemError for a change that a browser sends for a page of another site: the cookie proves nothing then.

    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    if connection.scope.get("method") in SAFE:
        return
    origin = connection.headers.get("origin")
    fetched = connection.headers.get("sec-fetch-site")
    ours = str(connection.base_url).rstrip("/")
    if (fetched is None and origin is None) or fetched not in (None, "same-origin") or origin not in (None, ours):
        raise ProblemError("other-site")


def count_address(connection: AnyConnection) -> None:
    """Count a request for its address, unless it was counted before. Raises ProblemError."""
    if "counted" not in connection.scope["state"]:
        connection.scope["state"]["counted"] = True
        _count(connection, connection.app.state.service, "address", network(peer_ip(connection)))


def _count(connection: AnyConnection, service: Service, name: str, key: str) -> None:
    fields = service.rate_limiter.count(name, key)
    connection.scope["state"].setdefault("headers", []).extend(fields)


def peer_ip(connection: AnyConnection) -> str:
    """Return the IP address of the client, as trusted proxies report it."""
    return connection.client.host if connection.client else ""


def actor(request: AnyRequest) -> Actor:
    """Return the actor of a request, for the audit log."""
    user, here, id = request.scope.get("user"), peer_ip(request), request.scope["state"]["request_id"]
    match user:
        case Caller():
            return Actor(user.kind, user.id, here, id, user.session)
        case SessionUser():
            return Actor("user", str(user.user), here, id, user.session)
    return Actor("address", "", here, id)


def refuse_repeated(request: AnyRequest) -> None:
    """Raise ValidationError for a repeated query parameter: some readers take the first value, some the last."""
    if not request.scope["query_string"]:
        return
    counts = Counter(name for name, _ in request.query_params.multi_items())
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValidationError([Violation("expected once", parameter=name) for name in repeated])


def service_of(request: AnyRequest) -> Service:
    """Return the service. Raises ValidationError for unknown parameters.

    The guard runs before Litestar reads the parameters. They are refused here, after it, so that an answer names those
    that are unknown together with those that Litestar refuses (`problems`).
    """
    if violations := unknown_parameters(request) + non_decimal_parameters(request):
        raise ValidationError(violations)
    service: Service = request.app.state.service
    return service


def signed_in_user(request: AnyRequest) -> tuple[Service, SessionUser]:
    """Return the service and the user who has signed in. Raises ValidationError for unknown parameters."""
    return service_of(request), request.scope["user"]


def service_and_caller(request: AnyRequest, *, allow_unknown: bool = False) -> tuple[Service, Caller]:
    """Return the service and the caller that the guard found. Raises ValidationError for unknown parameters.

    With `allow_unknown` they are allowed, as later versions of the client's protocol may add some.
    """
    if not allow_unknown:
        return service_of(request), request.scope["user"]
    if violations := non_decimal_parameters(request):
        raise ValidationError(violations)
    return request.app.state.service, request.scope["user"]
