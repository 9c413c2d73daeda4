"""Increments: the rows that became visible after a watermark, by the numbers of the transactions that wrote them.

PostgreSQL keeps with each row the number of the transaction that wrote it (`xmin`). Numbers are assigned in order, but
transactions commit out of order; so an increment ends at the oldest number that is still open: every transaction below
it has ended, and no row can appear there any more. Rows of later transactions are left to the next increment. A
snapshot's list of open transactions would leave fewer rows, but it lacks savepoints, which have numbers of their own.

`xmin` has 32 bits of a number of 64. The difference to a watermark, modulo 2^32, is exact for every row that was
written less than 2^32 transactions before the end of the increment, whether it is frozen or not.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import asyncpg
import msgspec
import structlog

from longshore.database.connect import Connection, Pool
from longshore.errors import LongshoreError, TransientError, first_line
from longshore.exports.catalog import Index
from longshore.exports.query_plans import explain, reads_elsewhere
from longshore.exports.segments.sql import Condition

log = structlog.get_logger()

XID_MODULUS = 2**32  # transaction numbers until `xmin` looks the same again

SETTLE_SECONDS = 1.0  # to wait for transactions that are open when a run begins

NOW = """
select pg_snapshot_xmin(now.snapshot)::text::bigint as oldest, pg_snapshot_xmax(now.snapshot)::text::bigint as next_xid
from (select pg_current_snapshot() as snapshot) now
"""

# Of a standby. A new timeline is in the control file after a delay.
STANDBY_TIMELINE = """(
    select greatest(c.timeline_id, r.min_recovery_end_timeline)
    from pg_control_checkpoint() c, pg_control_recovery() r
)"""

# The identity of the server, its history and the relation, and the open transactions of the snapshot. A new timeline is
# in the name of the log at once; but only a primary has that.
POSITION = f"""
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next_xid,
       (select system_identifier from pg_control_system()) as system,
       case
           when pg_is_in_recovery() then {STANDBY_TIMELINE}
           else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
       end as timeline,
       (select oid::bigint from pg_database where datname = current_database()) as database,
       $1::text::regclass::oid::bigint as relation,
       pg_is_in_recovery() as standby,
       (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)::text as lsn
"""

# The relation and its partitions.
RELATION_AND_PARTITIONS = """
with recursive tables as (
    select $1::text::regclass::oid as id
    union
    select i.inhrelid from tables join pg_inherits i on i.inhparent = tables.id
)
"""

# Only PostgreSQL's own tables have `xmin`; every partition must be one.
UNSUITED = f"""
{RELATION_AND_PARTITIONS}
select c.relkind::text
from tables
join pg_class c on c.oid = tables.id
left join pg_am a on a.oid = c.relam
where not (c.relkind = 'p' or c.relkind = 'r' and a.amname = 'heap')
limit 1
"""

READABLE = "select has_table_privilege($1::text::regclass, 'select')"

KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table or has one as a partition"}

SYSTEM = "select system_identifier from pg_control_system()"

WRITTEN = "select pg_current_wal_insert_lsn()::text where not pg_is_in_recovery()"

ON_DISK = "select pg_current_wal_flush_lsn() >= $1::text::pg_lsn"

WAL_WRITER_SECONDS = "select 3 * setting::float8 / 1000 from pg_settings where name = 'wal_writer_delay'"

MAX_DELAY_FACTOR = 10  # of the WAL writer's rounds on a busy machine
CHECKS_PER_ROUNDS = 20

ADVICE = 'have the task run in full: POST /tasks/{id}/execute with {"full": true}'


class Watermark(msgspec.Struct, frozen=True):
    """The transaction up to which a relation of a server was exported."""

    system: int
    timeline: int
    database: int
    relation: int
    xid: int
    """The first transaction that is not included; all before it had ended."""


class Bounds(msgspec.Struct, frozen=True):
    """The condition that the rows of an increment meet, and the watermark at its end."""

    condition: Condition
    end: str


class Position(msgspec.Struct, frozen=True):
    """The position of a snapshot among the transactions of a relation."""

    watermark: Watermark
    """At the oldest transaction that was open."""
    next_xid: int
    """The first transaction after the snapshot."""
    standby: bool
    relation: str
    lsn: str
    """A position in the WAL that the snapshot does not lie behind."""

    def difference(self, watermark: Watermark) -> str | None:
        """Return why the rows since a watermark cannot be determined here; None where they can."""
        now = self.watermark
        if watermark.system != now.system or watermark.database != now.database:
            return "the source is another database than that of the watermark"
        if watermark.timeline != now.timeline:
            return (
                "the source was restored or promoted since the watermark, which may have lost transactions "
                f"(its timeline was {watermark.timeline} and is {now.timeline})"
            )
        if watermark.relation != now.relation:
            return f"{self.relation} is another table than that of the watermark"
        if watermark.xid > self.next_xid and not self.standby:
            return "the source is older than the watermark, as after the restore of a copy"
        if self.next_xid - watermark.xid >= XID_MODULUS:
            return f"the watermark is more than {XID_MODULUS:,} transactions old"
        return None


async def wait_for_open_transactions(connection: Connection) -> None:
    """Wait until the transactions that are open now have ended, SETTLE_SECONDS at most.

    So short transactions keep no rows out of the increment. `connection` must not be in a transaction.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    open_until_xid = None
    while time.monotonic() < deadline:
        now = await connection.fetchrow(NOW)
        assert now is not None
        open_until_xid = now["next_xid"] if open_until_xid is None else open_until_xid
        if now["oldest"] >= open_until_xid:
            return
        await asyncio.sleep(0.01)


async def bounds(connection: Connection, index: Index, start: str | None, end: str | None, first: int) -> Bounds:
    """Return the increment from a watermark to the snapshot that the connection holds, or to the watermark `end`.

    `start`: None for the first one. `first`: the number of the condition's first placeholder. Raises LongshoreError.
    """
    here = await position(connection, index)
    now = here.watermark
    start_watermark = msgspec.json.decode(start, type=Watermark) if start is not None else None
    end_watermark = msgspec.json.decode(end, type=Watermark) if end is not None else None
    for watermark in filter(None, (start_watermark, end_watermark)):
        if (why := here.difference(watermark)) is not None:
            raise LongshoreError(f"{why}; {ADVICE}")
    if end_watermark is not None and end_watermark.xid > now.xid:
        raise TransientError("the standby that is the source lags behind the increment that is read again")
    if end_watermark is None:
        # A standby may lag behind the server that was read before; the watermark never moves back.
        end_watermark = msgspec.structs.replace(now, xid=max(now.xid, start_watermark.xid if start_watermark else 0))
        if here.next_xid > now.xid:
            log.info("increment ends at an open transaction", transactions=here.next_xid - now.xid)
    written = condition(start_watermark, end_watermark, here.next_xid, first)
    return Bounds(written, msgspec.json.encode(end_watermark).decode())


async def position(connection: Connection, index: Index) -> Position:
    """Return the position of the connection's snapshot. Raises LongshoreError where rows have no `xmin`."""
    relation = index.regclass
    if not await connection.fetchval(READABLE, relation):
        role = await connection.fetchval("select quote_ident(current_user)")
        raise LongshoreError(
            f"not all columns of {index.relation} may be read, and an increment reads a system column;"
            f" GRANT SELECT ON {index.relation} TO {role}"
        )
    if kind := await connection.fetchval(UNSUITED, relation):
        relation_kind = KINDS.get(kind, "no ordinary table")
        raise LongshoreError(f"{index.relation} is {relation_kind}; incremental exports need a table")
    if reads_elsewhere(await explain(connection, f"select from {index.quoted_relation}", ()), aside=False):
        raise LongshoreError(
            f"{index.relation} is read by an extension or from another server, as a distributed table of Citus is, and"
            " its rows have the transaction numbers of other servers; incremental exports need an ordinary table"
        )
    with needs_log():
        here = await connection.fetchrow(POSITION, relation)
    assert here is not None
    watermark = msgspec.convert({**here, "xid": here["oldest"]}, Watermark)
    return Position(watermark, here["next_xid"], here["standby"], index.relation, here["lsn"])


@contextlib.contextmanager
def needs_log() -> Iterator[None]:
    """Raise LongshoreError where the server refuses functions of the write-ahead log, as Aurora may."""
    try:
        yield
    except asyncpg.FeatureNotSupportedError as error:
        raise LongshoreError(
            f"incremental exports need the position in the write-ahead log ({first_line(error)}); set wal_level ="
            " logical, which on Aurora is the parameter rds.logical_replication = 1"
        ) from error


def condition(start: Watermark | None, end: Watermark, next_xid: int, first: int) -> Condition:
    """Return the condition of an increment's rows. `next_xid`: the first transaction after the snapshot."""
    if start is None and end.xid >= next_xid:
        return Condition("true", ())  # no transaction is open
    if start is not None and end.xid <= start.xid:
        return Condition("false", ())  # no transaction has ended since
    low, high = (end.xid, next_xid) if start is None else (start.xid, end.xid)
    inside = f"(xmin::text::bigint - ${first}::bigint) & {XID_MODULUS - 1} < ${first + 1}::bigint"
    return Condition(f"not ({inside})" if start is None else inside, (low, high - low))


async def wait_until_durable(state: Pool, source: Connection) -> None:
    """Wait until no crash of the source can undo a transaction that an increment includes, some seconds at most.

    After a crash PostgreSQL assigns the numbers of transactions that were not on disk to new ones. If the source is the
    service's own server, the transaction that stores the watermark is written after all of them. Otherwise they are on
    disk once all WAL up to now is. The last records of a transaction that is still open may stay in memory; those that
    matter are on disk after three rounds of the WAL writer. A standby has only transactions that are on disk:
    https://www.postgresql.org/docs/current/wal-async-commit.html
    """
    if await source.fetchval(SYSTEM) == await state.fetchval(SYSTEM):
        return
    written = await source.fetchval(WRITTEN)
    if written is None:
        return
    rounds = await source.fetchval(WAL_WRITER_SECONDS)
    for _ in range(MAX_DELAY_FACTOR * CHECKS_PER_ROUNDS):
        if await source.fetchval(ON_DISK, written):
            return
        await asyncio.sleep(rounds / CHECKS_PER_ROUNDS)
