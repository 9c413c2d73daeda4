"""Users: a name, a password, and a level for each of their chains.

Promise 5: an admin sees the users of one chain, and of them only what belongs to that chain. Password, one-time codes
and whether a user may sign in at all are for the user and for the command line.
"""

import re
import unicodedata
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from longshore.access import audit, passwords
from longshore.access.audit import Actor
from longshore.access.tokens import Level
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page, given_values, structs
from longshore.errors import LongshoreError, NotFoundError, ProblemError
from longshore.tasks.reads import LevelName
from longshore.vault import SHARED_CHAIN, SealedValues

NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")
EXPECTED = "expected {} of 1 to 200 characters, without spaces around it or control characters"
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode that no user's name has: control and format characters, lone surrogates, ends of lines."""

CREATE = "insert into longshore.users (name, password) values (normalize($1), $2) returning id, name"

SET_LEVEL = """
insert into longshore.user_levels (user_id, chain_id, level) values ($1, $2, $3)
on conflict (user_id, chain_id) do update set level = excluded.level, enabled = true
"""

REMOVE_LEVEL = "delete from longshore.user_levels where user_id = $1 and chain_id = $2 returning level"

OF_CHAIN = """
select u.id, u.name, l.level, l.enabled, u.totp_secret is not null as passcode,
       date_trunc('second', u.created_at) as created
from longshore.user_levels l
join longshore.users u on u.id = l.user_id
where l.chain_id = $1 and ($2::bigint is null or u.id = $2)
order by u.id
limit $3 offset $4
"""

LOCK_LEVEL = "select level, enabled from longshore.user_levels where user_id = $1 and chain_id = $2 for update"

CHANGE_LEVEL = """
update longshore.user_levels
set level = coalesce($3, level), enabled = coalesce($4, enabled)
where user_id = $1 and chain_id = $2
"""

ALL = """
select u.id, u.name, u.disabled_at is null as enabled, u.totp_secret is not null as passcode,
       coalesce(json_agg(json_build_array(l.chain_id, l.level, l.enabled) order by l.chain_id)
                filter (where l.chain_id is not null), '[]') as levels
from longshore.users u
left join longshore.user_levels l on l.user_id = u.id
group by u.id
order by u.id
"""

NAME_AND_LEVELS = """
select u.name, l.chain_id, l.level
from longshore.users u
left join longshore.user_levels l on l.user_id = u.id and l.enabled
where u.id = $1
"""

FIND = "select id from longshore.users where lower(normalize(name)) = lower(normalize($1))"

# $3: the hash of the password that is replaced; null: whatever it is.
SET_PASSWORD = """
update longshore.users set password = $2
where id = $1 and ($3::text is null or password = $3 and disabled_at is null)
returning id
"""  # noqa: S105

SET_ONE_TIME_CODES = "update longshore.users set totp_secret = $2 where id = $1"

DISABLE = """
update longshore.users set disabled_at = case when $2 then coalesce(disabled_at, now()) end where id = $1
"""
END_SESSIONS = "delete from longshore.sessions where user_id = $1"
END_PENDING_SIGN_INS = "delete from longshore.pending_sign_ins where user_id = $1"

SEALED = SealedValues(
    "one-time codes",
    f"select id, {SHARED_CHAIN} as chain, 'user ' || id as owner, totp_secret as sealed from longshore.users",
    "update longshore.users set totp_secret = $3 where id = $1 and totp_secret = $2",
)


class ChainUser(msgspec.Struct, frozen=True):
    """A user as an admin of one chain sees it."""

    id: int
    name: str
    level: str
    enabled: bool
    """Whether the level for this chain can be used."""
    passcode: bool
    """Whether signing in asks for a one-time code."""
    created: datetime


class LevelChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a user's level for a chain to change; those without a value stay."""

    level: LevelName | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    """Whether the user may use the level."""


class UserWithLevels(msgspec.Struct, frozen=True):
    """A user with all their levels, as the command line sees it."""

    id: int
    name: str
    enabled: bool
    passcode: bool
    levels: list[tuple[int, str, bool]]
    """Chain, level, and whether the level is enabled."""


def name_violation(name: str, what: str = "a name") -> str | None:
    """Return what was expected instead of a name of a service client or the like; None if it is valid."""
    return None if NAME.fullmatch(name) else EXPECTED.format(what)


def user_name_violation(name: str) -> str | None:
    """Return what was expected instead of a user's name; None if it is valid and every character can be seen."""
    if any(unicodedata.category(character) in HIDDEN for character in name):
        return "expected a name of 1 to 200 characters, without control and format characters"
    return name_violation(name)


async def create(connection: Connection, actor: Actor, name: str, password: str, levels: dict[int, Level]) -> int:
    """Create a user with a level for each of these chains, and return its id. Raises LongshoreError."""
    if expected := user_name_violation(name) or passwords.violation(password):
        raise LongshoreError(expected)
    hashed = await passwords.hash_password(password)
    try:
        row = await connection.fetchrow(CREATE, name, hashed)
    except asyncpg.UniqueViolationError:
        raise ProblemError("name-taken", f"there is a user {name!r} already") from None
    assert row is not None
    for chain, level in levels.items():
        await connection.execute(SET_LEVEL, row["id"], chain, level.name.lower())
        details = {"username": row["name"], "level": level.name.lower()}
        await audit.record(connection, actor, chain, "user.create", f"user {row['id']}", details)
    return int(row["id"])


async def set_level(connection: Connection, actor: Actor, user: int, chain: int, level: LevelName) -> None:
    """Set a user's level for a chain, which can be used from then on; with its audit entry."""
    old = await connection.fetchrow(LOCK_LEVEL, user, chain)
    await connection.execute(SET_LEVEL, user, chain, level)
    new = LevelChange(level, True)
    if changed := audit.differences(LevelChange(**old) if old else None, new, new):
        await audit.record(connection, actor, chain, "user.change", f"user {user}", changed)


async def change_level(connection: Connection, actor: Actor, user: int, chain: int, fields: LevelChange) -> None:
    """Change a user's level for a chain, with its audit entry. Raises ProblemError if the user has none."""
    old = await connection.fetchrow(LOCK_LEVEL, user, chain)
    if old is None:
        raise NotFoundError("user-not-found")
    await connection.execute(CHANGE_LEVEL, user, chain, *given_values(fields))
    if changed := audit.differences(LevelChange(**old), fields, fields):
        await audit.record(connection, actor, chain, "user.change", f"user {user}", changed)


async def remove_level(connection: Connection, actor: Actor, user: int, chain: int) -> bool:
    """Remove a user's level for a chain, with its audit entry, and return whether the user had one."""
    removed = await connection.fetchval(REMOVE_LEVEL, user, chain) is not None
    if removed:
        await audit.record(connection, actor, chain, "user.remove", f"user {user}")
    return removed


async def of_chain(connection: Connection | Pool, chain: int, page: Page) -> tuple[list[ChainUser], bool]:
    """Return a page of the users who have a level for a chain, oldest first, and whether more follow."""
    return await fetch_page(connection, ChainUser, page, OF_CHAIN, chain, None)


async def one_of_chain(connection: Connection | Pool, chain: int, user: int) -> ChainUser:
    """Return a user who has a level for a chain. Raises ProblemError."""
    row = await connection.fetchrow(OF_CHAIN, chain, user, 1, 0)
    if row is None:
        raise NotFoundError("user-not-found")
    return ChainUser(**row)


async def all_users(connection: Connection) -> list[UserWithLevels]:
    """Return all users, oldest first."""
    return structs(_with_levels, await connection.fetch(ALL))


async def name_and_levels(pool: Connection | Pool, user: int) -> tuple[str, dict[int, Level]]:
    """Return a user's name and enabled levels by chain. Raises ProblemError."""
    rows = await pool.fetch(NAME_AND_LEVELS, user)
    if not rows:
        raise NotFoundError("user-not-found")
    levels = {row["chain_id"]: Level[row["level"].upper()] for row in rows if row["chain_id"] is not None}
    return rows[0]["name"], levels


async def find(connection: Connection, name: str) -> int:
    """Return the id of the user with a name. Raises ProblemError."""
    user = await connection.fetchval(FIND, name)
    if user is None:
        raise NotFoundError("user-not-found", f"there is no user {name!r}")
    return int(user)


async def set_password(connection: Connection, actor: Actor, user: int, password: str, old: str | None = None) -> bool:
    """Change a password, end all sessions of the user, and return whether it was changed. Raises LongshoreError.

    `old`: the hash of the password that the user has confirmed; nothing changes if it was replaced meanwhile, or the
    user disabled. None: whatever the password is. Each chain of the user has an audit entry.
    """
    if expected := passwords.violation(password):
        raise LongshoreError(expected)
    if await connection.fetchval(SET_PASSWORD, user, await passwords.hash_password(password), old) is None:
        return False
    await _end_all(connection, actor, user, "user.password")
    return True


async def set_one_time_codes(connection: Connection, actor: Actor, user: int, sealed: bytes | None) -> None:
    """Set the encrypted secret of a user's one-time codes; None turns them off. Ends all sessions."""
    await connection.execute(SET_ONE_TIME_CODES, user, sealed)
    await _end_all(connection, actor, user, "user.totp_off" if sealed is None else "user.totp_on")


async def set_enabled(connection: Connection, actor: Actor, user: int, enabled: bool) -> None:
    """Allow or forbid a user to sign in. Ends all sessions."""
    await connection.execute(DISABLE, user, not enabled)
    await _end_all(connection, actor, user, "user.enable" if enabled else "user.disable")


async def _end_all(connection: Connection, actor: Actor, user: int, action: str) -> None:
    """End all sessions of a user, and sign-ins that wait for a one-time code, and write the change's audit entries."""
    await connection.execute(END_SESSIONS, user)
    await connection.execute(END_PENDING_SIGN_INS, user)
    await audit.record_of_user(connection, actor, user, action)


def _with_levels(levels: str, **columns: Any) -> UserWithLevels:
    return UserWithLevels(levels=msgspec.json.decode(levels), **columns)
