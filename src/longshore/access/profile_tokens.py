"""Tokens of profile files: read tokens that users make for themselves, to read results as tables.

Such a token sees no more than its user: it is of the level `read` for one chain, expires, and is valid only while the
user has a level for the chain. An admin ends all of a chain at once by turning their service client off.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from longshore.access import clients, tokens
from longshore.access.audit import Actor
from longshore.access.tokens import Caller, ForbiddenError, Level, Scope
from longshore.database.connect import Connection
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.model import ChainId

MAX_LIVE = 20
"""Tokens of a user that are valid at a time, for a chain."""

DELETE_OLD = """
delete from longshore.access_tokens
where client_id = $1 and user_id = $2 and expires_at < now() - interval '7 days'
"""

LIVE = """
select count(*) from longshore.access_tokens
where client_id = $1 and user_id = $2 and revoked_at is null and expires_at > now()
"""

# $4: the user whose token it is; of a token ($3) that revokes itself, its own id.
IS_OWN = """
select from longshore.access_tokens
where id = $1 and chain_id = $2 and user_id is not null
  and case $3 when 'user' then user_id::text else id::text end = $4
"""

EXPIRES = "select date_trunc('second', now()) + $1 * interval '1 second'"


class ProfileToken(msgspec.Struct, frozen=True):
    """A new token with its secret."""

    id: UUID
    secret: str
    expires: datetime


async def create(connection: Connection, actor: Actor, chain: ChainId, seconds: int) -> ProfileToken:
    """Create a token of the acting user that expires after so many seconds. Raises ProblemError.

    Tokens of the user that expired more than seven days ago are deleted.
    """
    user = int(actor.id)
    # This locks the client, so requests at once cannot go beyond the limit together.
    client = await clients.for_profiles(connection, actor, chain)
    if not client.enabled:
        raise ForbiddenError("forbidden", f"An admin of the chain has turned the service client {client.name!r} off.")
    await connection.execute(DELETE_OLD, client.id, user)
    if await connection.fetchval(LIVE, client.id, user) >= MAX_LIVE:
        raise ProblemError("too-many-profile-files", f"You have {MAX_LIVE} of chain {chain} already.")
    expires = await connection.fetchval(EXPIRES, seconds)
    id, secret = await tokens.insert(connection, client.id, Level.READ, Scope(expires=expires, user=user))
    return ProfileToken(id, secret, expires)


async def refuse_others(connection: Connection, caller: Caller, token: UUID) -> None:
    """Raise NotFoundError for a token that is neither in a profile file of the calling user nor the caller itself."""
    if await connection.fetchrow(IS_OWN, token, caller.chain, caller.kind, caller.id) is None:
        detail = "You have no profile file with this token; an admin of the chain revokes tokens of service clients."
        raise NotFoundError("token-not-found", detail)
