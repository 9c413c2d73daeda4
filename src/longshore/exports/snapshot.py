"""Connections to the source that read one snapshot, however many of them there are (promise 4)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import structlog

from longshore.database.connect import Connection, Pool
from longshore.database.retry import DATABASE_ERRORS, is_transient
from longshore.errors import TransientError
from longshore.exports.catalog import Index
from longshore.exports.query_plans import explain
from longshore.exports.row_security import restrict_like
from longshore.exports.source_limits import IDLE_SECONDS

log = structlog.get_logger()

CLOSE_TIMEOUT = 2.0  # seconds
KEEP_ALIVE_SECONDS = 60.0  # between statements of a connection that waits, which the source ends after IDLE_SECONDS

# The same rows come in the same order each time: no scan begins where another one is, none is split over parallel
# workers. Compiling a query (jit) pays off after minutes, and an export's query is too simple for it. While the results
# store blocks, an export reads nothing from the source; without `tcp_user_timeout` the source does not disconnect it.
EXPORT_SESSION = {
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "tcp_user_timeout": "0",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
}


# Another server behind the same address may have exported a snapshot of the same name. They differ in the time of
# their start, where the system identifier is one: a standby has that of its primary.
SERVER = "select extract(epoch from pg_catalog.pg_postmaster_start_time())::text"
EXPORT = f"select pg_catalog.pg_export_snapshot() as name, ({SERVER}) as server"

# A transaction that joins a snapshot can lock its tables to read at once, unless another session waits for an exclusive
# lock, and so for the snapshot to end. Behind that session it would wait for ever, with all other readers of the table,
# and PostgreSQL sees no deadlock, as the transaction that holds the snapshot waits for this one outside of PostgreSQL.
JOIN = "set local lock_timeout = '5s'; set transaction snapshot '{}'"
JOINED = "set local lock_timeout = 0"


# PostgreSQL reads rows by the snapshot, but names and files of tables as they are now: of a table that was emptied,
# rewritten or replaced after the snapshot was taken, the snapshot shows no row. An export that waited for the lock of
# such a change has an older snapshot than the change. https://www.postgresql.org/docs/current/mvcc-caveats.html
OUTDATED = """
select coalesce(c.oid::pg_catalog.regclass::text, 'a table that the export reads')
from pg_catalog.pg_locks l
left join pg_catalog.pg_class c on c.oid = l.relation
where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
  and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
  and (
      c.oid is null
      or c.relkind in ('r', 'm') and c.relfilenode <> 0
         and c.relfilenode is distinct from pg_catalog.pg_relation_filenode(c.oid)
  )
limit 1
"""


class SnapshotOutdatedError(TransientError):
    """A table was rewritten or replaced after the snapshot, which then shows none of its rows."""


class UnableWorkerError(TransientError):
    """A worker cannot read or write a shard, and others may be able to.

    The snapshot has ended or is of another server, versions are being replaced, or the worker has another catalog.
    """


class ExportedSnapshot(msgspec.Struct, frozen=True):
    """A snapshot that other connections to the same server can join, while the transaction that exported it is open."""

    name: str
    server: str
    """When the server was started."""


class SourceConnections:
    """Connections to the source. However many exports run, no more than the pool holds are open.

    Each export has one connection of its own; the extra ones go to the exports that begin while they are free.
    """

    def __init__(self, pool: Pool, extra: int) -> None:
        self._pool = pool
        self._extra = extra

    @contextlib.asynccontextmanager
    async def autocommit(self) -> AsyncIterator[Connection]:
        """A connection in no transaction, so that each statement has a snapshot of its own."""
        async with self._pool.acquire() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[tuple[Connection, datetime]]:
        """A connection in a transaction that only reads, with the time of its snapshot."""
        async with self._reading() as connection:
            yield connection, await connection.fetchval("select statement_timestamp()")

    @contextlib.asynccontextmanager
    async def join(self, snapshot: ExportedSnapshot) -> AsyncIterator[Connection]:
        """A connection in a transaction that only reads, in a snapshot that was exported. Raises UnableWorkerError."""
        async with self._reading() as connection:
            try:
                await connection.execute(JOIN.format(snapshot.name))
            except asyncpg.PostgresError as error:
                if is_transient(error):
                    raise
                raise UnableWorkerError(f"the source has no snapshot {snapshot.name}, or is another server") from error
            if await connection.fetchval(SERVER) != snapshot.server:
                raise UnableWorkerError("the source is another server than the one that has the snapshot")
            yield connection

    @contextlib.asynccontextmanager
    async def connections(self, first: Connection, limit: int) -> AsyncIterator[list[Connection]]:
        """The first connection and at most `limit` more that read the same snapshot, as far as they are free.

        There are fewer where the source's address leads to several servers: the first connection's has the snapshot.
        """
        async with contextlib.AsyncExitStack() as stack:
            extra = min(limit, self._extra)
            self._extra -= extra
            stack.callback(self._release, extra)
            connections = [first]
            if extra:
                snapshot = await export_snapshot(first)
                for _ in range(extra):
                    try:
                        connection = await stack.enter_async_context(self.join(snapshot))
                    except UnableWorkerError as error:
                        log.warning("fewer connections read the source", reason=str(error))
                        break
                    await restrict_like(connection, first)
                    connections.append(connection)
            yield connections

    def _release(self, count: int) -> None:
        self._extra += count

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        async with self._pool.acquire() as connection:
            transaction = connection.transaction(isolation="repeatable_read", readonly=True)
            try:
                await transaction.start()
                yield connection
            except BaseException:
                # In the middle of a COPY a connection takes no statement, not even ROLLBACK, whose error would replace
                # the one that matters. A connection that the source has closed has left the pool by itself. `close`
                # asks the source to cancel the statement, and gives up on a source that does not answer.
                try:
                    await connection.close(timeout=CLOSE_TIMEOUT)
                except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
                    with contextlib.suppress(asyncpg.InterfaceError):
                        connection.terminate()
                raise
            try:
                await transaction.commit()
            except DATABASE_ERRORS as error:
                # All rows have been read, so only the connection is lost.
                if not is_transient(error):
                    raise
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()


class SourceDatabases(msgspec.Struct, frozen=True):
    """The databases that exports read."""

    source: SourceConnections
    own: SourceConnections | None = None
    """Of the service's own database, where the source is another one."""

    def of(self, index: Index) -> SourceConnections:
        """Return the connections to the database that an index lies in."""
        return self.own if index.in_service_database and self.own is not None else self.source


async def export_snapshot(connection: Connection) -> ExportedSnapshot:
    """Return the snapshot of a connection's transaction, for others to join."""
    row = await connection.fetchrow(EXPORT)
    assert row is not None
    return ExportedSnapshot(**row)


async def refuse_outdated(connection: Connection) -> None:
    """Raise SnapshotOutdatedError where a table that the transaction reads is newer than its snapshot.

    To be called after all queries were planned: from then on the transaction's locks keep the tables unchanged.
    """
    if (name := await connection.fetchval(OUTDATED)) is not None:
        raise SnapshotOutdatedError(f"{name} was emptied, rewritten or replaced while the export began")


async def keep_alive(connection: Connection, work: Awaitable[object]) -> None:
    """Wait until some work is done, whose errors are its own, and use an idle connection meanwhile.

    The source ends a session that is idle in its transaction for IDLE_SECONDS. An error of the connection is raised,
    and cancels the work.
    """
    working = asyncio.ensure_future(work)
    try:
        while not working.done():
            await asyncio.wait({working}, timeout=KEEP_ALIVE_SECONDS)
            if not working.done():
                await connection.fetchval("select 1")
    finally:
        working.cancel()


async def keep_alive_if_possible(connection: Connection, work: asyncio.Future[bytes]) -> None:
    """Use an idle connection until some work ends, which goes on without it where it is lost."""
    try:
        await keep_alive(connection, asyncio.wait({work}))  # a wait that ends does not cancel the work
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise


async def lock_tables(connection: Connection, query: str, values: tuple[Any, ...] = ()) -> None:
    """Lock the tables of a query, their partitions and indexes to read, for the rest of the transaction.

    Later statements that read the same rows, or some of them, wait for no lock and have no `lock_timeout`. Raises
    asyncpg.LockNotAvailableError where another session waits for an exclusive lock on one of them.
    """
    await explain(connection, query, values)  # parsing alone locks neither partitions nor indexes
    await connection.execute(JOINED)
