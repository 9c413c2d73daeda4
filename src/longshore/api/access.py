"""The guard in front of every endpoint: who asks, and may they; and do they ask with words that we know.

An endpoint says `level=…` (None for everybody); one that says nothing is closed.
"""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from longshore.access.tokens import Caller, ForbiddenError, Level
from longshore.api.service import Service
from longshore.faults import Fault, FaultyError, suggestion

SECURITY: list[dict[str, list[str]]] = [{"accessToken": []}]

AnyRequest = Request[Any, Any, Any]


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raise UnauthorizedError or ForbiddenError unless the request may go on."""
    if "level" not in handler.opt:
        raise ForbiddenError(Level.ADMIN)
    level = handler.opt["level"]
    if level is not None:
        service: Service = connection.app.state.service
        connection.scope["user"] = await service.doorkeeper.caller(connection.headers.get("authorization"), level)


def admitted(request: AnyRequest) -> tuple[Service, Caller]:
    """The service and the caller of a request that passed the guard. Raises FaultyError for unknown parameters."""
    faults = unknown_parameters(request)
    if faults:
        raise FaultyError(faults)
    return request.app.state.service, request.scope["user"]


def unknown_parameters(request: AnyRequest) -> list[Fault]:
    """A fault for each query parameter that the endpoint does not have."""
    known = request.route_handler.opt.get("parameters", ())
    unknown = dict.fromkeys(name for name in request.query_params if name not in known)
    return [Fault(f"unknown parameter{suggestion(name, known)}", parameter=name) for name in unknown]
