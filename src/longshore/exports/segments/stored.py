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

FIND_INDEX = """
select index from longshore.segments where id = $1 and chain_id = $2
"""

DELETE = """
delete from longshore.segments where id = $1 and chain_id = $2 returning id
"""

STORED = msgspec.json.Encoder(decimal_format="number")
READ = msgspec.json.Decoder(Segment, float_hook=Decimal)


class _OfIndex(msgspec.Struct, frozen=True):
    """The index of a segment, without its rules."""

    index: str


OF_INDEX = msgspec.json.Decoder(_OfIndex)

UNREADABLE = "this version cannot read the rules of the stored segment"
"""Said of a segment of a later version, or one that was changed in the database."""


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
    index = await pool.fetchval(FIND_INDEX, id, chain)
    if index is None:
        raise NotFoundError("segment-not-found")
    expected = f"expected {in_json(index)}: a stored segment keeps its index, as tasks rely on it"
    raise ValidationError([Violation(expected, "/segment/index")])


async def delete(pool: Pool | Connection, chain: ChainId, id: UUID) -> None:
    """Delete a stored segment. Raises NotFoundError."""
    if await pool.fetchval(DELETE, id, chain) is None:
        raise NotFoundError("segment-not-found")


def decode(segment: str | msgspec.Raw) -> Segment | None:
    """Return the rules of a stored segment; None where they are UNREADABLE."""
    try:
        return READ.decode(segment)
    except msgspec.DecodeError:
        return None


def index_of(stored: StoredSegment) -> str:
    """Return the index of a stored segment without decoding its rules; an empty string where it cannot be read."""
    try:
        return OF_INDEX.decode(stored.segment).index
    except msgspec.DecodeError:
        return ""


async def record_for_run(pool: Pool, attempt: Attempt, id: str) -> Segment:
    """Return the stored segment as it was when the run began, in every attempt of it.

    Raises LongshoreError if it was deleted or is UNREADABLE, and StaleAttemptError if a newer attempt exists.
    """
    recorded = await record_segment(pool, attempt, as_uuid(id))
    if recorded is None:
        raise LongshoreError(f"the stored segment {id} does not exist any more")
    return decode_recorded(recorded, id)


def decode_recorded(segment: str, id: str) -> Segment:
    """Return the rules of the stored segment `id` as a run recorded them. Raises LongshoreError if UNREADABLE."""
    if (found := decode(segment)) is None:
        raise LongshoreError(f"{UNREADABLE} {id}")
    return found


def _stored(segment: str, **columns: Any) -> StoredSegment:
    return StoredSegment(segment=raw_json(segment), **columns)
