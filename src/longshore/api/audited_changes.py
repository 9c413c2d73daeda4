"""Changes with their audit entry: one construct, so that no endpoint can make the one without the other."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from longshore.access import audit, changes_in_progress
from longshore.access.audit import Actor
from longshore.access.tokens import Caller
from longshore.api.guard import actor, signed_in_user
from longshore.api.routes import level_needed
from longshore.api.service import AnyRequest, Service
from longshore.database.connect import Connection


class Change:
    """A change that a transaction is making, and its audit entry, which is written at the end."""

    def __init__(self, connection: Connection, object: str, details: dict[str, Any] | None) -> None:
        self.connection = connection
        self.object = object
        """Kind and id of the changed resource, such as `task 12`; to be set where the change makes it."""
        self.details = details
        self.happens = True
        """Set to False where the request turns out to change nothing; no entry is written then."""


@contextlib.asynccontextmanager
async def audited(
    request: AnyRequest, action: str, object: str = "", details: dict[str, Any] | None = None
) -> AsyncIterator[Change]:
    """Open a transaction for a change of the caller's chain, and write its audit entry before the transaction ends."""
    service: Service = request.app.state.service
    async with (
        service.pool.acquire() as connection,
        connection.transaction(),
        audited_in(connection, request, action, object, details) as change,
    ):
        yield change


@contextlib.asynccontextmanager
async def audited_in(
    connection: Connection, request: AnyRequest, action: str, object: str = "", details: dict[str, Any] | None = None
) -> AsyncIterator[Change]:
    """As `audited`, in a transaction that is open already."""
    caller = await _checked_again(connection, request)
    change = Change(connection, object, details)
    yield change
    if change.happens:
        await audit.record(connection, actor(request), caller.chain, action, change.object, change.details)


@contextlib.asynccontextmanager
async def administration_transaction(request: AnyRequest) -> AsyncIterator[tuple[Connection, Actor]]:
    """Open a transaction for changes of clients, tokens and users, whose functions write the entries."""
    service: Service = request.app.state.service
    async with service.pool.acquire() as connection, connection.transaction():
        await _checked_again(connection, request)
        yield connection, actor(request)


async def _checked_again(connection: Connection, request: AnyRequest) -> Caller:
    """Return the caller of a request, whose credential may have ended since the guard saw it.

    Raises UnauthorizedError and ForbiddenError.
    """
    service: Service = request.app.state.service
    caller: Caller = request.scope["user"]
    await changes_in_progress.recheck_credential(
        connection, caller, level_needed(request.scope), service.sessions.lifetimes
    )
    return caller


@contextlib.asynccontextmanager
async def audited_user(request: AnyRequest, action: str) -> AsyncIterator[Connection]:
    """Open a transaction for a change of the signed-in user; each chain of the user gets an audit entry."""
    service, user = signed_in_user(request)
    async with service.pool.acquire() as connection, connection.transaction():
        yield connection
        await audit.record_of_user(connection, actor(request), user.user, action)
