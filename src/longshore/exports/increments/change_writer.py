"""The rows of a run with deletes: its key list is made, and compared with that of the client's copy."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from longshore.database.connect import Connection
from longshore.exports import source_totals
from longshore.exports.copy import copy_blocks, reporting
from longshore.exports.formats import Format
from longshore.exports.increments.baseline import Baseline
from longshore.exports.increments.change_query import ChangeQuery, KeyList
from longshore.exports.increments.key_list import KeyListWriter, differences
from longshore.exports.increments.keys import deleted_columns
from longshore.exports.manifest import Manifest, Mirror
from longshore.exports.query import ExportQuery, row_key_of
from longshore.exports.reconcile import Reconciler
from longshore.exports.row_query import RowQuery
from longshore.exports.row_writer import RowWriter
from longshore.exports.segments.sql import Condition
from longshore.exports.source_limits import Throttle
from longshore.exports.target import REASON
from longshore.results.own_thread import opened_in_thread
from longshore.results.store import ResultWriter, Store
from longshore.telemetry import tracing

MAX_KEYS = 10_000  # of a statement

# For the sort of the keys, where the server allows less.
SORT_MEMORY = """
select set_config('work_mem', '64MB', true) where pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB')
"""

CSV = {"format": "csv", "encoding": "utf-8"}

LEFT, DELETED = "left", "deleted"


class ChangeWriter:
    """Writes the key list of a run, and the rows that the result has because of it."""

    def __init__(self, query: ExportQuery, baseline: Baseline, file: ResultWriter, thread: ThreadPoolExecutor) -> None:
        assert query.changes is not None
        self._query = query
        self._changes: ChangeQuery = query.changes
        self._baseline = baseline
        self._file = file
        self._thread = thread
        self._list = KeyListWriter(file, self._changes.key.name, integers=self._changes.key.is_integer)
        self._mirror: Mirror | None = None
        self.deletes = 0

    @property
    def is_full(self) -> bool:
        """Whether the client's copy is emptied before the result is applied."""
        return self._changes.start is None

    @property
    def note(self) -> str | None:
        """The log entry that says why the run is full although the task has a watermark."""
        why = self._baseline.why_full or self._changes.why_full
        return why and f"a full run: {why}"

    @property
    def task_watermark(self) -> str | None:
        """The task's watermark when the run began."""
        return self._baseline.task_watermark

    def described(self, manifest: Manifest) -> Manifest:
        """Return a manifest with the changes of the result, and the client's copy as it must stand afterwards."""
        return msgspec.structs.replace(
            manifest,
            full=self.is_full,
            upserts=manifest.rows - self.deletes,
            deletes=self.deletes,
            mirror=self._mirror,
        )

    @property
    def watermark(self) -> str:
        """The next watermark, with the key list that belongs to it."""
        location, written, changes = self._baseline.location, self._list, self._changes
        return changes.watermark(KeyList(location, written.size, written.sha256, written.rows, changes.definition_hash))

    async def list_keys(self, connection: Connection, report: Callable[[], Awaitable[None]]) -> None:
        """Read the keys of the copy into a new list. `connection`: holds the snapshot. Raises LongshoreError."""
        with tracing.span("list keys"):
            await reporting(self._list_keys(connection), report)

    async def _list_keys(self, connection: Connection) -> None:
        changes, columns = self._changes, self._query.total_columns
        await read_keys(connection, changes, self._list, self._thread)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.finish)
        of_copy = None
        if columns is not None:
            of_copy = columns.totals(await source_totals.in_source(connection, changes.everything, columns))
        self._mirror = Mirror(self._list.rows, of_copy)

    async def write(self, connection: Connection, writer: RowWriter, reconciler: Reconciler, pace: Throttle) -> int:
        """Write the deletes, and the rows whose key is new although they were not written since the watermark.

        Return the number of rows that the source has sent. `connection`: holds the snapshot.
        """
        if self._baseline.keys is None or self.is_full:
            return 0
        rows = _Rows(self._query, self._changes, connection, writer, reconciler)
        loop = asyncio.get_running_loop()
        async with opened_in_thread(self._file.open) as (new, thread):
            paced = writer.size
            portions = _portions(differences(self._baseline.keys, new))
            while (portion := await loop.run_in_executor(thread, next, portions, None)) is not None:
                lost, gained = portion
                if lost:
                    await rows.delete(lost)
                if gained:
                    await rows.add(gained)
                await pace.keep(writer.size - paced)
                paced = writer.size
        self.deletes = rows.deletes
        return rows.sent

    async def publish(self) -> None:
        """Make the key list durable. Until a watermark names it, it means nothing."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.publish)

    def close(self) -> None:
        """Write nothing more to the key list, and drop the one before."""
        self._list.close()
        if self._baseline.keys is not None:
            self._baseline.keys.close()


class _Rows:
    """Writes rows by their keys."""

    def __init__(
        self,
        query: ExportQuery,
        changes: ChangeQuery,
        connection: Connection,
        writer: RowWriter,
        reconciler: Reconciler,
    ) -> None:
        self.sent = self.deletes = 0
        self._changes = changes
        self._connection = connection
        self._writer = writer
        self._reconciler = reconciler
        self._unwritten = changes.everything.where(Condition(f"not ({changes.changed.sql})", changes.changed.values))
        self._deleted_columns = deleted_columns(changes.key, query.columns)
        row_key = row_key_of(
            [(name, text) for name, (_, text) in zip(query.index.key_columns, changes.key.given, strict=True)]
        )
        self._deleted_format = msgspec.structs.replace(query, columns=self._deleted_columns, key=row_key).format()
        self._may_have_left = bool(query.request.segment and query.request.segment.rules)
        self._visible = RowQuery(query.index.from_clause, changes.everything.values[:1])
        self._index = query.index

    async def delete(self, keys: Sequence[Any]) -> None:
        key = self._changes.key
        texts = key.split(keys)
        left = await self._left(texts)
        reasons = [LEFT if one in left else DELETED for one in keys]
        rows = RowQuery(f"from {key.from_item(1, REASON)}", (*texts, reasons))
        await self._copy(self._deleted_format, rows)
        self.deletes += len(keys)
        await self._reconciler.read_totals(
            self._connection, rows, source_totals.total_columns(self._index, self._deleted_columns)
        )

    async def add(self, keys: Sequence[Any]) -> None:
        """Write those rows of some keys that were not written since the watermark."""
        key = self._changes.key
        rows = self._unwritten.where(key.among(key.split(keys), len(self._unwritten.values) + 1))
        if await self._copy(self._writer.format, rows):
            await self._reconciler.read_rows(self._connection, rows)

    async def _left(self, texts: Sequence[Sequence[str]]) -> set[Any]:
        """Return those of some keys whose row is there and does not match the segment."""
        if not self._may_have_left:
            return set()
        key = self._changes.key
        there = self._visible.where(key.among(texts, len(self._visible.values) + 1))
        found = await self._connection.fetch(f"select {key.sql} {there.sql}", *there.values)
        return {row[0] if key.is_integer else row[0].encode() for row in found}

    async def _copy(self, format: Format, rows: RowQuery) -> int:
        query, options = format.query(rows.sql), format.options()
        sent = await copy_blocks(self._connection, query, rows.values, options, self._write)
        self.sent += sent
        return sent

    async def _write(self, chunks: list[bytes]) -> None:
        await asyncio.to_thread(self._writer.write, chunks)


async def begin(stack: AsyncExitStack, query: ExportQuery, baseline: Baseline, store: Store) -> ChangeWriter:
    """Begin the key list of a run. `stack`: removes it on leaving, unless it was published."""
    file, thread = await stack.enter_async_context(opened_in_thread(store.create, baseline.location))
    changes = ChangeWriter(query, baseline, file, thread)
    stack.callback(changes.close)
    return changes


async def read_keys(
    connection: Connection, changes: ChangeQuery, keys: KeyListWriter, thread: ThreadPoolExecutor | None
) -> None:
    """Read the keys of a copy into a list, which `thread` writes. Raises LongshoreError."""
    loop = asyncio.get_running_loop()
    await connection.execute(SORT_MEMORY)
    query = f"select {changes.key.sql} {changes.everything.sql} order by {changes.key.order}"

    async def add(chunks: list[bytes]) -> None:
        await loop.run_in_executor(thread, keys.add, b"".join(chunks))

    await copy_blocks(connection, query, changes.everything.values, CSV, add)
    await loop.run_in_executor(thread, keys.end)


def _portions(differences: Iterator[tuple[Any, Any]]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield lost and gained keys, collected to MAX_KEYS of one of them."""
    collected: tuple[list[Any], list[Any]] = ([], [])
    for pair in differences:
        for keys, more in zip(collected, pair, strict=True):
            keys.extend(more.to_pylist())
        while max(map(len, collected)) >= MAX_KEYS:
            yield collected[0][:MAX_KEYS], collected[1][:MAX_KEYS]
            for keys in collected:
                del keys[:MAX_KEYS]
    yield collected
