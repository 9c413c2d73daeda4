"""Writes the rows of one slice as files, one after another: a partition, or a part of one, is a file.

The copy is cut at whole records, always at the same ones: where a counted partition ends, at the number of rows of
`split`, or where the stored file has reached its bytes. One file is open at a time, so memory does not grow with their
number. Complete files are synced, uploaded and read back in other threads, while the next ones are written.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from longshore.errors import LongshoreError
from longshore.exports import delta_schema, formats, totals
from longshore.exports.copy import copy_rows
from longshore.exports.files.paths import MAX_FILES, folder, index_folder, part_name, too_many_files
from longshore.exports.formats.records import Records, count_records, end_of_record
from longshore.exports.job import Output
from longshore.exports.manifest import FileEntry
from longshore.exports.query import ExportQuery
from longshore.exports.reconcile import RunningFileSums
from longshore.exports.row_writer import RowWriter, row_writer
from longshore.exports.slices import IndexRows, Slice
from longshore.exports.totals import Sums
from longshore.exports.written_rows import WrittenRows
from longshore.results.store import ResultWriter

BATCH_BYTES = 256 << 10  # of records that are written at once
BATCHES_OF_PART = 8  # in the bytes of a part at least, so that it is hardly larger than requested
MAX_FINISHING = 4  # complete files whose bytes are on their way to the store


class _File(msgspec.Struct, frozen=True):
    """The file that is being written."""

    path: str
    values: Sequence[str | None]
    file: ResultWriter
    writer: RowWriter
    sums: RunningFileSums


class SliceWriter:
    """The writer of a slice, as `copy_rows` uses it. `close` ends its threads and removes the file that is open."""

    def __init__(self, output: Output, query: ExportQuery, keys: Sequence[str], slice_: Slice) -> None:
        """`keys`: the names of the partition's keys."""
        self.format = query.format()
        self.rows = self.size = 0
        self._done_rows = self._done_size = 0  # of complete files
        self._query = query
        self._output = output
        self._keys = keys
        self._slice_number = slice_.number
        self._partitions = iter(slice_.partitions or ())
        self._values: Sequence[str | None] = ()
        self._left: int | None = None if slice_.partitions is None else 0  # rows of the partition; None: any number
        split = query.request.target.split
        self._max_rows, self._max_bytes = (split.rows, split.bytes) if split else (None, None)
        self._quote = str(self.format.options().get("quote", '"')).encode()
        batch = BATCH_BYTES if self._max_bytes is None else min(BATCH_BYTES, self._max_bytes // BATCHES_OF_PART)
        self._records = Records(max(1, batch), self._quote)
        self._file: _File | None = None
        self._part = 0
        self._in_part = 0
        self._threads = ThreadPoolExecutor(MAX_FINISHING, "file")
        self._finishing: deque[Future[tuple[FileEntry, Sums]]] = deque()
        self.files: list[FileEntry] = []
        self.stats: list[str] = []  # of each file, in the same order, where they are shared as a table
        self.sums: Sums = {}  # of all files, for the control totals

    def begin(self) -> None:
        """Do nothing: a file begins with its first row."""

    def write(self, chunks: list[bytes]) -> None:
        """Write the rows in PostgreSQL's chunks."""
        for records in self._records.add(b"".join(chunks)):
            self._take(records)

    def end(self) -> bytes:
        """Complete the last file, and wait until all of them are stored."""
        if rest := self._records.rest():
            self._take(rest)
        if self._left or next(self._partitions, None) is not None:
            raise LongshoreError("the source sent fewer rows than it had counted for the partitions")
        self._end_file()
        while self._finishing:
            self._collect()
        return b""

    def write_empty(self) -> None:
        """Write one file without rows."""
        self._begin_file(index_folder(self._query.request.target.export_index))
        self._end_file()
        self._collect()

    def close(self) -> None:
        """End the threads, and remove the file that is open."""
        self._threads.shutdown()
        if self._file is not None:
            self._file.file.close()

    def _take(self, records: bytes) -> None:
        """Write whole records, each into the file that it belongs to."""
        count = None
        while records:
            if self._file is None:
                self._next_file()
            room = self._room()
            if room is None:
                self._put(records, 0)
                return
            count = count_records(records, self._quote) if count is None else count
            if count <= room:
                self._put(records, count)
                return
            end = end_of_record(records, room, self._quote)
            self._put(records[:end], room)
            records = records[end:]
            count -= room

    def _room(self) -> int | None:
        """Return the rows that the open file still takes; None: any number."""
        limits = [self._left, None if self._max_rows is None else self._max_rows - self._in_part]
        return min((limit for limit in limits if limit is not None), default=None)

    def _put(self, records: bytes, count: int) -> None:
        assert self._file is not None
        writer = self._file.writer
        writer.write([records])
        self._count(writer)
        self._in_part += count
        if self._left is not None:
            self._left -= count
        if self._room() == 0 or (self._max_bytes is not None and writer.complete_bytes >= self._max_bytes):
            self._end_file()

    def _next_file(self) -> None:
        """Begin the next file: of this partition, or of the next one where all its rows are written."""
        if self._left == 0:
            partition = next(self._partitions, None)
            if partition is None:
                raise LongshoreError("the source sent more rows than it had counted for the partitions")
            self._values, self._left, self._part = partition.values, partition.rows, 0
        self._begin_file(folder(self._query.request.target.export_index, self._keys, self._values))

    def _begin_file(self, below: str) -> None:
        if len(self.files) + len(self._finishing) == MAX_FILES:
            raise too_many_files()
        self._part += 1
        query, target = self._query, self._query.request.target
        extension = formats.extension(target.export_format, target.compression)
        path = f"{below}/{part_name(self._part, extension, self._slice_number)}"
        file = self._output.store.create(self._output.prefix + path, is_part=True)
        writer, sums = row_writer(query, file)
        self._file = _File(path, self._values, file, writer, sums)
        writer.begin()

    def _end_file(self) -> None:
        """Write the end of the open file, and have it stored."""
        if self._file is None:
            return
        done = self._file
        digest = done.writer.end()
        self._count(done.writer)
        self._done_rows, self._done_size = self.rows, self.size
        self._in_part = 0
        if len(self._finishing) == MAX_FINISHING:
            self._collect()
        self._finishing.append(self._threads.submit(self._stored, done, digest))
        if self._query.request.target.share_as is not None:
            self.stats.append(delta_schema.statistics(done.writer.format.footer))
        self._file = None

    def _count(self, writer: RowWriter) -> None:
        """Count what the open file has. Other threads read the sums, so that each changes in one step."""
        self.rows = self._done_rows + writer.rows
        self.size = self._done_size + writer.size

    def _stored(self, done: _File, digest: bytes) -> tuple[FileEntry, Sums]:
        """Complete a file in the store. Return its entry of the manifest, and its sums."""
        with done.file as file:
            file.finish()
            sums = done.sums.end(file.open)
            file.publish()
        partition = dict(zip(self._keys, (value or None for value in done.values), strict=False))
        entry = FileEntry(
            path=done.path,
            index=self._query.request.target.export_index,
            partition=partition,
            rows=done.writer.rows,
            size=done.writer.size,
            sha256=digest.hex(),
        )
        return entry, sums

    def _collect(self) -> None:
        entry, sums = self._finishing.popleft().result()
        self.files.append(entry)
        totals.merge(self.sums, sums)


async def write_slice(
    output: Output, index_rows: IndexRows, slice_: Slice, first: Callable[[], Awaitable[None]] | None = None
) -> WrittenRows:
    """Write a slice. `first`: as for `copy_rows`, whose errors are raised."""
    writer = SliceWriter(output, index_rows.query, index_rows.key_names, slice_)
    try:
        copied = await copy_rows(index_rows.rows(slice_), writer, output.report, first, output.pace)
    finally:
        await asyncio.to_thread(writer.close)
    return msgspec.structs.replace(copied, sums=totals.as_list(writer.sums), files=writer.files, stats=writer.stats)


async def write_empty(output: Output, index_rows: IndexRows) -> WrittenRows:
    """Write the one file of an index without rows."""
    writer = SliceWriter(output, index_rows.query, index_rows.key_names, Slice(None))
    try:
        await asyncio.to_thread(writer.write_empty)
    finally:
        await asyncio.to_thread(writer.close)
    return WrittenRows(size=writer.size, files=writer.files, stats=writer.stats)
