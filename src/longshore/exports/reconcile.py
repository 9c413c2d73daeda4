"""The check of a result by its control totals: what the source adds up to against what was written.

Both are taken while the rows are copied, which costs far less than afterwards. The source is asked in the snapshot of
the export; the text is read block by block on its way to the file, by the readers of `reading`, which have no part in
writing. Where that does not tell, or differs, the file itself is read and has the last word.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from longshore.database.connect import Connection
from longshore.exports import odd_values, readback, totals
from longshore.exports.formats import Format
from longshore.exports.manifest import Manifest
from longshore.exports.query import ExportQuery
from longshore.exports.readback import TEXT, Layout, Opener
from longshore.exports.totals import Counted, Sum, Sums, Totals

READ = 2 << 20  # bytes that are read at a time; with 256 KiB, the calls take as long as the reading


class Reconciler:
    """Adds up one result. Where there is nothing to add up, nothing is checked."""

    def __init__(self, what: Counted | None, layout: Layout) -> None:
        self._what = what
        self._layout = layout
        self._written: Sums | None = None
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._expected: Totals | None = None
        self.skips = 0
        """Values inside nested fields that are NULL in the file as they are odd."""

    @property
    def counts(self) -> bool:
        """Whether the source is asked, so that its rows need not be counted before."""
        return self._what is not None

    @property
    def rows(self) -> int | None:
        """The rows that there must be, once the source has told."""
        return None if self._expected is None else self._expected.rows

    @property
    def written(self) -> list[Sum] | None:
        """What was written adds up to; None where that was not read on its way."""
        self._read_unread()
        if self._written is None:
            return None
        return [Sum(value, rows, format(part, "f")) for value, (rows, part) in self._written.items()]

    def gather(self, parts: Sequence[Sequence[Sum] | None]) -> None:
        """Take what several controls of parts of the result have read."""
        if any(part is None for part in parts):
            self._written = None
            return
        read = [(one.value, one.rows, Decimal(one.sum)) for part in parts for one in part or ()]
        self._written = totals.added(read)

    async def ask(self, connection: Connection, ready: ExportQuery) -> None:
        """Ask the source what the rows add up to, and for odd values. `connection`: holds the snapshot.

        Raises OddValueError.
        """
        self.skips = await odd_values.count(connection, ready.source, ready.columns, ready.key)
        if self._what is not None:
            self._expected = await totals.in_source(connection, ready.source, self._what)

    def read(self, form: Format) -> Format:
        """A format whose text is read here on its way."""
        if self._what is None or self._layout.format not in TEXT:
            return form
        self._written = {}
        return _Read(form, self._add)

    async def checked(self, opened: Opener, manifest: Manifest) -> Totals | None:
        """The totals of what was written, which are those of the source; None where the catalog declares none.

        Once all is written. `opened`: opens it, to be read. Raises TotalsMismatchError, what reading raises, and
        ValueError where the file is not of its format.
        """
        what, expected = self._what, self._expected
        if what is None or expected is None:
            return None
        await asyncio.to_thread(self._read_unread)
        if self._written is not None and totals.difference(expected, self._written) is None:
            return expected
        found = await asyncio.to_thread(readback.sums, opened, manifest, what.amount.name, what.per.name, what.scale)
        totals.compare(expected, found)
        return expected

    def _add(self, block: bytes) -> None:
        if self._written is None or not block:
            return
        self._unread.append(block)
        self._unread_bytes += len(block)
        if self._unread_bytes >= READ:
            self._read_unread()

    def _read_unread(self) -> None:
        what, block = self._what, b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        if what is None or self._written is None or not block:
            return
        try:
            found = readback.sums_of(block, self._layout, what.amount.name, what.per.name, what.scale)
            self._written = totals.added(
                (value, *part) for sums in (self._written, found) for value, part in sums.items()
            )
        except ValueError:  # a row that the block has only a part of, more digits than Arrow adds up, NaN
            self._written = None


class _Read:
    """A format that shows what it frames."""

    def __init__(self, inner: Format, show: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._show = show

    @property
    def rows(self) -> int:
        return self._inner.rows

    def query(self, source: str) -> str:
        return self._inner.query(source)

    def options(self) -> dict[str, Any]:
        return self._inner.options()

    def begin(self) -> bytes:
        return self._inner.begin()

    def frame(self, block: bytes) -> bytes:
        framed = self._inner.frame(block)
        self._show(framed)
        return framed

    def end(self) -> Iterator[bytes]:
        return self._inner.end()
