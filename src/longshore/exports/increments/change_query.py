"""The query of a run with `deletes`: the rows that were written since its watermark, or why the run is a full one.

Its result keeps a client's copy right, with the rows that were deleted or have left the segment. The run takes every
row of its snapshot that was written at or after the last watermark, or whose key is not in the key list that belongs to
that watermark, and deletes the keys of that list which its own has not. So the copy equals a full export of the
snapshot. Its watermark is the oldest transaction that was open in the snapshot: rows that commit later are taken later,
and rows that were committed before may be taken twice.

Some changes write no row: of a field's expression in the catalog, of a column that is another one under the old name,
of a label of an enum, of a partition that is replaced by another one with the same keys. The definition hash of a key
list covers all but the last: the watermark has the tables that the relation had.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence

import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError, TransientError
from longshore.exports import row_security
from longshore.exports.catalog import Field, FieldType, Index, shape
from longshore.exports.columns import Column, columns_of
from longshore.exports.increments import transactions
from longshore.exports.increments.keys import Key
from longshore.exports.increments.transactions import Position, Watermark
from longshore.exports.query_plans import calls_unstable, explain, nodes
from longshore.exports.row_query import RowQuery
from longshore.exports.segments.sql import Condition
from longshore.exports.target import CHANGE, CHANGE_NAMES, REASON

CHECK_SECONDS = 3  # of a statement, while a request waits

TABLES = f"{transactions.RELATION_AND_PARTITIONS} select id::bigint from tables order by id"

# $1, $2, $3: a watermark's server, history and position. A server of another one is not behind: it cannot go on.
IS_BEHIND = f"""
select pg_is_in_recovery() and pg_last_wal_replay_lsn() < $3::text::pg_lsn
       and (select system_identifier from pg_control_system()) = $1
       and {transactions.STANDBY_TIMELINE} = $2
"""
REPLAY_SECONDS = 10.0  # to wait for a standby
REPLAY_POLL_SECONDS = 0.1

# The columns that the fields read: $2, or all where an expression may read any of them.
ATTRIBUTES = """
select a.attname, a.attnum, a.atttypid::bigint as type,
       case when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end as generated
from pg_catalog.pg_attribute a
left join pg_catalog.pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
  and ($2::text[] is null or a.attname = any($2))
order by a.attnum
"""

# The names by which types write their values: labels of enums and attributes of composites, also within arrays, domains
# and ranges.
TYPE_NAMES = """
with recursive types as (
    select unnest($1::bigint[])::oid as id
    union
    select part.id
    from types
    join pg_catalog.pg_type t on t.oid = types.id
    cross join lateral (
        values (t.typelem), (t.typbasetype)
        union all
        select rngsubtype from pg_catalog.pg_range where t.oid in (rngtypid, rngmultitypid)
        union all
        select atttypid
        from pg_catalog.pg_attribute
        where attrelid = t.typrelid and t.typrelid <> 0 and attnum > 0 and not attisdropped
    ) part (id)
    where part.id <> 0
)
select enumtypid::bigint as type, enumsortorder as number, enumlabel::text as name
from pg_catalog.pg_enum
where enumtypid in (select id from types)
union all
select t.oid::bigint, a.attnum, a.attname::text || ' ' || a.atttypid
from types
join pg_catalog.pg_type t on t.oid = types.id and t.typrelid <> 0
join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
order by 1, 2
"""


class KeyList(msgspec.Struct, frozen=True):
    """A key list in the results store."""

    location: str
    size: int = msgspec.field(name="bytes")
    sha256: str
    rows: int
    definition_hash: str
    """A hash of everything that, where it changes, makes the next run a full one."""


class ChangeWatermark(Watermark, frozen=True):
    """The watermark of a run with deletes."""

    lsn: str
    """A position in the WAL that the snapshot does not lie behind."""
    tables: Sequence[int]
    """The relation and its partitions."""
    keys: KeyList
    """The keys of the client's copy."""


class ClientCopy(msgspec.Struct, frozen=True):
    """The columns, rows and key of the client's copy."""

    index_name: str
    columns: Sequence[Column]
    rows: RowQuery
    key: Key | None


class ChangeQuery(msgspec.Struct, frozen=True):
    """The changes that a run takes, in the snapshot of its connection."""

    key: Key
    everything: RowQuery
    """All rows of the copy."""
    changed: Condition
    """Those that were written since; its placeholders follow those of `everything`."""
    position: Position
    tables: Sequence[int]
    definition_hash: str
    start: str | None
    """The watermark that the run goes on from; None for a full run."""
    why_full: str | None
    """Why a run that has a watermark does not go on from it."""

    def watermark(self, keys: KeyList) -> str:
        """Return the next watermark."""
        here = msgspec.structs.asdict(self.position.watermark)
        return msgspec.json.encode(
            ChangeWatermark(**here, lsn=self.position.lsn, tables=self.tables, keys=keys)
        ).decode()


def read_watermark(text: str | None) -> ChangeWatermark | None:
    """Return the watermark of a run with deletes; None where there is none, or one of another kind."""
    try:
        return None if text is None else msgspec.json.decode(text, type=ChangeWatermark)
    except msgspec.ValidationError:
        return None


async def wait_for_replay(connection: Connection, start: str | None) -> None:
    """Wait until a standby has replayed all that the run before has seen. `connection` must not be in a transaction.

    On one that lags, rows would go back to older states that no later run takes again. Raises TransientError.
    """
    watermark = read_watermark(start)
    deadline = time.monotonic() + REPLAY_SECONDS
    while watermark and await connection.fetchval(IS_BEHIND, watermark.system, watermark.timeline, watermark.lsn):
        if time.monotonic() > deadline:
            raise TransientError("the standby that is the source lags behind the run before")
        await asyncio.sleep(REPLAY_POLL_SECONDS)


async def resolve(connection: Connection, index: Index, start: str | None, copy: ClientCopy) -> ChangeQuery:
    """Return the changes of a copy since a watermark. Raises LongshoreError where they cannot be determined."""
    columns, key, everything = copy.columns, copy.key, copy.rows
    if key is None:
        raise LongshoreError("`deletes` needs all columns of the index's key among the fields")
    await refuse_unstable_fields(connection, index, columns)
    position = await transactions.position(connection, index)
    tables = [row["id"] for row in await connection.fetch(TABLES, index.regclass)]
    definition_hash = await _definition_hash(connection, index, copy, key)
    watermark = read_watermark(start)
    why_full = None
    if watermark is not None:
        why_full = position.difference(watermark)
        if why_full is None and watermark.keys.definition_hash != definition_hash:
            why_full = "the index, its fields or its key have changed"
    if watermark is None or why_full is not None:
        changed, start = Condition("true", ()), None
    else:
        changed = _changed(watermark, position, tables, first=len(everything.values) + 1)
    return ChangeQuery(key, everything, changed, position, tables, definition_hash, start, why_full)


async def refuse_unsuited(connection: Connection, index: Index, chosen: Sequence[tuple[str, str]], chain: int) -> None:
    """Raise LongshoreError where the changes of an index cannot be determined. `chosen`: its fields."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"set local statement_timeout = '{CHECK_SECONDS}s'")
        await row_security.restrict(connection, index, chain)
        await transactions.position(connection, index)
        await refuse_unstable_fields(connection, index, await columns_of(connection, index, chosen))


def _changed(watermark: ChangeWatermark, here: Position, tables: Sequence[int], first: int) -> Condition:
    """Return the condition of the rows that were written since a watermark, or lie in a table that was added since."""
    until = msgspec.structs.replace(here.watermark, xid=here.next_xid)
    written = transactions.condition(watermark, until, here.next_xid, first)
    added = ", ".join(str(table) for table in tables if table not in set(watermark.tables))
    return Condition(f"({written.sql}) or tableoid in ({added})", written.values) if added else written


async def _definition_hash(connection: Connection, index: Index, copy: ClientCopy, key: Key) -> str:
    columns = copy.columns
    parts = [
        (column.name, column.expression, column.type_schema, column.pg_type, shape([(column.name, column.field)]))
        for column in columns
    ]
    fields = [column.field for column in columns]
    names = [field.column or name for name, field in index.fields.items() if any(field is one for one in fields)]
    read = None if any(field.sql for field in fields) else names
    attributes = await connection.fetch(ATTRIBUTES, index.regclass, read)
    types = {column.type_id for column in columns} | {attribute["type"] for attribute in attributes}
    type_names = await connection.fetch(TYPE_NAMES, sorted(types))
    text = repr((copy.index_name, index.relation, key.sql, parts, [tuple(row) for row in (*attributes, *type_names)]))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def change_columns() -> list[Column]:
    """Return the two columns before those of the index, as rows of the source have them."""
    change = Field(FieldType.KEYWORD, "upsert or delete")
    reason = Field(FieldType.KEYWORD, "Of a delete: left or deleted.")
    return [Column(CHANGE, change, "'upsert'::text", "text"), Column(REASON, reason, "null::text", "text")]


def plain_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of a result without the two that say how a row changed."""
    return [column for column in columns if column.name not in CHANGE_NAMES]


async def refuse_unstable_fields(connection: Connection, index: Index, columns: Sequence[Column]) -> None:
    """Raise LongshoreError for the first field whose value may change although its row is not written."""
    for column in columns:
        if not column.field.sql:
            continue
        # Over a row that is read from nowhere: what else the plan reads is not of the row.
        row = f"select null::{index.quoted_relation} as r offset 0"
        rows = f"(select (r).* from ({row}) one offset 0) as {index.quoted_alias}"
        query = f"select {column.expression} from {rows}"
        plan = await explain(connection, query, (), verbose=True)
        if any("Relation Name" in node for node in nodes(plan)) or await calls_unstable(connection, plan):
            raise LongshoreError(
                f'the field "{column.name}" reads more than its row, so with `deletes` its changes would be missed:'
                " leave it out of `fields`"
            )
