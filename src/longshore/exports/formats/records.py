"""Whole records, cut from a stream of text that comes in blocks, always at the same places."""

from collections.abc import Iterator

LINE_FEED = b"\n"
QUOTE = b'"'


class Records:
    """Cuts text into pieces of whole records.

    A piece ends with the first record that ends at or behind `size` bytes, so the pieces depend on the records alone
    and not on the blocks that they came in. Each byte is searched once, however long a record is.
    """

    def __init__(self, size: int, *, csv: bool = True) -> None:
        """`csv`: a line feed inside quotes ends no record; else each line feed ends one."""
        self._size = size
        self._csv = csv
        self._text = bytearray()
        self._searched = 0
        self._quoted = False  # whether the byte at `_searched` is inside quotes

    def __len__(self) -> int:
        """Return the bytes after the last complete piece."""
        return len(self._text)

    def add(self, block: bytes) -> Iterator[bytes]:
        """Yield the pieces that are complete with this block."""
        self._text += block
        while (end := self._end()) is not None:
            yield bytes(memoryview(self._text)[:end])
            del self._text[:end]
            self._searched, self._quoted = 0, False

    def rest(self) -> bytes:
        """Return the records after the last complete piece."""
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
        if self._csv:
            self._quoted ^= self._text.count(QUOTE, self._searched, end) % 2 == 1
        self._searched = end
