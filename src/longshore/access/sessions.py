"""Sessions of users: they begin with a sign-in and end with a sign-out, after idle time, or after their lifetime.

The key is 32 random bytes, of which the SHA-256 is stored, as with tokens. Nothing is cached, so the end of a session
holds at once; users do not poll so often that the query for each request would matter.
"""

import re
from datetime import datetime
from uuid import UUID

import msgspec

from longshore.access.tokens import Caller, Level, UnauthorizedError, digest_of, level_error, new_secret
from longshore.database.connect import Connection, Pool
from longshore.database.rows import MAX_BIGINT
from longshore.tasks.model import ChainId

KEY = re.compile(r"[\x21-\x7e]{1,200}")
MAX_SESSIONS = 100  # of a user

NUMBER = re.compile(r"[1-9][0-9]{0,18}")

# Ends the sessions that are over, and those beyond the $6 that were used last.
OPEN = """
with ended as (
    delete from longshore.sessions
    where user_id = $1
      and (used_at < now() - $4 * interval '1 second' or created_at < now() - $5 * interval '1 second'
           or id in (
               select id from longshore.sessions where user_id = $1 order by used_at desc, id offset $6::bigint - 1
           ))
)
insert into longshore.sessions (user_id, key_sha256, address) values ($1, $2, $3)
returning user_id, id as session_id, date_trunc('second', created_at) + $5 * interval '1 second' as expires
"""

FIND = """
select s.id, s.user_id, s.used_at < now() - least(60, $4::float8 / 10) * interval '1 second' as stale, l.level
from longshore.sessions s
join longshore.users u on u.id = s.user_id
left join longshore.user_levels l on l.user_id = u.id and l.chain_id = $3 and l.enabled
where s.key_sha256 = $2 and s.user_id = $1 and u.disabled_at is null
  and s.used_at > now() - $4 * interval '1 second' and s.created_at > now() - $5 * interval '1 second'
"""

# Of several requests of one session at once, one writes.
USED = """
update longshore.sessions set used_at = now()
where id = $1 and used_at < now() - least(60, $2::float8 / 10) * interval '1 second'
"""

LIST = """
select id, address, date_trunc('second', created_at) as created, date_trunc('second', used_at) as used
from longshore.sessions
where user_id = $1 and used_at > now() - $2 * interval '1 second' and created_at > now() - $3 * interval '1 second'
order by created_at desc, id
"""

END = "delete from longshore.sessions where id = $1 and user_id = $2 returning id"


class Lifetimes(msgspec.Struct, frozen=True):
    """The times after which a session ends, in seconds."""

    idle: float
    """Since its last request."""
    total: float
    """Since the sign-in."""


class NewSession(msgspec.Struct, frozen=True):
    """A new session. Its key is not shown again."""

    user_id: int
    session_id: UUID
    session_key: str
    expires: datetime


class SessionCredential(msgspec.Struct, frozen=True):
    """The parts of a session that a request carries."""

    user: str
    key: str


class SessionUser(msgspec.Struct, frozen=True):
    """A user whose session is valid, whatever their levels are."""

    user: int
    session: UUID


class Session(msgspec.Struct, frozen=True):
    """A session, as its owner sees it."""

    id: UUID
    current: bool
    """Whether it is the session of this request."""
    address: str
    """The address that it was opened from."""
    created: datetime
    used: datetime
    """Time of the last request; lags by up to a minute, or by a tenth of the idle time if that is shorter."""


class Sessions:
    """Opens, checks and lists sessions."""

    def __init__(self, pool: Pool, lifetimes: Lifetimes) -> None:
        self._pool = pool
        self.lifetimes = lifetimes

    async def open(self, connection: Connection, user: int, address: str) -> NewSession:
        """Open a session in the connection's transaction."""
        key = new_secret()
        ends = (self.lifetimes.idle, self.lifetimes.total, MAX_SESSIONS)
        row = await connection.fetchrow(OPEN, user, digest_of(key), address, *ends)
        assert row is not None
        return NewSession(session_key=key, **row)

    async def signed_in(self, credential: SessionCredential) -> SessionUser:
        """Return the user of a session. Raises UnauthorizedError."""
        user, _ = await self._find(credential, None)
        return user

    async def caller(self, credential: SessionCredential, chain: str, needed: Level) -> Caller:
        """Return the caller, for the chain that the request names. Raises UnauthorizedError and ForbiddenError."""
        number = _number(chain)
        user, level = await self._find(credential, number)
        if level is None or Level[level.upper()] < needed:
            raise level_error(needed)
        return Caller(ChainId(number), Level[level.upper()], "user", str(user.user), session=user.session)

    async def list(self, signed_in: SessionUser) -> list[Session]:
        """Return the valid sessions of a user, newest first."""
        rows = await self._pool.fetch(LIST, signed_in.user, self.lifetimes.idle, self.lifetimes.total)
        return [Session(current=row["id"] == signed_in.session, **row) for row in rows]

    async def _find(self, credential: SessionCredential, chain: int | None) -> tuple[SessionUser, str | None]:
        if not KEY.fullmatch(credential.key):
            raise UnauthorizedError
        row = await self._pool.fetchrow(
            FIND, _number(credential.user), digest_of(credential.key), chain, self.lifetimes.idle, self.lifetimes.total
        )
        if row is None:
            raise UnauthorizedError
        if row["stale"]:
            await self._pool.execute(USED, row["id"], self.lifetimes.idle)
        return SessionUser(row["user_id"], row["id"]), row["level"]


async def end(connection: Connection, user: int, session: UUID) -> bool:
    """End a session of a user and return whether there was one."""
    return await connection.fetchval(END, session, user) is not None


def _number(text: str) -> int:
    """Return the number of a user or a chain; 0, which no user has a session or a level for, if it cannot be one."""
    return int(text) if NUMBER.fullmatch(text) and int(text) <= MAX_BIGINT else 0
