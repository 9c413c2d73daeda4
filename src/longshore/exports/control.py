"""The check of a result by its control totals: what the source adds up to against what was written.

Both are taken while the rows are copied. The source is asked in the snapshot of the export, and the text on its way to
the file is read by the reader of `reading`, in a thread of its own, which has no part in writing. The copy waits where
that falls behind, so that memory does not grow.
"""

import asyncio
import queue
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

from longshore.database.connect import Connection
from longshore.exports import reading, totals
from longshore.exports.formats import Format
from longshore.exports.manifest import Manifest
from longshore.exports.plan import Source
from longshore.exports.reading import TEXT, Layout
from longshore.exports.totals import Counted, Sums, Totals

BEHIND = 4  # blocks that wait for the reader


class Control:
    """Adds up one result; a context around its copy. Where there is nothing to add up, nothing is checked."""

    def __init__(self, what: Counted | None, layout: Layout) -> None:
        self._what = what
        self._layout = layout
        self._thread = ThreadPoolExecutor(1, "control")
        self._pipe = _Pipe()
        self._written: Future[Sums | None] | None = None
        self._expected: Totals | None = None

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.end()
        self._thread.shutdown(wait=False)

    @property
    def rows(self) -> int | None:
        """The rows that there must be, once the source has told."""
        return None if self._expected is None else self._expected.rows

    async def ask(self, connection: Connection, source: Source) -> None:
        """Ask the source what the rows add up to. `connection`: holds the snapshot."""
        if self._what is not None:
            self._expected = await totals.in_source(connection, source, self._what)

    def read(self, form: Format) -> Format:
        """A format whose text is read here on its way."""
        if self._what is None or self._layout.format not in TEXT:
            return form
        self._written = self._thread.submit(self._add, self._what)
        return _Read(form, self._pipe)

    async def checked(self, file: Path, manifest: Manifest) -> Totals | None:
        """The totals of what was written, which are those of the source; None for what cannot be read.

        Once the copy has ended. Raises TotalsMismatchError, and ValueError where the result is not of its format.
        """
        what, expected = self._what, self._expected
        if what is None or expected is None:
            return None
        found = None if self._written is None else await asyncio.wrap_future(self._written)
        if found is None:
            found = await asyncio.to_thread(reading.sums, file, manifest, what.amount.name, what.per.name, what.scale)
        if found is None:
            return None
        totals.compare(expected, found)
        return expected

    def _add(self, what: Counted) -> Sums | None:
        """The sums of the text; None where it takes the whole file at hand to tell them."""
        import pyarrow as pa

        try:
            text = cast(IO[bytes], self._pipe)
            return reading.sums_of(text, self._layout, what.amount.name, what.per.name, what.scale)
        except pa.ArrowInvalid:
            return None
        finally:
            self._pipe.drain()


class _Read:
    """A format that gives what it frames to a pipe, too."""

    def __init__(self, inner: Format, pipe: "_Pipe") -> None:
        self._inner = inner
        self._pipe = pipe

    @property
    def rows(self) -> int:
        return self._inner.rows

    def query(self, source: str) -> str:
        return self._inner.query(source)

    def options(self) -> dict[str, Any]:
        return self._inner.options()

    def begin(self) -> bytes:
        return self._pipe.put(self._inner.begin())

    def frame(self, block: bytes) -> bytes:
        return self._pipe.put(self._inner.frame(block))

    def end(self) -> Iterator[bytes]:
        for data in self._inner.end():
            yield self._pipe.put(data)
        self._pipe.end()


class _Pipe:
    """Bytes that one thread puts in and another reads, as of a file."""

    closed = False

    def __init__(self) -> None:
        self._blocks: queue.Queue[bytes | None] = queue.Queue(BEHIND)
        self._rest = memoryview(b"")
        self._open = True  # at the end where blocks go in
        self._more = True  # at the end where they come out

    def put(self, data: bytes) -> bytes:
        """Wait until there is room, and give back what went in."""
        if data:
            self._blocks.put(data)
        return data

    def end(self) -> None:
        """Nothing more goes in."""
        if self._open:
            self._open = False
            self._blocks.put(None)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if not self._rest and self._more:
            block = self._blocks.get()
            self._more = block is not None
            self._rest = memoryview(block or b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def drain(self) -> None:
        """Take all that is still to come, so that nobody waits for room."""
        while self._more:
            self._more = self._blocks.get() is not None
