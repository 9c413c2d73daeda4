"""The rows that an export has written: by one copy, of one slice, or of an index so far."""

from collections.abc import Sequence

import msgspec

from longshore.exports import totals
from longshore.exports.manifest import FileEntry
from longshore.exports.totals import Sum
from longshore.results.store import Piece


class WrittenRows(msgspec.Struct):
    """The figures of written rows, and where they are."""

    sent: int = 0
    """Rows that PostgreSQL reports to have sent."""
    rows: int = 0
    """Rows written."""
    size: int = 0
    """Bytes written."""
    sha256: bytes = b""
    """Of the one file of a result; empty for a piece of it, and for many files."""
    sums: Sequence[Sum] = ()
    """For the control totals; empty where there are none."""
    files: list[FileEntry] = []
    """Where the result has many."""
    stats: list[str] = []
    """Statistics of its files, where they are shared as a table."""
    piece: Piece | None = None
    """Of a slice that was written as a piece of the one file."""

    def add(self, more: "WrittenRows") -> None:
        """Add the rows of the next slice."""
        self.sent += more.sent
        self.rows += more.rows
        self.size += more.size
        sums = totals.of_list(self.sums)
        totals.merge(sums, totals.of_list(more.sums))
        self.sums = totals.as_list(sums)
        self.files += more.files
        self.stats += more.stats
