"""Rows out: several connections copy the ranges of one snapshot, one file takes them in order (promises 4 and 6).

The event loop takes PostgreSQL's bytes off the sockets; a thread frames, hashes and writes them block by block, so that
the cores have work. Ranges that are ahead of their turn wait in memory, as many as there are connections and LOOKAHEAD
blocks of each at most: then the connections are held up, so memory does not grow with the export.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.exports.formats import WHOLE, Format, Place
from longshore.exports.ranges import Plan, Source
from longshore.exports.snapshot import Readers, hold_tables
from longshore.exports.source_limits import Pace
from longshore.results.pieces import Writable
from longshore.telemetry import tracing

BLOCK = 256 << 10  # bytes
LOOKAHEAD = 16  # blocks of one range
REPORT_EVERY = 1.0  # seconds

COPY = {"db.system.name": "postgresql", "db.operation.name": "COPY"}
"""What the span of a COPY says."""

Report = Callable[[int, int], Awaitable[None]]
"""Takes rows and bytes written."""

Blocks = asyncio.Queue[list[bytes] | None]
"""What one range gives, block by block; None is its end."""

UNHURRIED = Pace(0)


async def nothing() -> None:
    """What there is to do first where there is nothing."""


class CountMismatchError(LongshoreError):
    """The rows in the file are not as many as PostgreSQL sent."""

    def __init__(self, sent: int, written: int) -> None:
        super().__init__(f"the source sent {sent} rows and {written} were written")


class Copied(msgspec.Struct, frozen=True):
    """What was copied."""

    sent: int
    rows: int
    size: int
    sha256: bytes


class _Writer:
    """Frames, hashes, counts and writes; used by one thread at a time."""

    def __init__(self, form: Format, file: Writable, place: Place) -> None:
        self._form = form
        self._file = file
        self._place = place
        self._begun = False
        self._hash = hashlib.sha256() if place == WHOLE else None  # of a part, nobody needs it
        self.size = 0

    def begin(self) -> None:
        if self._place.first:
            self._put(self._form.begin())
            self._begun = True

    def write(self, chunks: list[bytes]) -> None:
        if block := b"".join(chunks):
            self._begin_late()
            self._put(self._form.frame(block))

    def end(self) -> None:
        if self._place.last:
            self._begin_late()
        if self._begun:  # a shard in the middle that has no rows leaves no byte, not even a compression's header
            for data in self._form.end():
                self._put(data)

    def digest(self) -> bytes:
        return self._hash.digest() if self._hash else b""

    def _begin_late(self) -> None:
        if not self._begun:
            self._put(self._form.begin())
            self._begun = True

    def _put(self, data: bytes) -> None:
        if self._hash:
            self._hash.update(data)
        self._file.write(data)
        self.size += len(data)


async def copy_rows(
    readers: Readers,
    connection: Connection,
    plan: Plan,
    source: Source,
    form: Format,
    file: Writable,
    report: Report,
    first: Callable[[], Awaitable[None]] = nothing,
    pace: Pace = UNHURRIED,
    place: Place = WHOLE,
) -> Copied:
    """Copy the rows of a plan into a file, which is left for the caller to publish.

    `connection`: holds the snapshot. `report` is called about once a second; what it raises ends the copy. `first` is
    what `connection` has to do before it reads rows, while others read already. Raises what PostgreSQL, the file and
    `first` raise, and CountMismatchError. `pace`: how fast it may write. `place`: which part of the result it is.
    """
    writer = _Writer(form, file, place)
    thread = ThreadPoolExecutor(1, "copy")
    try:
        async with readers.beside(connection, len(plan.clauses) - 1) as connections:
            copying = asyncio.create_task(_copy(connections, plan, source, form, writer, thread, first, pace))
            try:
                while not copying.done():
                    await report(form.rows, writer.size)
                    await asyncio.wait({copying}, timeout=REPORT_EVERY)
                sent = await copying
            finally:
                copying.cancel()
                await asyncio.wait({copying})
    finally:
        await asyncio.to_thread(thread.shutdown)  # a block may wait for a slow store; the event loop must not
    if sent != form.rows:
        raise CountMismatchError(sent, form.rows)
    return Copied(sent, form.rows, writer.size, writer.digest())


async def _copy(
    connections: list[Connection],
    plan: Plan,
    source: Source,
    form: Format,
    writer: _Writer,
    thread: ThreadPoolExecutor,
    first: Callable[[], Awaitable[None]],
    pace: Pace,
) -> int:
    """Read all ranges and write them in order; give the number of rows that PostgreSQL says it sent."""
    loop = asyncio.get_running_loop()
    queues: list[Blocks] = [asyncio.Queue(LOOKAHEAD) for _ in plan.clauses]
    turns = iter(range(len(plan.clauses)))
    free = asyncio.Semaphore(len(connections) + 1)  # ranges that may be read but not written
    sent = 0

    async def read(connection: Connection) -> None:
        nonlocal sent
        await hold_tables(connection, form.query(plan.clauses[0]))
        if connection is connections[0]:
            await first()
        while True:
            await free.acquire()
            number = next(turns, None)
            if number is None:
                return
            rows = await _read_range(connection, form, plan.clauses[number], source, queues[number])
            sent += rows  # not in one line: the sum would be taken before the wait

    async def write() -> None:
        writing: asyncio.Future[None] = loop.run_in_executor(thread, writer.begin)
        for queue in queues:
            while (chunks := await queue.get()) is not None:
                await writing
                await pace.keep(writer.size)
                writing = loop.run_in_executor(thread, writer.write, chunks)
            free.release()
        await writing
        await loop.run_in_executor(thread, writer.end)

    await _all(write(), *(read(connection) for connection in connections))
    return sent


async def _read_range(connection: Connection, form: Format, clause: str, source: Source, blocks: Blocks) -> int:
    chunks: list[bytes] = []
    collected = size = 0

    async def take(data: bytes) -> None:
        nonlocal chunks, collected, size
        chunks.append(data)
        collected += len(data)
        size += len(data)
        if collected >= BLOCK:
            await blocks.put(chunks)
            chunks, collected = [], 0

    with tracing.span("COPY", COPY, kind="client") as span:
        status = await connection.copy_from_query(form.query(clause), *source.values, output=take, **form.options())
        rows = int(str(status).removeprefix("COPY "))
        span.set_attributes({"longshore.rows": rows, "longshore.bytes": size})
    await blocks.put(chunks)
    await blocks.put(None)
    return rows


async def _all(*coroutines: Awaitable[None]) -> None:
    """Run them side by side; the first that fails ends the others, and its error is raised as it is."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _end(tasks)


async def _end(tasks: Iterable[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
