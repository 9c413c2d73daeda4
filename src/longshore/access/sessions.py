"""Sessions: what a person has after signing in, until they sign out, stay away too long, or their time is over.

The key is 32 random bytes, so its SHA-256 is kept, as with tokens. Nothing is remembered between requests: a session
that was ended is ended, and people do not poll so often that the one look-up would matter.
"""

import hashlib
import re
import secrets
from datetime import datetime
from uuid import UUID

import msgspec

from longshore.access.tokens import SECRET_PREFIX, Caller, ForbiddenError, Level, UnauthorizedError
from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId

KEY = re.compile(r"[\x21-\x7e]{1,200}")
NUMBER = re.compile(r"[1-9][0-9]{0,18}")
LARGEST = 2**63 - 1

OPEN = """
with ended as (
    delete from longshore.sessions
    where user_id = $1
      and (used_at < now() - $4 * interval '1 second' or created_at < now() - $5 * interval '1 second')
)
insert into longshore.sessions (user_id, key_sha256, address) values ($1, $2, $3)
returning id, created_at + $5 * interval '1 second' as expires
"""

FIND = """
select s.id, s.user_id, s.used_at < now() - interval '1 minute' as stale, l.level
from longshore.sessions s
join longshore.users u on u.id = s.user_id
left join longshore.user_levels l on l.user_id = u.id and l.chain_id = $3 and l.enabled
where s.key_sha256 = $2 and s.user_id = $1 and u.disabled_at is null
  and s.used_at > now() - $4 * interval '1 second' and s.created_at > now() - $5 * interval '1 second'
"""

# Several requests of one session come at once; one of them writes.
USED = """
update longshore.sessions set used_at = now() where id = $1 and used_at < now() - interval '1 minute'
"""

LIST = """
select id, address, created_at, used_at
from longshore.sessions
where user_id = $1 and used_at > now() - $2 * interval '1 second' and created_at > now() - $3 * interval '1 second'
order by created_at desc, id
"""

END = "delete from longshore.sessions where id = $1 and user_id = $2 returning id"


class Lives(msgspec.Struct, frozen=True):
    """How long a session lives, in seconds."""

    idle: float
    """Without any request."""
    whole: float
    """However much it is used."""


class NewSession(msgspec.Struct, frozen=True):
    """A new session; its key cannot be had a second time."""

    user_id: int
    session_id: UUID
    session_key: str
    expires: datetime


class Credential(msgspec.Struct, frozen=True):
    """What a request shows of its session."""

    user: str
    key: str
    chain: str | None = None


class SignedIn(msgspec.Struct, frozen=True):
    """A person whose session is good, whatever their levels are."""

    user: int
    session: UUID


class Session(msgspec.Struct, frozen=True):
    """A session, as its owner sees it."""

    id: UUID
    current: bool
    """Whether this request came with it."""
    address: str
    """Where it was opened from."""
    created: datetime
    used: datetime
    """To the minute."""


class Sessions:
    """Opens, knows and lists sessions."""

    def __init__(self, pool: Pool, lives: Lives) -> None:
        self._pool = pool
        self.lives = lives

    async def open(self, connection: Connection, user: int, address: str) -> NewSession:
        """Open a session in the connection's transaction."""
        key = SECRET_PREFIX + secrets.token_urlsafe(32)
        row = await connection.fetchrow(OPEN, user, _digest(key), address, self.lives.idle, self.lives.whole)
        assert row is not None
        return NewSession(user, row["id"], key, row["expires"].replace(microsecond=0))

    async def signed_in(self, shown: Credential) -> SignedIn:
        """Whose session this is. Raises UnauthorizedError."""
        found, _ = await self._find(shown, None)
        return found

    async def caller(self, shown: Credential, needed: Level) -> Caller:
        """Who asks for the chain that they name, if their level suffices. Raises UnauthorizedError, ForbiddenError."""
        chain = _number(shown.chain or "")
        found, level = await self._find(shown, chain)
        if level is None or Level[level.upper()] < needed:
            raise ForbiddenError(needed)
        return Caller(ChainId(chain), Level[level.upper()], "user", str(found.user), session=found.session)

    async def list(self, person: SignedIn) -> list[Session]:
        """The sessions of a person that are good, newest first."""
        return [
            Session(
                id=row["id"],
                current=row["id"] == person.session,
                address=row["address"],
                created=row["created_at"].replace(microsecond=0),
                used=row["used_at"].replace(microsecond=0),
            )
            for row in await self._pool.fetch(LIST, person.user, self.lives.idle, self.lives.whole)
        ]

    async def _find(self, shown: Credential, chain: int | None) -> tuple[SignedIn, str | None]:
        user = _number(shown.user)
        if not KEY.fullmatch(shown.key):
            raise UnauthorizedError
        row = await self._pool.fetchrow(FIND, user, _digest(shown.key), chain, self.lives.idle, self.lives.whole)
        if row is None:
            raise UnauthorizedError
        if row["stale"]:
            await self._pool.execute(USED, row["id"])
        return SignedIn(row["user_id"], row["id"]), row["level"]


async def end(connection: Connection, user: int, session: UUID) -> bool:
    """End a session of a user; False when they have no such session."""
    return await connection.fetchval(END, session, user) is not None


def _number(text: str) -> int:
    if not NUMBER.fullmatch(text) or int(text) > LARGEST:
        raise UnauthorizedError
    return int(text)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
