"""Writes rows into a file, or into a piece of one: framed, compressed, hashed and added up."""

import hashlib
from collections.abc import Callable

from longshore.exports import formats
from longshore.exports.formats import WHOLE, Format, PiecePosition
from longshore.exports.formats.compression import Compressor
from longshore.exports.query import ExportQuery
from longshore.exports.reconcile import RunningFileSums
from longshore.results.store import Writable


class RowWriter:
    """Frames, compresses, hashes and writes rows. Blocking; used by one thread at a time."""

    def __init__(
        self,
        format: Format,
        file: Writable,
        compressor: Compressor | None = None,
        observe: Callable[[bytes], None] | None = None,
        position: PiecePosition = WHOLE,
    ) -> None:
        """`observe`: is called with the text of whole rows before it is compressed."""
        self.format = format
        self.size = 0
        self._file = file
        self._compressor = compressor
        self._observe = observe
        self._position = position
        self._begun = False
        self._hash = hashlib.sha256() if position == WHOLE else None

    @property
    def rows(self) -> int:
        """Rows written; after `end`, the rows counted in the finished file."""
        return self.format.rows

    @property
    def complete_bytes(self) -> int:
        """Bytes of the file so far, which depend on its rows alone."""
        return self.format.complete_bytes(self.size)

    def begin(self) -> None:
        """Write the bytes before the first row, if this is the first piece."""
        if self._position.first:
            self._begin()

    def write(self, chunks: list[bytes]) -> None:
        """Write the rows in PostgreSQL's chunks."""
        if block := b"".join(chunks):
            self._begin()
            framed = self.format.frame(block)
            if self._observe is not None:
                self._observe(framed)
            self._put(framed)

    def end(self) -> bytes:
        """Write the bytes after the last row. Return the SHA-256 of the file; nothing for a piece."""
        if self._position.last:
            self._begin()
        if self._begun:  # a piece in the middle without rows has no byte, not even the header of a compression
            for data in self.format.end():
                self._put(data)
            if self._compressor is not None:
                self._put_raw(self._compressor.flush())
        return self._hash.digest() if self._hash else b""

    def _begin(self) -> None:
        if not self._begun:
            self._put(self.format.begin())
            self._begun = True

    def _put(self, data: bytes) -> None:
        self._put_raw(data if self._compressor is None else self._compressor.compress(data))

    def _put_raw(self, data: bytes) -> None:
        if self._hash:
            self._hash.update(data)
        self._file.write(data)
        self.size += len(data)


def row_writer(
    query: ExportQuery, file: Writable, position: PiecePosition = WHOLE
) -> tuple[RowWriter, RunningFileSums]:
    """Return the writer of a file or a piece, and the sums of what it writes."""
    target, sums = query.request.target, RunningFileSums(query)
    compressor = formats.compressor(target.export_format, target.compression)
    return RowWriter(query.format(position), file, compressor, sums.add, position), sums
