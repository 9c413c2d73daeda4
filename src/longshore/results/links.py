"""Links: the rows of download addresses that were given out.

A download may begin if its address has a valid signature (see `download_signatures`), the link is not expired, used up
or revoked, and the credential that asked for it still has the level for the chain. A transfer that has begun goes on.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from longshore.access.audit import Actor
from longshore.access.sessions import Lifetimes
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page
from longshore.errors import NotFoundError
from longshore.tasks.model import ChainId, TaskId

MAX_SECONDS = 3600  # of a link

CREATE = """
insert into longshore.links (task_id, run, actor_kind, actor, token_id, session_id, level, expires_at, max_uses)
values ($1, $2, $3, $4, $5, $6, $7, date_trunc('second', now()) + $8 * interval '1 second', $9)
returning id, extract(epoch from expires_at)::bigint as expires
"""

# $2, $3: seconds of a session, see Lifetimes.
ACTIVE = """
(
    l.revoked_at is null and l.expires_at > now() and (l.max_uses is null or l.uses < l.max_uses)
    and coalesce(
        array_position(array['read', 'write', 'admin'], longshore.level_of(
            l.actor_kind, l.actor, l.session_id, (select chain_id from longshore.tasks where id = l.task_id), $2, $3
        )) >= array_position(array['read', 'write', 'admin'], l.level),
        false
    )
)
"""

IS_ACTIVE = f"select from longshore.links l where l.id = $1 and {ACTIVE}"

USE = f"""
update longshore.links l set uses = l.uses + 1, used_at = now() where l.id = $1 and {ACTIVE} returning l.id
"""

LIST = f"""
select l.id, l.run, rtrim(l.actor_kind || ' ' || l.actor) as created_by, date_trunc('second', l.created_at) as created,
       l.expires_at as expires, l.max_uses, l.uses, date_trunc('second', l.used_at) as used,
       date_trunc('second', l.revoked_at) as revoked, {ACTIVE} as active
from longshore.tasks t
join longshore.links l on l.task_id = t.id
where t.id = $1 and t.chain_id = $4
order by l.created_at desc, l.id
limit $5 offset $6
"""

SECONDS_LEFT = """
select greatest(0, extract(epoch from least(
    (select expires_at from longshore.access_tokens where id = $1),
    (select created_at + $3 * interval '1 second' from longshore.sessions where id = $2),
    now() + $4 * interval '1 second'
) - now()))::float8
"""

TASK_EXISTS = "select from longshore.tasks where id = $1 and chain_id = $2"

REVOKE = """
update longshore.links l set revoked_at = coalesce(l.revoked_at, now())
from longshore.tasks t
where l.id = $1 and l.task_id = $2 and t.id = l.task_id and t.chain_id = $3
returning l.id
"""

DELETE_EXPIRED = "delete from longshore.links where expires_at < now() - interval '7 days'"


class LinkLimits(msgspec.Struct, frozen=True):
    """The limits of a link."""

    seconds: int
    uses: int | None
    """None: any number."""
    level: str
    """The level that the credential behind it must have when it is used."""


class NewLink(msgspec.Struct, frozen=True):
    """A new link; `expires` in seconds since 1970."""

    id: UUID
    expires: int


class Link(msgspec.Struct, frozen=True):
    """A download address that was given out. The address itself is not stored."""

    id: UUID
    run: int
    """The run whose result it downloads."""
    created_by: str
    """Kind and id, such as `user 7` or `token 0b9f1b0e-…`."""
    created: datetime
    expires: datetime
    max_uses: int | None
    """null: unlimited."""
    uses: int
    """Downloads that began; a resumed one counts again."""
    used: datetime | None
    """When the last download began."""
    revoked: datetime | None
    active: bool
    """Whether a download may begin now."""


async def create(pool: Pool | Connection, task: TaskId, run: int, actor: Actor, limits: LinkLimits) -> NewLink:
    """Create a link for an address that is about to be given out."""
    token = UUID(actor.id) if actor.kind == "token" else None
    credential = (actor.kind, actor.id, token, actor.session)
    row = await pool.fetchrow(CREATE, task, run, *credential, limits.level, limits.seconds, limits.uses)
    assert row is not None
    return NewLink(**row)


async def seconds_left(pool: Pool, actor: Actor, lifetimes: Lifetimes) -> float:
    """Return the seconds until a credential expires, MAX_SECONDS at most."""
    token = UUID(actor.id) if actor.kind == "token" else None
    return float(await pool.fetchval(SECONDS_LEFT, token, actor.session, lifetimes.total, MAX_SECONDS))


async def may_use(pool: Pool | Connection, link: UUID, lifetimes: Lifetimes) -> bool:
    """Return whether a download may begin."""
    return await pool.fetchrow(IS_ACTIVE, link, lifetimes.idle, lifetimes.total) is not None


async def use(pool: Pool | Connection, link: UUID, lifetimes: Lifetimes) -> bool:
    """Count a download that is about to begin; return False if it may not begin."""
    return await pool.fetchval(USE, link, lifetimes.idle, lifetimes.total) is not None


async def of_task(
    pool: Pool, chain: ChainId, task: TaskId, lifetimes: Lifetimes, page: Page
) -> tuple[list[Link], bool]:
    """Return a page of a task's links, newest first, and whether more follow. Raises NotFoundError."""
    found, more = await fetch_page(pool, Link, page, LIST, task, lifetimes.idle, lifetimes.total, chain)
    if not found and await pool.fetchrow(TASK_EXISTS, task, chain) is None:
        raise NotFoundError("task-not-found")
    return found, more


async def revoke(connection: Connection, chain: ChainId, task: TaskId, link: UUID) -> None:
    """Revoke a link of a task, so that no further download begins with it. Raises NotFoundError."""
    if await connection.fetchval(REVOKE, link, task, chain) is None:
        raise NotFoundError("link-not-found")
