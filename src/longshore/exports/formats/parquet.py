"""Parquet: decimals as decimals, times as UTC timestamps, nested fields as lists of structs.

The rows come as CSV, whose quotes distinguish "" from NULL, and Arrow reads them. One thread parses the records while
another encodes and compresses the row group before, so that both of two cores have work.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from longshore.exports.formats.arrow import ArrowFile, TableReader
from longshore.exports.formats.format import FileSpec, Format
from longshore.exports.formats.nested import projected, select
from longshore.exports.formats.records import Records

BATCH_BYTES = 4 << 20  # of CSV that are parsed at once
GROUP_ROWS = 128 * 1024
GROUP_BYTES = 64 << 20  # of CSV; a row group with long values has fewer rows


class Parquet(Format):
    """Apache Parquet, in row groups of about GROUP_ROWS rows."""

    def __init__(self, spec: FileSpec) -> None:
        super().__init__(spec)
        self._reader = TableReader(spec.columns, spec.key)
        self._max_group_bytes = min(GROUP_BYTES, max(1, (spec.part_bytes or 4 * GROUP_BYTES) // 4))
        self._records = Records(min(BATCH_BYTES, self._max_group_bytes))
        self._complete_bytes = 0  # bytes of the row groups before the one that is written
        self._chunks: deque[bytes] = deque()  # that were written and not handed out
        self._file = ArrowFile(self._chunks.append)
        schema = self._reader.schema
        # A dictionary makes repeated words small, and costs time for numbers without making them much smaller.
        words = [field.name for field in schema if pa.types.is_string(field.type)]
        codec = spec.compression or "snappy"
        self._writer = pq.ParquetWriter(self._file, schema, compression=codec, use_dictionary=words)
        self._tables: list[pa.Table] = []
        self._group_rows = self._group_bytes = 0
        self._thread = ThreadPoolExecutor(1, "parquet")
        self._writing: Future[None] | None = None

    def query(self, from_clause: str) -> str:
        return select(self._spec, [projected(column) for column in self._spec.columns], from_clause)

    def frame(self, block: bytes) -> bytes:
        for batch in self._records.add(block):
            self._take(batch)
        return self._drained()

    def complete_bytes(self, size: int) -> int:  # noqa: ARG002  # the thread may have handed out more, or less
        return self._complete_bytes

    def end(self) -> Iterator[bytes]:
        if rest := self._records.rest():
            self._take(rest)
        self._write_group()
        self._thread.shutdown()
        if self._writing is not None:
            self._writing.result()
        yield self._drained()
        self._writer.close()
        footer = self._drained()
        self.footer = pq.read_metadata(pa.BufferReader(footer))
        self.rows = self.footer.num_rows
        yield footer

    def _drained(self) -> bytes:
        """Return the bytes written since the last call; another thread may write meanwhile."""
        return b"".join(self._chunks.popleft() for _ in range(len(self._chunks)))

    def _take(self, records: bytes) -> None:
        table = self._reader.table(records)
        self._tables.append(table)
        self.rows += table.num_rows
        self._group_rows += table.num_rows
        self._group_bytes += len(records)
        if self._group_rows >= GROUP_ROWS or self._group_bytes >= self._max_group_bytes:
            self._write_group()

    def _write_group(self) -> None:
        if not self._tables:
            return
        if self._writing is not None:
            self._writing.result()
            self._complete_bytes = self._file.tell()
        group = pa.concat_tables(self._tables)
        self._tables.clear()
        self._group_rows = self._group_bytes = 0
        self._writing = self._thread.submit(self._writer.write_table, group, len(group))
