"""Key lists: the keys of the client's copy, in order, as a compressed Parquet file.

Parquet's delta encodings suit sorted values: dense integers take less than a byte each, UUIDs about 18. Keys are
integers, or bytes that are compared as such. All of it is done batch by batch, and per batch by Arrow.
"""

import bisect
import hashlib
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longshore.errors import LongshoreError
from longshore.exports.formats.arrow import ArrowFile, read_csv
from longshore.results.store import Writable
from longshore.validation import shortened

GROUP_ROWS = 1 << 17
BATCH_ROWS = 1 << 16
ENCODINGS = {True: "DELTA_BINARY_PACKED", False: "DELTA_BYTE_ARRAY"}


class KeyListWriter:
    """Writes a key list from the text of `COPY … (format csv)`. Blocking; used by one thread at a time."""

    def __init__(self, file: Writable, name: str, *, integers: bool) -> None:
        """`name`: of the key, for errors."""
        self.rows = 0
        self._name = name
        self._type = pa.int64() if integers else pa.binary()
        self._file: Writable | None = file
        self._hash = hashlib.sha256()
        self._sink = ArrowFile(self._put)
        self._last: pa.Array | None = None
        self._writer = pq.ParquetWriter(
            self._sink,
            pa.schema([pa.field("key", self._type)]),
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
            column_encoding={"key": ENCODINGS[integers]},
        )
        self._waiting: list[pa.Array] = []
        self._waiting_rows = 0

    def add(self, block: bytes) -> None:
        """Take the next whole records. Raises LongshoreError for a key that is NULL or occurs twice."""
        if not block:
            return
        keys = read_csv(block, ["key"], {"key": self._type}).column(0).combine_chunks()
        if keys.null_count:
            raise LongshoreError(
                f"the key {self._name} is NULL in a row; with `deletes` every row needs a key: exclude such rows by"
                " `filter` in the catalog, or declare another key"
            )
        joined = keys if self._last is None else pa.concat_arrays([self._last, keys])
        rising = pc.greater(joined[1:], joined[:-1])
        if not pc.all(rising, min_count=0).as_py():
            raise LongshoreError(self._disorder(joined, pc.index(rising, False).as_py()))
        self._last = keys[-1:]
        self.rows += len(keys)
        self._waiting.append(keys)
        self._waiting_rows += len(keys)
        if self._waiting_rows >= GROUP_ROWS:
            self._write()

    def end(self) -> None:
        """Write the rest."""
        self._write()
        self._writer.close()

    def close(self) -> None:
        """Write nothing more. Arrow's writer would otherwise end the file when it is collected."""
        self._file = None

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._sink.tell()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes written."""
        return self._hash.hexdigest()

    def _put(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
        self._hash.update(data)

    def _disorder(self, keys: pa.Array, at: int) -> str:
        one, other = (keys[number].as_py() for number in (at, at + 1))
        shown = shortened(one.decode(errors="replace") if isinstance(one, bytes) else str(one))
        if one == other:
            return (
                f"the key {self._name} has the value {shown!r} twice; with `deletes` it must be unique within the"
                " chain: declare another key in the catalog"
            )
        return f"the source gave the keys {self._name} in another order than asked for, at {shown!r}"

    def _write(self) -> None:
        if self._waiting:
            table = pa.table([pa.chunked_array(self._waiting, self._type)], ["key"])
            self._writer.write_table(table, self._waiting_rows)
            self._waiting, self._waiting_rows = [], 0


def differences(old: IO[bytes], new: IO[bytes]) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Yield the keys that a list lost and those that it gained, in order, some at a time. Blocking."""
    before, after = _Reader(old), _Reader(new)
    while before.keys is not None or after.keys is not None:
        ends = [reader.keys[-1].as_py() for reader in (before, after) if reader.keys is not None]
        cut = min(ends)
        left, right = before.until(cut), after.until(cut)
        if left.equals(right):
            continue
        lost = left.filter(pc.invert(pc.is_in(left, value_set=right)))
        gained = right.filter(pc.invert(pc.is_in(right, value_set=left)))
        yield lost, gained


class _Reader:
    """The keys of a list that are still to come."""

    def __init__(self, file: IO[bytes]) -> None:
        parquet = pq.ParquetFile(file)
        self._empty = pa.array([], parquet.schema_arrow.field("key").type)
        self._batches = parquet.iter_batches(batch_size=BATCH_ROWS)
        self.keys: Any = None
        """The next ones; None where there are no more."""
        self._advance()

    def until(self, cut: int | bytes) -> pa.Array:
        """Take the next keys up to and with `cut`."""
        if self.keys is None:
            return self._empty
        count = bisect.bisect_right(self.keys, cut, key=lambda key: key.as_py())
        taken, self.keys = self.keys[:count], self.keys[count:]
        if not len(self.keys):
            self._advance()
        return taken

    def _advance(self) -> None:
        batch = next((batch for batch in self._batches if len(batch)), None)
        self.keys = None if batch is None else batch.column(0)
