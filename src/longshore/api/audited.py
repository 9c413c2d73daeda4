"""Changes with their audit entry: one construct, so that no endpoint can make the one without the other."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from longshore.access import audit
from longshore.api.guard import actor, signed_in_user
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
    chain = request.scope["user"].chain
    change = Change(connection, object, details)
    yield change
    if change.happens:
        await audit.record(connection, actor(request), chain, action, change.object, change.details)


@contextlib.asynccontextmanager
async def audited_user(request: AnyRequest, action: str) -> AsyncIterator[Connection]:
    """Open a transaction for a change of the signed-in user; each chain of the user gets an audit entry."""
    service, user = signed_in_user(request)
    async with service.pool.acquire() as connection, connection.transaction():
        yield connection
        await audit.record_of_user(connection, actor(request), user.user, action)


def changed_fields(body: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a body that change something, for the details of an audit entry."""
    return {field: value for field, value in msgspec.structs.asdict(body).items() if value is not None}
