"""Signing in: user name and password, then a passcode where the user has one.

Whoever guesses is slowed, by account and by address: each try counts as failed before it is looked at, so that many at
once gain nothing, and is taken back when it turns out well. An unknown user, a disabled one and a wrong password cost
the same statements and the same hash, and have the same answer.
"""

import hashlib
import ipaddress
from functools import lru_cache
from uuid import UUID

import msgspec

from longshore.access import audit, passwords, totp
from longshore.access.audit import Actor
from longshore.access.sessions import NewSession, Sessions
from longshore.access.totp import SecretBox
from longshore.database.connect import Connection, Pool
from longshore.fair_queue import FairQueue, QueueLimits

FREE_OF_ACCOUNT = 5  # failures before a wait begins; then 1 s, 2 s, 4 s, …
FREE_OF_ADDRESS = 20
LONGEST_WAIT = 300  # seconds; more would let a stranger lock an account for good
MOST_PASSCODES = 5  # wrong ones that end an attempt
PASSCODE_LIFE = 300  # seconds
KNOWN_DAYS = 30  # that an account counts as one that signed in lately, from the network that it came from

# A check takes some tenths of a second, so whoever waits gets an answer within seconds, be it that there are too many.
SIGN_IN_LIMITS = QueueLimits(running=1, running_of_key=1, waiting=16, waiting_of_key=4, seconds=15.0)

# A day without a failure wipes the slate. No row comes back while a wait lasts.
TRY = """
insert into longshore.login_failures as f (key, failures, until) values ($1, 1, now())
on conflict (key) do update
set failures = case when f.at < now() - interval '1 day' then 1 else f.failures + 1 end,
    at = now(),
    until = now() + case when f.at > now() - interval '1 day' and f.failures + 1 >= $2
                         then least(2 ^ least(f.failures + 1 - $2, 30), $3) else 0 end * interval '1 second'
where f.until <= now()
returning failures
"""

WAIT = """
select greatest(1, ceil(extract(epoch from until - now())))::int from longshore.login_failures where key = $1
"""

FIND = """
select id, password, totp_secret is not null as passcode
from longshore.users
where lower(name) = lower($1) and disabled_at is null
"""

# A password that is being changed meanwhile is waited for, and then is not this one any more.
STILL = """
select id from longshore.users where id = $1 and password = $2 and disabled_at is null for share
"""

OF_USER = "select name, password from longshore.users where id = $1 and disabled_at is null"

REHASH = "update longshore.users set password = $3 where id = $1 and password = $2"

FORGET = "delete from longshore.login_failures where key = $1"
TAKE_BACK = "update longshore.login_failures set failures = failures - 1, until = now() where key = $1"
COUNT = "update longshore.login_failures set failures = failures + 1, at = now() where key = $1"
OLD = """
delete from longshore.login_failures where at < now() - interval '1 day' and until < now()
"""

KNOWN = "select from longshore.known_sign_ins where key = $1 and at > now() - $2 * interval '1 day'"

REMEMBER = """
insert into longshore.known_sign_ins (key) values ($1) on conflict (key) do update set at = excluded.at
"""

OLD_KNOWN = f"delete from longshore.known_sign_ins where at < now() - {KNOWN_DAYS} * interval '1 day'"  # noqa: S608

# Whether there is such a user or not, something is written: a commit that writes takes longer than one that does not.
TOUCH = "update longshore.login_failures set at = now() where key = $1"

ATTEMPT = """
with old as (delete from longshore.login_attempts where created_at < now() - $2 * interval '1 second')
insert into longshore.login_attempts (user_id) values ($1) returning id
"""

PASSCODE = """
update longshore.login_attempts a
set passcodes = passcodes + 1
from longshore.users u
where a.id = $1 and u.id = a.user_id and a.passcodes < $2 and a.created_at > now() - $3 * interval '1 second'
returning u.id, u.name, u.totp_secret, extract(epoch from now())::float8 as now
"""

END_ATTEMPT = "delete from longshore.login_attempts where id = $1 returning id"

USE_STEP = """
update longshore.users set totp_step = $2
where id = $1 and totp_step < $2 and disabled_at is null
returning id
"""


class LoginError(Exception):
    """Name, password or passcode is wrong; which of them is not said."""


class TooFastError(Exception):
    """Too many failed logins; carries the seconds to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class PasscodeChallenge(msgspec.Struct, frozen=True):
    """The password was right; a passcode has to follow within five minutes."""

    attempt_id: UUID


class SignIn:
    """Lets people in."""

    def __init__(self, pool: Pool, sessions: Sessions, vault: SecretBox) -> None:
        self._pool = pool
        self._sessions = sessions
        self._vault = vault
        # Each has one of the two threads that check passwords (passwords.AT_ONCE).
        self._known = FairQueue("sign-ins", SIGN_IN_LIMITS)
        self._others = FairQueue("sign-ins", SIGN_IN_LIMITS)

    async def login(self, name: str, password: str, at: Actor) -> NewSession | PasscodeChallenge:
        """Check name and password. Raises LoginError, TooFastError, OverloadError.

        `at`: where it comes from; who it is turns out here.
        """
        account, address = _account(name), _address(at.address)
        known = await self._pool.fetchrow(KNOWN, _known(name, at), KNOWN_DAYS) is not None
        queue = self._known if known else self._others
        async with queue.turn(address):
            # The address first: one that has to wait leaves no row for the names that it makes up.
            await self._count_try(address, FREE_OF_ADDRESS)
            await self._count_try(account, FREE_OF_ACCOUNT)
            row = await self._pool.fetchrow(FIND, name)
            matched = await passwords.matches(password, row["password"] if row else None)
        if not matched:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(TOUCH, account)
                user = row["id"] if row else 0
                await audit.record_of_user(connection, _named(at, user), user, "login.failure")
            raise LoginError
        assert row is not None
        kept: str = row["password"]
        if passwords.is_outdated(kept):
            new = await passwords.hashed(password)
            await self._pool.execute(REHASH, row["id"], kept, new)
            kept = new
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(STILL, row["id"], kept) is None:
                raise LoginError
            await connection.execute(TAKE_BACK, address)
            if row["passcode"]:  # the account's try is taken back once the passcode is right as well
                return PasscodeChallenge(await connection.fetchval(ATTEMPT, row["id"], PASSCODE_LIFE))
            return await self._open(connection, row["id"], name, at)

    async def passcode(self, attempt: UUID, passcode: str, at: Actor) -> NewSession:
        """Check the passcode of an attempt. Raises LoginError."""
        row = await self._pool.fetchrow(PASSCODE, attempt, MOST_PASSCODES, PASSCODE_LIFE)
        if row is None:
            raise LoginError
        step = None
        if row["totp_secret"] is not None:
            secret = self._vault.open(row["id"], bytes(row["totp_secret"]))
            step = totp.step_of(secret, passcode, row["now"])
        async with self._pool.acquire() as connection, connection.transaction():
            # Of two requests with one passcode one takes its step, of two for one attempt one ends it.
            if (
                step is not None
                and await connection.fetchval(USE_STEP, row["id"], step) is not None
                and await connection.fetchval(END_ATTEMPT, attempt) is not None
            ):
                return await self._open(connection, row["id"], row["name"], at)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(COUNT, _account(row["name"]))
            await audit.record_of_user(connection, _named(at, row["id"]), row["id"], "login.failure")
        raise LoginError

    async def confirm(self, user: int, password: str, at: Actor) -> None:
        """Check the password of a user who has signed in already. Raises LoginError and TooFastError."""
        row = await self._pool.fetchrow(OF_USER, user)
        if row is None:
            raise LoginError
        await self._count_try(_account(row["name"]), FREE_OF_ACCOUNT)
        if not await passwords.matches(password, row["password"]):
            await audit.record_of_user(self._pool, _named(at, user), user, "login.failure")
            raise LoginError
        await self._pool.execute(FORGET, _account(row["name"]))

    async def _open(self, connection: Connection, user: int, name: str, at: Actor) -> NewSession:
        await connection.execute(FORGET, _account(name))
        await connection.execute(REMEMBER, _known(name, at))
        opened = await self._sessions.open(connection, user, at.address)
        await audit.record_of_user(connection, _named(at, user), user, "login.success")
        return opened

    async def _count_try(self, key: bytes, free: int) -> None:
        if await self._pool.fetchval(TRY, key, free, LONGEST_WAIT) is None:
            raise TooFastError(await self._pool.fetchval(WAIT, key) or 1)


async def forget_failures(connection: Connection, name: str) -> None:
    """Let a user try at once again."""
    await connection.execute(FORGET, _account(name))


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """Whoever may choose addresses of one network counts as one: all of an IPv6 /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _named(at: Actor, user: int) -> Actor:
    return msgspec.structs.replace(at, kind="user", id=str(user))


def _known(name: str, at: Actor) -> bytes:
    return hashlib.sha256(_account(name) + _address(at.address)).digest()


def _account(name: str) -> bytes:
    return hashlib.sha256(b"account\n" + name.lower().encode("utf-8", "surrogatepass")).digest()


def _address(address: str) -> bytes:
    return hashlib.sha256(b"address\n" + network(address).encode()).digest()
