"""Results read back: by readers that share no code with the writers, in memory that does not grow with the file.

`reconcile` adds up text while an export writes it; `longshore verify` reads files anywhere.
"""

import contextlib
import gzip
import io
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import IO

from longshore.exports.formats import reader_of
from longshore.exports.formats.dialect import dialect
from longshore.exports.formats.reader import BinaryReader, Layout, TextReader
from longshore.exports.formats.records import MAX_ROW_BYTES, Records
from longshore.exports.manifest import Manifest
from longshore.exports.totals import Sums, TotalColumns, add_partial_sums
from longshore.results.own_thread import refuse_cancelled

CHUNK_BYTES = 512 << 10
BATCH_BYTES = 2 << 20  # of text that is added up at once; with 256 KiB, the calls take as long as the reading
NEVER = threading.Event()

Opener = Callable[[], IO[bytes]]


def missing_package(manifest: Manifest) -> str | None:
    """Return the package that reading the rows of a file needs and that is not installed; None where all are there."""
    needed = reader_of(manifest.format).needs(totals=manifest.totals is not None)
    packages = [needed, "zstandard" if manifest.file.endswith(".zst") else None]
    return next((name for name in packages if name and find_spec(name) is None), None)


def rows(opener: Opener, manifest: Manifest) -> int:
    """Return the number of rows of a file, counted by a reader of its format.

    Blocking. Raises what reading the file raises, and ValueError where it is not what its manifest says.
    """
    with open_text(opener, manifest.file) as file:
        return reader_of(manifest.format).rows(file, _layout(manifest))


def sums(opener: Opener, manifest: Manifest, columns: TotalColumns, cancelled: threading.Event = NEVER) -> Sums:
    """Return rows and sum of the amounts in a file for each value of the column `per`.

    Blocking. Raises as `rows`, and LongshoreError once `cancelled` is set. The sums are exact without a known scale,
    too, and then take longer.
    """
    if manifest.rows == 0:
        return {}
    layout, reader = _layout(manifest), reader_of(manifest.format)
    if isinstance(reader, BinaryReader):
        return binary_sums(opener, layout, columns, cancelled)
    assert isinstance(reader, TextReader)
    text = RunningTextSums(reader, layout, columns, header=layout.dialect.header)
    records = Records(BATCH_BYTES, reader.quote)
    with open_text(opener, manifest.file) as file:
        while chunk := file.read(CHUNK_BYTES):
            refuse_cancelled(cancelled)
            for batch in records.add(chunk):
                text.add(batch)
            if len(records) > MAX_ROW_BYTES:
                raise ValueError(f"a row has more than {MAX_ROW_BYTES:,} bytes")
    text.add(records.rest())
    return text.end()


def _layout(manifest: Manifest) -> Layout:
    return Layout(manifest.format, [field.name for field in manifest.fields], dialect(manifest.csv))


def binary_sums(opener: Opener, layout: Layout, columns: TotalColumns, cancelled: threading.Event = NEVER) -> Sums:
    """Return the sums of a file that is no text, as `sums` does."""
    reader = reader_of(layout.format)
    assert isinstance(reader, BinaryReader)
    found: Sums = {}
    with opener() as file:
        for part in reader.parts(file, layout, columns):
            refuse_cancelled(cancelled)
            add_partial_sums(found, [part])
    return found


class RunningTextSums:
    """Adds up the amounts in the text of a result, block by block. Blocking."""

    def __init__(self, reader: TextReader, layout: Layout, columns: TotalColumns, *, header: bool = False) -> None:
        """`header`: whether the text begins with the header line of a CSV file."""
        self._reader = reader
        self._layout = layout
        self._columns = columns
        self._header = header
        self._blocks: list[bytes] = []  # that are not added up yet
        self._bytes = 0
        self._sums: Sums = {}

    def add(self, block: bytes) -> None:
        """Take the next whole rows of the text. Raises ValueError for a row that is not as the layout says."""
        self._blocks.append(block)
        self._bytes += len(block)
        if self._bytes >= BATCH_BYTES:
            self._take()

    def end(self) -> Sums:
        """Return the sums of the whole text. Raises as `add`."""
        self._take()
        return self._sums

    def _take(self) -> None:
        batch = b"".join(self._blocks)
        self._blocks.clear()
        self._bytes = 0
        if batch:
            header, self._header = self._header, False
            add_partial_sums(self._sums, self._reader.parts(batch, self._layout, self._columns, header=header))


@contextlib.contextmanager
def open_text(opener: Opener, name: str) -> Iterator[IO[bytes]]:
    """Open a file of this name without the compression around it, of which each piece may be a member or frame."""
    with opener() as file:
        if name.endswith(".gz"):
            yield io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"))
        elif name.endswith(".zst"):
            import zstandard

            yield io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        else:
            yield file
