"""Stored segments: create, read, replace, delete, and resolve for a run.

Promise 5 is kept here: the chain is part of every `where`, so another chain's segment is the same as a missing one.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, as_uuid, fetch_page, raw_json
from longshore.errors import LongshoreError, NotFoundError, ProblemError
from longshore.exports.segments.rules import Segment
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId, CredentialName
from longshore.tasks.run_inputs import record_segment
from longshore.validation import ValidationError, Violation, in_json

MAX_SEGMENTS = 1000  # of a chain: 64 MB of rules

# A statement of its own: the count of the next statement then sees the segment of a request that was first.
LOCK_CHAIN = "select pg_advisory_xact_lock(hashtextextended('longshore.segments', $1))"

COLUMNS = """
id, chain_id as chain, name, segment, date_trunc('second', created_at) as created,
date_trunc('second', modified_at) as modified, created_by
"""

CREATE = f"""
insert into longshore.segments (chain_id, name, index, segment, created_by)
select $1, $2, $3, $4, $5
where (select count(*) from longshore.segments where chain_id = $1) < {MAX_SEGMENTS}
returning {COLUMNS}
"""

GET = f"""
select {COLUMNS} from longshore.segments where id = $1 and chain_id = $2
"""

LIST = f"""
select {COLUMNS} from longshore.segments where chain_id = $1 order by created_at desc, id limit $2 offset $3
"""

REPLACE = f"""
update longshore.segments
set name = $3, segment = $5, modified_at = greatest(modified_at, now())
where id = $1 and chain_id = $2 and index = $4
returning {COLUMNS}
"""

DELETE = """
delete from longshore.segments where id = $1 and chain_id = $2 returning id
"""

FIND = """
select segment from longshore.segments where id = $1 and chain_id = $2
"""

STORED = msgspec.json.Encoder(decimal_format="number")
READ = msgspec.json.Decoder(Segment, float_hook=Decimal)


class StoredSegment(msgspec.Struct, frozen=True):
    """A segment that tasks can use by its id. Times are UTC, in whole seconds."""

    id: UUID
    chain: int
    name: str
    segment: Any
    """Null if the credential may not see its rules."""
    created: datetime
    modified: datetime
    created_by: str | None
    """Kind and id of the credential that created it, such as `user 7`; null if it was not recorded."""


async def create(
    connection: Connection, chain: ChainId, name: str, segment: Segment, by: CredentialName
) -> StoredSegment:
    """Store a valid segment in the connection's transaction. Raises ProblemError."""
    await connection.execute(LOCK_CHAIN, chain)
    row = await connection.fetchrow(CREATE, chain, name, segment.index, STORED.encode(segment).decode(), by)
    if row is None:
        raise ProblemError("too-many-segments", f"Chain {chain} has {MAX_SEGMENTS} already.")
    return _stored(**row)


async def get(pool: Pool | Connection, chain: ChainId, id: UUID, *, lock: bool = False) -> StoredSegment:
    """Return a stored segment. Raises NotFoundError.

    `lock`: whether to lock it until the end of the connection's transaction.
    """
    row = await pool.fetchrow(f"{GET} for update" if lock else GET, id, chain)
    if row is None:
        raise NotFoundError("segment-not-found")
    return _stored(**row)


async def list_segments(pool: Pool, chain: ChainId, page: Page) -> tuple[list[StoredSegment], bool]:
    """Return a page of a chain's stored segments, newest first, and whether more follow."""
    return await fetch_page(pool, _stored, page, LIST, chain)


async def replace(pool: Pool | Connection, chain: ChainId, id: UUID, name: str, segment: Segment) -> StoredSegment:
    """Replace a stored segment by a valid one. Raises NotFoundError and ValidationError."""
    row = await pool.fetchrow(REPLACE, id, chain, name, segment.index, STORED.encode(segment).decode())
    if row is not None:
        return _stored(**row)
    found = await find(pool, chain, str(id))
    if found is None:
        raise NotFoundError("segment-not-found")
    expected = f"expected {in_json(found.index)}: a stored segment keeps its index, as tasks rely on it"
    raise ValidationError([Violation(expected, "/segment/index")])


async def delete(pool: Pool | Connection, chain: ChainId, id: UUID) -> None:
    """Delete a stored segment. Raises NotFoundError."""
    if await pool.fetchval(DELETE, id, chain) is None:
        raise NotFoundError("segment-not-found")


async def find(pool: Pool | Connection, chain: ChainId, id: str) -> Segment | None:
    """Return the rules of a stored segment; None if the chain has no such segment, or this is no id."""
    uuid = as_uuid(id)
    found = None if uuid is None else await pool.fetchval(FIND, uuid, chain)
    return None if found is None else READ.decode(found)


async def record_for_run(pool: Pool, attempt: Attempt, id: str) -> Segment:
    """Return the stored segment as it was when the run began, in every attempt of it.

    Raises LongshoreError if it was deleted, and StaleAttemptError if a newer attempt exists.
    """
    segment = await record_segment(pool, attempt, as_uuid(id))
    if segment is None:
        raise LongshoreError(f"the stored segment {id} does not exist any more")
    return READ.decode(segment)


def _stored(segment: str, **columns: Any) -> StoredSegment:
    return StoredSegment(segment=raw_json(segment), **columns)
