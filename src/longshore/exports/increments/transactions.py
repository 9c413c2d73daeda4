"""Increments: the rows that became visible after a watermark, by the numbers of the transactions that wrote them.

PostgreSQL keeps with each row the number of the transaction that wrote it (`xmin`). Numbers are assigned in order, but
transactions commit out of order; so an increment ends at the oldest number that is still open: every transaction below
it has ended, and no row can appear there any more. Rows of later transactions are left to the next increment. A
snapshot's list of open transactions would leave fewer rows, but it lacks savepoints, which have numbers of their own.

`xmin` has 32 bits of a number of 64. The difference to a watermark, modulo 2^32, is exact for every row that was
written less than 2^32 transactions before the end of the increment, whether it is frozen or not.
"""

import asyncio
import time

import msgspec
import structlog

from longshore.database.connect import Connection, Pool
from longshore.errors import LongshoreError, TransientError
from longshore.exports.catalog import Index, regclass
from longshore.exports.segments.sql import Condition

log = structlog.get_logger()

ROUND = 2**32  # transaction numbers until `xmin` looks the same again

SETTLE_SECONDS = 1.0  # to wait for transactions that are open when a run begins

NOW = """
select pg_snapshot_xmin(now.snapshot)::text::bigint as oldest, pg_snapshot_xmax(now.snapshot)::text::bigint as next
from (select pg_current_snapshot() as snapshot) now
"""

# The identity of the server, its history and the relation, and the open transactions of the snapshot. A new timeline is
# in a server's control file after a delay, in the name of its log at once; but only a primary has the latter.
HERE = """
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next,
       (select system_identifier from pg_control_system()) as system,
       case
           when pg_is_in_recovery() then (
               select greatest(c.timeline_id, r.min_recovery_end_timeline)
               from pg_control_checkpoint() c, pg_control_recovery() r
           )
           else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
       end as timeline,
       (select oid::bigint from pg_database where datname = current_database()) as database,
       $1::text::regclass::oid::bigint as relation,
       pg_is_in_recovery() as standby
"""

# Only PostgreSQL's own tables have `xmin`; every partition must be one.
UNSUITED = """
with recursive relation as (
    select $1::text::regclass::oid as id
    union
    select i.inhrelid from relation join pg_inherits i on i.inhparent = relation.id
)
select c.relkind::text
from relation
join pg_class c on c.oid = relation.id
left join pg_am a on a.oid = c.relam
where not (c.relkind = 'p' or c.relkind = 'r' and a.amname = 'heap')
limit 1
"""

READABLE = "select has_table_privilege($1::text::regclass, 'select')"

KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table or has one as a partition"}

SYSTEM = "select system_identifier from pg_control_system()"

WRITTEN = "select pg_current_wal_insert_lsn()::text where not pg_is_in_recovery()"

ON_DISK = "select pg_current_wal_flush_lsn() >= $1::text::pg_lsn"

ROUNDS = "select 3 * setting::float8 / 1000 from pg_settings where name = 'wal_writer_delay'"

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
    """The condition that the rows of an increment meet, and the watermarks at its ends."""

    condition: Condition
    start: str | None
    end: str


class Position(msgspec.Struct, frozen=True):
    """The position of a snapshot among the transactions of a relation."""

    watermark: Watermark
    """At the oldest transaction that was open."""
    following: int
    """The first transaction after the snapshot."""
    standby: bool
    relation: str

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
        if watermark.xid > self.following and not self.standby:
            return "the source is older than the watermark, as after the restore of a copy"
        if self.following - watermark.xid >= ROUND:
            return f"the watermark is more than {ROUND:,} transactions old"
        return None


async def wait_for_open_transactions(connection: Connection) -> None:
    """Wait until the transactions that are open now have ended, SETTLE_SECONDS at most.

    So short transactions keep no rows out of the increment. `connection` must not be in a transaction.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    goal = None
    while time.monotonic() < deadline:
        now = await connection.fetchrow(NOW)
        assert now is not None
        goal = now["next"] if goal is None else goal
        if now["oldest"] >= goal:
            return
        await asyncio.sleep(0.01)


async def bounds(connection: Connection, index: Index, start: str | None, end: str | None, first: int) -> Bounds:
    """Return the increment from a watermark to the snapshot that the connection holds, or to the watermark `end`.

    `start`: None for the first one. `first`: the number of the condition's first placeholder. Raises LongshoreError.
    """
    here = await position(connection, index)
    now = here.watermark
    began = msgspec.json.decode(start, type=Watermark) if start is not None else None
    ended = msgspec.json.decode(end, type=Watermark) if end is not None else None
    for watermark in filter(None, (began, ended)):
        if (why := here.difference(watermark)) is not None:
            raise LongshoreError(f"{why}; {ADVICE}")
    if ended is not None and ended.xid > now.xid:
        raise TransientError("the standby that is the source lags behind the increment that is read again")
    if ended is None:
        # A standby may lag behind the server that was read before; the watermark never moves back.
        ended = msgspec.structs.replace(now, xid=max(now.xid, began.xid if began else 0))
        if here.following > now.xid:
            log.info("increment ends at an open transaction", transactions=here.following - now.xid)
    return Bounds(condition(began, ended, here.following, first), start, msgspec.json.encode(ended).decode())


async def position(connection: Connection, index: Index) -> Position:
    """Return the position of the connection's snapshot. Raises LongshoreError where rows have no `xmin`."""
    relation = regclass(index.relation)
    if not await connection.fetchval(READABLE, relation):
        raise LongshoreError(
            f"only some columns of {index.relation} may be read, and an increment reads a system column;"
            f" GRANT SELECT ON {index.relation}"
        )
    if kind := await connection.fetchval(UNSUITED, relation):
        relation_kind = KINDS.get(kind, "no ordinary table")
        raise LongshoreError(f"{index.relation} is {relation_kind}; incremental exports need a table")
    here = await connection.fetchrow(HERE, relation)
    assert here is not None
    watermark = msgspec.convert({**here, "xid": here["oldest"]}, Watermark)
    return Position(watermark, here["next"], here["standby"], index.relation)


def condition(began: Watermark | None, ended: Watermark, following: int, first: int) -> Condition:
    """Return the condition of an increment's rows. `following`: the first transaction after the snapshot."""
    if began is None and ended.xid >= following:
        return Condition("true", ())  # no transaction is open
    if began is not None and ended.xid <= began.xid:
        return Condition("false", ())  # no transaction has ended since
    low, high = (ended.xid, following) if began is None else (began.xid, ended.xid)
    inside = f"(xmin::text::bigint - ${first}::bigint) & {ROUND - 1} < ${first + 1}::bigint"
    return Condition(f"not ({inside})" if began is None else inside, (low, high - low))


async def wait_until_durable(state: Pool, source: Connection) -> None:
    """Wait until no crash of the source can undo a transaction that an increment includes.

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
    rounds = await source.fetchval(ROUNDS)
    for _ in range(MAX_DELAY_FACTOR * CHECKS_PER_ROUNDS):
        if await source.fetchval(ON_DISK, written):
            return
        await asyncio.sleep(rounds / CHECKS_PER_ROUNDS)
