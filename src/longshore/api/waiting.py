"""Requests that wait for a task: counted, and ended when the client disconnects or the credential ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from longshore.access.open_requests import OpenRequest
from longshore.access.rate_limits import network
from longshore.api.guard import peer_ip, service_and_caller
from longshore.api.routes import level_needed
from longshore.api.service import AnyRequest
from longshore.errors import ProblemError
from longshore.tasks.waiters import Waiter


def stay_open(request: AnyRequest) -> OpenRequest:
    """Count a request as open until it has been answered. Raises OverloadError."""
    service, caller = service_and_caller(request)
    opened = service.open_requests.open(caller, network(peer_ip(request)), level_needed(request.scope))
    state = request.scope["state"]
    state["waits"] = True  # its duration does not measure the service
    state.setdefault("at_end", []).append(opened.close)
    return opened


@contextlib.asynccontextmanager
async def held_open(request: AnyRequest, waiter: Waiter) -> AsyncIterator[OpenRequest]:
    """Count a request as open, and wake its waiter when the client disconnects or the credential ends.

    The waiter's `wait` then raises ProblemError, UnauthorizedError or ForbiddenError. Raises OverloadError.
    """
    opened = stay_open(request)
    leaving = asyncio.create_task(_client_left(request), name="wait for the client to leave")
    leaving.add_done_callback(partial(_end, waiter))
    opened.on_end(waiter.end)
    try:
        yield opened
    finally:
        leaving.cancel()


def _end(waiter: Waiter, leaving: asyncio.Task[None]) -> None:
    """End a wait whose client has left, or has sent a body that is refused."""
    if not leaving.cancelled():
        error = leaving.exception()
        waiter.end(error if isinstance(error, Exception) else ProblemError("client-gone"))


async def _client_left(request: AnyRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
