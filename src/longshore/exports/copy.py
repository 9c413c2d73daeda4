"""Rows out: one COPY from one snapshot of the source, straight into a file, in constant memory (promises 4 and 6).

The event loop takes PostgreSQL's bytes off the socket; a thread frames, hashes and writes them block by block, so that
both cores have work. While a block is being written, only one more is collected: the source is held up, not memory.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.exports.formats import Format
from longshore.results.store import ResultFile

# Bytes. While the thread frames a block it keeps the event loop from the socket; PostgreSQL goes on for as long as the
# socket's buffer has room, which is about what this takes. Blocks this small stay in the processor's cache, too.
BLOCK = 1 << 18
REPORT_EVERY = 1.0  # seconds

# The same rows come in the same order each time: no scan begins where another one is, none is split over workers.
# A compiled query pays off after minutes, and an export's is too simple for it.
SESSION = {"synchronize_seqscans": "off", "max_parallel_workers_per_gather": "0", "jit": "off"}

Report = Callable[[int, int, int | None], Awaitable[None]]
"""Takes rows and bytes written and rows expected."""


class CountMismatchError(Exception):
    """The rows in the file are not as many as PostgreSQL sent."""

    def __init__(self, sent: int, written: int) -> None:
        super().__init__(f"the source sent {sent} rows and {written} were written")


class Query(msgspec.Struct, frozen=True):
    """What to copy."""

    sql: str
    values: tuple[Any, ...]


class Copied(msgspec.Struct, frozen=True):
    """What was copied."""

    sent: int
    rows: int
    size: int
    sha256: bytes
    snapshot_at: datetime


class _Writer:
    """Frames, hashes, counts and writes; used by one thread at a time."""

    def __init__(self, form: Format, file: ResultFile) -> None:
        self._form = form
        self._file = file
        self._hash = hashlib.sha256()
        self.bytes = 0

    def begin(self) -> None:
        self._put(self._form.begin())

    def write(self, chunks: list[bytes]) -> None:
        self._put(self._form.frame(b"".join(chunks)))

    def end(self) -> bytes:
        self._put(self._form.end())
        self._file.publish()
        return self._hash.digest()

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)
        self.bytes += len(data)


async def copy_rows(source: Pool, query: Query, form: Format, file: ResultFile, report: Report) -> Copied:
    """Copy the rows of a query into a file.

    `report` is called about once a second; what it raises ends the copy. Raises what PostgreSQL and the file raise, and
    CountMismatchError.
    """
    async with source.acquire() as connection:
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                snapshot_at = await connection.fetchval("select statement_timestamp()")
                expected = await _estimate(connection, query)
                return await _copy(connection, query, form, file, report, expected, snapshot_at)
        except BaseException:
            # In the middle of a COPY the way back to a usable connection is to take all the rest of its rows.
            connection.terminate()
            raise


async def _copy(
    connection: Connection,
    query: Query,
    form: Format,
    file: ResultFile,
    report: Report,
    expected: int | None,
    snapshot_at: datetime,
) -> Copied:
    writer = _Writer(form, file)
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    collected = 0
    with ThreadPoolExecutor(1, "copy") as thread:
        writing: asyncio.Future[None] = loop.run_in_executor(thread, writer.begin)

        async def take(data: bytes) -> None:
            nonlocal chunks, collected, writing
            chunks.append(data)
            collected += len(data)
            if collected >= BLOCK:
                await writing
                writing = loop.run_in_executor(thread, writer.write, chunks)
                chunks, collected = [], 0

        async def copy() -> str:
            nonlocal writing
            status = await connection.copy_from_query(query.sql, *query.values, output=take, **form.options())
            await writing
            writing = loop.run_in_executor(thread, writer.write, chunks)
            await writing
            return str(status)

        copying = asyncio.create_task(copy())
        try:
            while not copying.done():
                await report(form.rows, writer.bytes, expected)
                await asyncio.wait({copying}, timeout=REPORT_EVERY)
            sent = int((await copying).removeprefix("COPY "))
        finally:
            copying.cancel()
            await asyncio.wait({copying})
        if sent != form.rows:
            raise CountMismatchError(sent, form.rows)
        sha256 = await loop.run_in_executor(thread, writer.end)
    return Copied(sent, form.rows, writer.bytes, sha256, snapshot_at)


async def _estimate(connection: Connection, query: Query) -> int | None:
    """How many rows the planner expects."""
    plan = await connection.fetchval(f"explain (format json) {query.sql}", *query.values)
    rows = json.loads(plan)[0]["Plan"].get("Plan Rows")
    return None if rows is None else int(rows)
