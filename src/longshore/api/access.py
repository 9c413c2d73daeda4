"""The guard in front of every endpoint: who asks, and may they; and do they ask with words that we know.

What each endpoint needs stands in `levels`; what a token with limits may not see, in `limits`.
"""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection

from longshore.access.audit import Actor
from longshore.access.login import network
from longshore.access.sessions import Credential, SignedIn
from longshore.access.tokens import Caller, ForbiddenError, Level, UnauthorizedError
from longshore.api.levels import NEEDED, Open
from longshore.api.requests import concerns
from longshore.api.service import Service
from longshore.faults import MAX_SUGGESTIONS, Fault, FaultyError, suggestion

COOKIES = ("__Host-longshore", "longshore")
"""What a session's cookie is called over TLS, and without."""

PREFIXES = ("x-session-", "x-spaaza-session-")
CHAIN_HEADERS = tuple(f"{prefix}chain-id" for prefix in PREFIXES)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

AnyRequest = Request[Any, Any, Any]
AnyConnection = ASGIConnection[Any, Any, Any, Any]


class OtherSiteError(Exception):
    """A request that a browser made for a page of another site, or that does not say whose page it is."""


async def guard(connection: AnyRequest) -> None:
    """Raise what keeps the request from going on.

    UnauthorizedError, ForbiddenError, OtherSiteError, TooManyRequestsError.
    """
    service: Service = connection.app.state.service
    needed = NEEDED.get((connection.scope["method"], connection.scope["path_template"]))
    if needed is not Open.PROBE:
        count_address(connection)
    connection.scope["state"]["counted"] = True
    if isinstance(needed, Level):
        caller = await _caller(connection, service, needed)
        _count(connection, service, "credential", f"{caller.kind} {caller.id}")
        connection.scope["user"] = caller
        concerns(chain=caller.chain)
    elif needed is Open.PERSON:
        person = await service.sessions.signed_in(shown_session(connection))
        _count(connection, service, "credential", f"user {person.user}")
        connection.scope["user"] = person
    elif needed is None:
        raise ForbiddenError(Level.ADMIN)


async def _caller(connection: AnyConnection, service: Service, level: Level) -> Caller:
    authorization = connection.headers.get("authorization")
    if authorization is not None and "chain" not in connection.path_params:  # the console is for people
        return await service.doorkeeper.caller(authorization, _chain(connection), level)
    return await service.sessions.caller(shown_session(connection), level)


def _chain(connection: AnyConnection) -> str | None:
    """The chain that a request names: a page of the console in its path, all else in a header."""
    if (chain := connection.path_params.get("chain")) is not None:
        return str(chain)
    headers = connection.headers
    return next((chain for name in CHAIN_HEADERS if (chain := headers.get(name)) is not None), None)


def shown_session(connection: AnyConnection) -> Credential:
    """What the request shows of a session, in headers or in its cookie. Raises UnauthorizedError, OtherSiteError."""
    headers = connection.headers
    for prefix in PREFIXES:
        user, key = headers.get(f"{prefix}user-id"), headers.get(f"{prefix}key")
        if user is not None and key is not None:
            return Credential(user, key, _chain(connection))
    for name in COOKIES:
        user, dot, key = connection.cookies.get(name, "").partition(".")
        if dot:
            refuse_other_site(connection)
            return Credential(user, key, _chain(connection))
    raise UnauthorizedError


def refuse_other_site(connection: AnyConnection) -> None:
    """Raise OtherSiteError for a change that a browser asks for and not for a page of ours: its cookie proves nothing.

    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    if connection.scope.get("method") in SAFE:
        return
    origin = connection.headers.get("origin")
    fetched = connection.headers.get("sec-fetch-site")
    ours = str(connection.base_url).rstrip("/")
    if (fetched is None and origin is None) or fetched not in (None, "same-origin") or origin not in (None, ours):
        raise OtherSiteError


def count_address(connection: AnyConnection) -> None:
    """Count a request of its address, unless that was done. Raises TooManyRequestsError."""
    if "counted" not in connection.scope["state"]:
        connection.scope["state"]["counted"] = True
        _count(connection, connection.app.state.service, "address", network(address(connection)))


def _count(connection: AnyConnection, service: Service, name: str, who: str) -> None:
    fields = service.rates.count(name, who)
    connection.scope["state"].setdefault("headers", []).extend(fields)


def address(connection: AnyConnection) -> str:
    """Where a request comes from: the client, or what a trusted proxy says it is."""
    return connection.client.host if connection.client else ""


def actor(request: AnyRequest) -> Actor:
    """Who makes this request, for the audit log."""
    user, here, id = request.scope.get("user"), address(request), request.scope["state"]["request_id"]
    match user:
        case Caller():
            return Actor(user.kind, user.id, here, id, user.session)
        case SignedIn():
            return Actor("user", str(user.user), here, id, user.session)
    return Actor("address", "", here, id)


def person(request: AnyRequest) -> tuple[Service, SignedIn]:
    """The service and who has signed in. Raises FaultyError for unknown parameters."""
    _refuse_unknown(request)
    return request.app.state.service, request.scope["user"]


def admitted(request: AnyRequest) -> tuple[Service, Caller]:
    """The service and the caller of a request that passed the guard. Raises FaultyError for unknown parameters."""
    _refuse_unknown(request)
    return request.app.state.service, request.scope["user"]


def _refuse_unknown(request: AnyRequest) -> None:
    faults = unknown_parameters(request)
    if faults:
        raise FaultyError(faults)


def unknown_parameters(request: AnyRequest) -> list[Fault]:
    """A fault for each query parameter that the endpoint does not have."""
    if not request.scope["query_string"]:
        return []
    known = request.route_handler.opt.get("parameters", ())
    unknown = list(dict.fromkeys(name for name in request.query_params if name not in known))[:MAX_SUGGESTIONS]
    return [Fault(f"unknown parameter{suggestion(name, known)}", parameter=name) for name in unknown]
