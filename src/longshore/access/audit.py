"""The audit log: actor, action and object, the address and the request. It is append-only.

An entry is written in the transaction of its change, so that neither exists without the other. A trigger refuses every
other statement on the table. An entry belongs to one chain (promise 5); actions of a user outside chains, such as
signing in, have an entry in each chain that the user has a level for.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page, raw_json
from longshore.tasks.model import ChainId, CredentialName

RECORD = """
insert into longshore.audit (chain_id, actor_kind, actor, action, object, address, request_id, details)
select chain, $2, $3, $4, $5, $6, $7, $8 from unnest($1::bigint[]) chain
"""

RECORD_OF_USER = """
insert into longshore.audit (chain_id, actor_kind, actor, action, object, address, request_id)
select l.chain_id, $2, $3, $4, 'user ' || $1::bigint, $5, $6
from longshore.user_levels l
where l.user_id = $1
"""

LIST = """
select id, date_trunc('second', at) as time, rtrim(actor_kind || ' ' || actor) as actor, action, object, address,
       request_id, details
from longshore.audit
where chain_id = $1
  and ($2::text is null or action = $2)
  and ($3::text is null or rtrim(actor_kind || ' ' || actor) = $3)
  and ($4::text is null or object = $4)
  and ($5::timestamptz is null or at >= $5)
  and ($6::timestamptz is null or at < $6)
order by id desc
limit $7 offset $8
"""


class Actor(msgspec.Struct, frozen=True):
    """The credential that acts, with the address and the request."""

    kind: Literal["token", "user", "command", "address"]
    """`command`: the command line; `address`: the holder of a signed address."""
    id: str
    address: str = ""
    request_id: str = ""
    session: UUID | None = None
    """The session of a user's request."""

    @property
    def name(self) -> CredentialName:
        """Return kind and id, such as `user 7` or `token 0b9f1b0e-…`."""
        return f"{self.kind} {self.id}"


class Entry(msgspec.Struct, frozen=True):
    """An entry of the audit log."""

    id: int
    time: datetime
    actor: str
    """Kind and id, such as `user 7` or `command anna`; `address` for the holder of a signed address, `service` for the
    service itself."""
    action: str
    object: str
    """Kind and id of the thing that was changed or read, such as `task 12`."""
    address: str
    request_id: str
    details: Any


class AuditFilter(msgspec.Struct, frozen=True):
    """Conditions on entries; None matches all."""

    action: str | None = None
    actor: str | None = None
    object: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def record(  # noqa: PLR0913 (the columns of an entry)
    connection: Connection | Pool,
    actor: Actor,
    chain: ChainId | int,
    action: str,
    object: str,
    details: dict[str, Any] | None = None,
) -> None:
    """Write an entry in the connection's transaction. `details` must not contain secrets."""
    await record_in(connection, actor, [chain], action, object, details)


async def record_in(  # noqa: PLR0913 (the columns of an entry)
    connection: Connection | Pool,
    actor: Actor,
    chains: Sequence[ChainId | int],
    action: str,
    object: str,
    details: dict[str, Any] | None = None,
) -> None:
    """Write the same entry in several chains."""
    text = None if details is None else msgspec.json.encode(details).decode()
    await connection.execute(
        RECORD, chains, actor.kind, actor.id, action, object, actor.address, actor.request_id, text
    )


async def record_of_user(connection: Connection | Pool, actor: Actor, user: int, action: str) -> None:
    """Write an entry about a user in each chain that the user has a level for."""
    await connection.execute(RECORD_OF_USER, user, actor.kind, actor.id, action, actor.address, actor.request_id)


def differences(old: msgspec.Struct | None, new: msgspec.Struct, fields: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a change that have another value than before, for its entry."""
    given = [name for name, value in msgspec.structs.asdict(fields).items() if value is not UNSET]
    return {name: getattr(new, name) for name in given if old is None or getattr(new, name) != getattr(old, name)}


async def entries(pool: Pool, chain: ChainId, conditions: AuditFilter, page: Page) -> tuple[list[Entry], bool]:
    """Return a page of a chain's entries, newest first, and whether more follow."""
    return await fetch_page(pool, _entry, page, LIST, chain, *msgspec.structs.astuple(conditions))


def _entry(details: str | None, **columns: Any) -> Entry:
    return Entry(details=raw_json(details), **columns)
