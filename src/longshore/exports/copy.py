"""Copies rows: several connections read the ranges of one snapshot, one file takes them in order (promises 4 and 6).

The event loop takes PostgreSQL's bytes off the sockets; a thread frames, hashes and writes them block by block, so that
both cores have work. Ranges that are ahead of their turn wait in memory, as many as there are connections, and of each
at most LOOKAHEAD_BYTES and a block; then the connections stop reading. So memory does not grow with the number of rows,
and a large row is held a few times for each connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.exports.formats import Format
from longshore.exports.row_query import RowQuery
from longshore.exports.snapshot import SourceConnections, keep_alive, keep_alive_if_possible, lock_tables
from longshore.exports.source_limits import Throttle
from longshore.exports.written_rows import WrittenRows
from longshore.telemetry import tracing

BLOCK_BYTES = 256 << 10
LOOKAHEAD_BYTES = 4 << 20  # of one range
REPORT_SECONDS = 1.0

COPY = {"db.system.name": "postgresql", "db.operation.name": "COPY"}  # the attributes of a COPY's span

T = TypeVar("T")

Report = Callable[[int, int], Awaitable[None]]  # takes rows and bytes written

UNLIMITED = Throttle(0)


class RowsToCopy(msgspec.Struct, frozen=True):
    """The rows to copy."""

    database: SourceConnections
    connection: Connection
    """Holds the snapshot."""
    rows: RowQuery
    """All of them, in one statement."""
    clauses: Sequence[str]
    """`from` clauses with the parameters of `rows`; together they select each row once."""
    sent: int = 0
    """Rows that the source has sent before, and that the writer has taken."""


class Writer(Protocol):
    """Writes rows, into one file or several. Blocking; used by one thread at a time."""

    format: Format

    @property
    def size(self) -> int:
        """Bytes written."""

    @property
    def rows(self) -> int:
        """Rows written."""

    def begin(self) -> None:
        """Write the bytes before the first row."""

    def write(self, chunks: list[bytes]) -> None:
        """Write the rows in PostgreSQL's chunks."""

    def end(self) -> bytes:
        """Write the bytes after the last row. Return the SHA-256 where it is one file, else nothing."""


async def copy_rows(
    rows: RowsToCopy,
    writer: Writer,
    report: Report,
    first: Callable[[], Awaitable[None]] | None = None,
    pace: Throttle = UNLIMITED,
) -> WrittenRows:
    """Copy rows into a file, which the caller publishes.

    `report`: is called about once a second; an error that it raises ends the copy. `first`: runs on `rows.connection`
    before that reads rows, while other connections read already. Raises the errors of PostgreSQL, the file and
    `first`, and LongshoreError where the file has another number of rows than the source has sent.
    """
    thread = ThreadPoolExecutor(1, "copy")
    try:
        async with rows.database.connections(rows.connection, len(rows.clauses) - 1) as connections:
            copy = _Copy(rows, connections, writer, thread)
            sha256 = await reporting(copy.run(first, pace), lambda: report(writer.rows, writer.size))
    finally:
        await asyncio.to_thread(thread.shutdown)  # a block may wait for a slow store; the event loop must not
    if copy.sent != writer.rows:
        raise LongshoreError(f"the source sent {copy.sent} rows and {writer.rows} were written")
    return WrittenRows(copy.sent, writer.rows, writer.size, sha256)


async def copy_blocks(
    connection: Connection,
    query: str,
    values: Sequence[Any],
    options: Mapping[str, Any],
    take: Callable[[list[bytes]], Awaitable[None]],
) -> int:
    """Copy the rows of a query to `take`, in blocks of chunks of whole rows. Return the number that PostgreSQL reports.

    `options`: of asyncpg's `copy_from_query`. Raises the errors of PostgreSQL and of `take`.
    """
    chunks: list[bytes] = []
    collected = size = 0

    async def collect(data: bytes) -> None:
        nonlocal chunks, collected, size
        # PostgreSQL sends each row as one message, and asyncpg passes on whole messages; formats rely on that. See
        # CopyData in https://www.postgresql.org/docs/current/protocol-message-formats.html
        if not data.endswith(b"\n"):
            raise LongshoreError("the source sent a part of a row; connect to PostgreSQL itself or through PgBouncer")
        chunks.append(data)
        collected += len(data)
        size += len(data)
        if collected >= BLOCK_BYTES:
            await take(chunks)
            chunks, collected = [], 0

    with tracing.span("COPY", COPY, kind="client") as span:
        status = await connection.copy_from_query(query, *values, output=collect, **options)
        rows = int(str(status).removeprefix("COPY "))
        span.set_attributes({"longshore.rows": rows, "longshore.bytes": size})
    await take(chunks)
    return rows


async def reporting(work: Coroutine[Any, Any, T], report: Callable[[], Awaitable[None]]) -> T:
    """Return the result of some work, and report about once a second meanwhile. An error of either ends both."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await report()
            await asyncio.wait({task}, timeout=REPORT_SECONDS)
        return await task
    finally:
        task.cancel()
        await asyncio.wait({task})


class _RangeBlocks(asyncio.Queue[list[bytes] | None]):
    """The blocks of one range that wait for their turn; None is its end. An empty queue takes a block of any size."""

    size = 0  # bytes

    def full(self) -> bool:
        return self.size >= LOOKAHEAD_BYTES

    def _put(self, item: list[bytes] | None) -> None:
        super()._put(item)
        self.size += sum(map(len, item or ()))

    def _get(self) -> list[bytes] | None:
        item = super()._get()
        self.size -= sum(map(len, item or ()))
        return item


class _Copy:
    """One copy while it runs: the ranges are read side by side and written in order."""

    def __init__(
        self, rows: RowsToCopy, connections: Sequence[Connection], writer: Writer, thread: ThreadPoolExecutor
    ) -> None:
        self.sent = rows.sent  # as PostgreSQL counts them
        self._to_copy = rows
        self._connections = connections
        self._writer = writer
        self._thread = thread
        self._queues = [_RangeBlocks() for _ in rows.clauses]
        self._turns = iter(range(len(rows.clauses)))
        self._free = asyncio.Semaphore(len(connections) + 1)  # ranges that may be read and not yet written

    async def run(self, first: Callable[[], Awaitable[None]] | None, pace: Throttle) -> bytes:
        """Read and write all ranges. Return the SHA-256 of the file. The first error ends everything."""
        writing = asyncio.ensure_future(self._write(pace))
        reading = [asyncio.ensure_future(self._read(connection, first, writing)) for connection in self._connections]
        try:
            await asyncio.gather(writing, *reading)
        finally:
            for task in (writing, *reading):
                task.cancel()
            await asyncio.gather(writing, *reading, return_exceptions=True)
        return writing.result()

    async def _read(
        self, connection: Connection, first: Callable[[], Awaitable[None]] | None, writing: asyncio.Future[bytes]
    ) -> None:
        """Read ranges in their turn, and keep the snapshot until all are written."""
        await lock_tables(connection, self._writer.format.query(self._to_copy.rows.sql), self._to_copy.rows.values)
        if first is not None and connection is self._to_copy.connection:
            await first()
        while True:
            await keep_alive(connection, self._free.acquire())
            number = next(self._turns, None)
            if number is None:
                break
            rows = await self._read_range(connection, number)
            self.sent += rows  # not in one line: Python would read `sent` before the wait
        if connection is self._to_copy.connection:  # of the others, nothing is asked any more
            await keep_alive_if_possible(connection, writing)  # all rows have been read

    async def _read_range(self, connection: Connection, number: int) -> int:
        """Read a range into its queue. Return the number of rows that PostgreSQL reports."""
        format, blocks = self._writer.format, self._queues[number]
        query = format.query(self._to_copy.clauses[number])
        rows = await copy_blocks(connection, query, self._to_copy.rows.values, format.options(), blocks.put)
        await blocks.put(None)
        return rows

    async def _write(self, pace: Throttle) -> bytes:
        loop, writer = asyncio.get_running_loop(), self._writer
        paced = writer.size
        writing: asyncio.Future[None] = loop.run_in_executor(self._thread, writer.begin)
        for queue in self._queues:
            while (chunks := await queue.get()) is not None:
                await writing
                await pace.keep(writer.size - paced)
                paced = writer.size
                writing = loop.run_in_executor(self._thread, writer.write, chunks)
            self._free.release()
        await writing
        sha256 = await loop.run_in_executor(self._thread, writer.end)
        pace.count(writer.size - paced)
        return sha256
