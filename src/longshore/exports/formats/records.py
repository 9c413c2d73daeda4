"""Whole records, cut from a stream of text that comes in blocks, always at the same places."""

from collections.abc import Iterator
from functools import cache

LINE_FEED = b"\n"
QUOTE = b'"'
MAX_ROW_BYTES = 1 << 30  # of text that is read back; PostgreSQL sends no row of more, quotes included


class Records:
    """Cuts text into batches of whole records.

    A batch ends with the record that makes it at least `size` bytes long, so the batches depend on the records alone
    and not on the blocks that they came in. Each byte is searched once, however long a record is.
    """

    def __init__(self, size: int, quote: bytes | None = QUOTE) -> None:
        """`quote`: a line feed inside quotes ends no record; None: each line feed ends one."""
        self._size = size
        self._quote = quote
        self._text = bytearray()
        self._searched = 0
        self._quoted = False  # whether the byte at `_searched` is inside quotes

    def __len__(self) -> int:
        """Return the bytes after the last complete batch."""
        return len(self._text)

    def add(self, block: bytes) -> Iterator[bytes]:
        """Yield the batches that are complete with this block."""
        self._text += block
        while (end := self._end()) is not None:
            yield bytes(memoryview(self._text)[:end])
            del self._text[:end]
            self._searched, self._quoted = 0, False

    def rest(self) -> bytes:
        """Return the records after the last complete batch."""
        return bytes(self._text)

    def _end(self) -> int | None:
        if len(self._text) < self._size:
            return None
        self._search(max(self._size, self._searched))
        while (end := self._text.find(LINE_FEED, self._searched)) >= 0:
            self._search(end + 1)
            if not self._quoted:
                return end + 1
        self._search(len(self._text))
        return None

    def _search(self, end: int) -> None:
        # An escaped quote is two quotes, so an odd number of them means that a value is open.
        if self._quote is not None:
            self._quoted ^= self._text.count(self._quote, self._searched, end) % 2 == 1
        self._searched = end


def count_records(records: bytes, quote: bytes) -> int:
    """Return the number of whole records."""
    if quote not in records:
        return records.count(LINE_FEED)
    structure = records.translate(None, _all_but(quote + LINE_FEED))
    return sum(map(len, structure.split(quote)[::2]))


def end_of_record(records: bytes, number: int, quote: bytes) -> int:
    """Return where the record of this number, from 1, ends among whole records."""
    at, quoted = 0, False
    while number:
        end = records.index(LINE_FEED, at) + 1
        quoted ^= records.count(quote, at, end) % 2 == 1
        at = end
        number -= not quoted
    return at


@cache
def _all_but(kept: bytes) -> bytes:
    return bytes(byte for byte in range(256) if byte not in kept)
