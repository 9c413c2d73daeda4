"""Signing in: user name and password, then a one-time code if the user has them.

Guessing is slowed by account and by address. Tries from a network that the account signed in from lately have a
counter of their own, and so have those of its open sessions: failed tries elsewhere do not delay them. Each try counts
as failed before it is checked, so that many tries at once gain nothing; a successful one is subtracted. An unknown
user, a disabled user and a wrong password run the same statements and the same hash, and get the same answer.
"""

import hashlib
from uuid import UUID

import msgspec

from longshore.access import audit, one_time_codes, passwords
from longshore.access.audit import Actor
from longshore.access.rate_limits import network
from longshore.access.sessions import NewSession, Sessions
from longshore.database.connect import Connection, Pool
from longshore.errors import OverloadError, ProblemError
from longshore.fair_queue import FairQueue, QueueLimits
from longshore.vault import Vault

FREE_ACCOUNT_FAILURES = 5  # before a wait begins; then 1 s, 2 s, 4 s, …
FREE_ADDRESS_FAILURES = 20
MAX_WAIT_SECONDS = 300
MAX_CODES = 5  # wrong codes that end a pending sign-in
CODE_SECONDS = 300  # in which the code has to follow the password
KNOWN_DAYS = 30  # that an account counts as known in a network after a sign-in from it

# A check takes tenths of a second, so a waiting request is answered within seconds, if only by a refusal.
SIGN_IN_LIMITS = QueueLimits(running=1, running_of_key=1, waiting=16, waiting_of_key=4, seconds=15.0)

# The database folds names for the lookup, so it folds them for the counters, too. Normalizing takes quadratic time for
# some texts, so it is of bounded ones: a name of 200 characters has at most 800 when it is decomposed.
FOLD_NAME = "select lower(normalize(left($1::text, 1000)))"

# A day without a failure resets the count. No row is returned while a wait lasts.
COUNT_TRY = """
insert into longshore.sign_in_failures as f (key, failures, until) values ($1, 1, now())
on conflict (key) do update
set failures = case when f.at < now() - interval '1 day' then 1 else f.failures + 1 end,
    at = now(),
    until = now() + case when f.at > now() - interval '1 day' and f.failures + 1 >= $2
                         then least(2 ^ least(f.failures + 1 - $2, 30), $3) else 0 end * interval '1 second'
where f.until <= now()
returning failures
"""

SECONDS_TO_WAIT = """
select greatest(1, ceil(extract(epoch from until - now())))::int from longshore.sign_in_failures where key = $1
"""

FIND = """
select id, password, totp_secret is not null as has_codes
from longshore.users
where lower(normalize(name)) = $1 and disabled_at is null
"""

# The lock waits for a change of the password that is under way; the condition then refuses the old password.
IS_UNCHANGED = """
select id from longshore.users where id = $1 and password = $2 and disabled_at is null for share
"""

FIND_BY_ID = """
select password, lower(normalize(name)) as name from longshore.users where id = $1 and disabled_at is null
"""

REHASH = "update longshore.users set password = $3 where id = $1 and password = $2 returning id"

RESET_COUNTER = "delete from longshore.sign_in_failures where key = $1"
# The counters of an account begin with its digest.
RESET_COUNTERS_OF_ACCOUNT = "delete from longshore.sign_in_failures where substr(key, 1, length($1::bytea)) = $1"
SUBTRACT_TRY = "update longshore.sign_in_failures set failures = failures - 1, until = now() where key = $1"
ADD_FAILURE = "update longshore.sign_in_failures set failures = failures + 1, at = now() where key = $1"
DELETE_OLD_FAILURES = """
delete from longshore.sign_in_failures where at < now() - interval '1 day' and until < now()
"""

IS_KNOWN = "select from longshore.known_sign_ins where key = $1 and at > now() - $2 * interval '1 day'"

REMEMBER_NETWORK = """
insert into longshore.known_sign_ins (key) values ($1) on conflict (key) do update set at = excluded.at
"""

DELETE_OLD_KNOWN = f"delete from longshore.known_sign_ins where at < now() - {KNOWN_DAYS} * interval '1 day'"

# Written for unknown users, too, as a commit that writes takes longer than one that does not.
TOUCH_COUNTER = "update longshore.sign_in_failures set at = now() where key = $1"

CREATE_PENDING = """
with old as (delete from longshore.pending_sign_ins where created_at < now() - $2 * interval '1 second')
insert into longshore.pending_sign_ins (user_id) values ($1) returning id
"""

COUNT_CODE = """
update longshore.pending_sign_ins p
set codes = codes + 1
from longshore.users u
where p.id = $1 and u.id = p.user_id and p.codes < $2 and p.created_at > now() - $3 * interval '1 second'
returning u.id, lower(normalize(u.name)) as name, u.totp_secret, extract(epoch from now())::float8 as now
"""

END_PENDING = "delete from longshore.pending_sign_ins where id = $1 returning id"

USE_STEP = """
update longshore.users set totp_step = $2
where id = $1 and totp_step < $2 and disabled_at is null
returning id
"""


class SignInError(ProblemError):
    """Name, password or one-time code is wrong."""

    def __init__(self) -> None:
        super().__init__("login-failed", headers={"WWW-Authenticate": "Bearer"})


class OneTimeCodeChallenge(msgspec.Struct, frozen=True):
    """The password was right; a one-time code has to follow within five minutes."""

    attempt_id: UUID


class SignIn:
    """Checks passwords and one-time codes and opens sessions."""

    def __init__(self, pool: Pool, sessions: Sessions, vault: Vault) -> None:
        self._pool = pool
        self._sessions = sessions
        self._vault = vault
        # Each queue has one of the two threads that check passwords (passwords.MAX_HASHES).
        self._known = FairQueue("sign-ins", SIGN_IN_LIMITS)
        self._others = FairQueue("sign-ins", SIGN_IN_LIMITS)

    async def with_password(self, name: str, password: str, actor: Actor) -> NewSession | OneTimeCodeChallenge:
        """Check name and password; return a session, or a challenge if the user has one-time codes.

        `actor`: address and id of the request. Raises SignInError and OverloadError.
        """
        name = await self._pool.fetchval(FOLD_NAME, name)
        counter, address = await _counter(self._pool, name, actor), _address(actor.address)
        queue = self._known if counter == _account_in_network(name, actor) else self._others
        async with queue.turn(address):
            # The address first: while it has to wait, the names that it invents leave no rows.
            await self._count_try(address, FREE_ADDRESS_FAILURES)
            await self._count_try(counter, FREE_ACCOUNT_FAILURES)
            row = await self._pool.fetchrow(FIND, name)
            matched = await passwords.matches(password, row["password"] if row else None)
        if not matched:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(TOUCH_COUNTER, counter)
                user = row["id"] if row else 0
                await audit.record_of_user(connection, _as_user(actor, user), user, "login.failure")
            raise SignInError
        assert row is not None
        stored = await self._rehashed(row["id"], row["password"], password)
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(IS_UNCHANGED, row["id"], stored) is None:
                raise SignInError
            await connection.execute(SUBTRACT_TRY, address)
            if row["has_codes"]:  # the account's try is subtracted once the code is right, too
                return OneTimeCodeChallenge(await connection.fetchval(CREATE_PENDING, row["id"], CODE_SECONDS))
            return await self._open(connection, row["id"], name, actor)

    async def _rehashed(self, user: int, stored: str, password: str) -> str:
        """Return the hash that a user has for a right password, once an outdated one is replaced."""
        if not passwords.is_outdated(stored):
            return stored
        new = await passwords.hash_password(password)
        if await self._pool.fetchval(REHASH, user, stored, new) is not None:
            return new
        # Another sign-in has replaced it meanwhile, or the password was changed.
        current = await self._pool.fetchval(FIND_BY_ID, user)
        return current if await passwords.matches(password, current) else stored

    async def with_one_time_code(self, pending: UUID, code: str, actor: Actor) -> NewSession:
        """Check the one-time code of a sign-in that is pending and return a session. Raises SignInError."""
        row = await self._pool.fetchrow(COUNT_CODE, pending, MAX_CODES, CODE_SECONDS)
        if row is None:
            raise SignInError
        step = None
        if row["totp_secret"] is not None:
            secret = one_time_codes.unseal(self._vault, row["id"], row["totp_secret"])
            step = one_time_codes.step_of(secret, code, row["now"])
        async with self._pool.acquire() as connection, connection.transaction():
            # Of two requests with one code, one takes its step; of two for one sign-in, one ends it.
            if (
                step is not None
                and await connection.fetchval(USE_STEP, row["id"], step) is not None
                and await connection.fetchval(END_PENDING, pending) is not None
            ):
                return await self._open(connection, row["id"], row["name"], actor)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(ADD_FAILURE, await _counter(connection, row["name"], actor))
            await audit.record_of_user(connection, _as_user(actor, row["id"]), row["id"], "login.failure")
        raise SignInError

    async def confirm(self, user: int, password: str, actor: Actor) -> str:
        """Check the password of a signed-in user and return its hash. Raises SignInError and OverloadError."""
        row = await self._pool.fetchrow(FIND_BY_ID, user)
        if row is None:
            raise SignInError
        counter = _account(row["name"]) + b"sessions"
        await self._count_try(counter, FREE_ACCOUNT_FAILURES)
        if not await passwords.matches(password, row["password"]):
            await audit.record_of_user(self._pool, _as_user(actor, user), user, "login.failure")
            raise SignInError
        await self._pool.execute(RESET_COUNTER, counter)
        stored: str = row["password"]
        return stored

    async def _open(self, connection: Connection, user: int, name: str, actor: Actor) -> NewSession:
        await connection.execute(RESET_COUNTER, await _counter(connection, name, actor))
        await connection.execute(REMEMBER_NETWORK, _account_in_network(name, actor))
        opened = await self._sessions.open(connection, user, actor.address)
        await audit.record_of_user(connection, _as_user(actor, user), user, "login.success")
        return opened

    async def _count_try(self, key: bytes, free: int) -> None:
        if await self._pool.fetchval(COUNT_TRY, key, free, MAX_WAIT_SECONDS) is None:
            detail = "Too many sign-ins failed, of this account or from this address."
            raise OverloadError(detail, await self._pool.fetchval(SECONDS_TO_WAIT, key) or 1)


async def forget_failures(connection: Connection, name: str) -> None:
    """Reset the failures of a user, so that no wait is left."""
    await connection.execute(RESET_COUNTERS_OF_ACCOUNT, _account(await connection.fetchval(FOLD_NAME, name)))


def _as_user(actor: Actor, user: int) -> Actor:
    return msgspec.structs.replace(actor, kind="user", id=str(user))


async def _counter(connection: Connection | Pool, name: str, actor: Actor) -> bytes:
    """Return the key of the counter of an account's tries: that of a network where it is known, or of all others."""
    known = _account_in_network(name, actor)
    return _account(name) if await connection.fetchrow(IS_KNOWN, known, KNOWN_DAYS) is None else known


def _account_in_network(name: str, actor: Actor) -> bytes:
    return _account(name) + _address(actor.address)


def _account(name: str) -> bytes:
    return hashlib.sha256(b"account\n" + name.encode()).digest()


def _address(address: str) -> bytes:
    return hashlib.sha256(b"address\n" + network(address).encode()).digest()
