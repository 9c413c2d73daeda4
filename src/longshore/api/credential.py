"""The resource `credential`: the access token or the session of the request itself."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from litestar import get

from longshore.access import tokens, users
from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest
from longshore.tasks.reads import LevelName


class Credential(msgspec.Struct, frozen=True):
    """The credential of a request."""

    kind: Literal["token", "user"]
    id: str
    """The UUID of the token, or the number of the user."""
    name: str
    """The name of the token's service client, or of the user; empty for a token of another chain's client."""
    chain: int
    """The chain that the request is for."""
    level: LevelName
    """Its level for this chain."""
    limited: bool
    """Whether some export indexes or columns are hidden from it."""
    expires: datetime | None
    """When the token expires; null: never, or a session, which ends when it is not used."""


@get("/credential")
async def get_credential(request: AnyRequest) -> Credential:
    """Return the credential of this request: its kind, its chain and its level. A client shows who is signed in."""
    service, caller = service_and_caller(request)
    if caller.kind == "token":
        token = await tokens.one_of_chain(service.pool, caller.chain, UUID(caller.id))
        name, expires = token.client, token.expires
    else:
        name, expires = (await users.name_and_levels(service.pool, int(caller.id)))[0], None
    level: LevelName = caller.level.name.lower()  # type: ignore[assignment]  # the names of the two are the same
    return Credential(caller.kind, caller.id, name, caller.chain, level, caller.limits is not None, expires)
