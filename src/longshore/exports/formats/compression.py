"""Compression of a whole file: gzip (RFC 1952) and Zstandard (RFC 8878)."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import msgspec
import zstandard
from isal import isal_zlib

from longshore.exports.formats.format import Format

Compression = Literal["gzip", "zstd"]


class Compressor(Protocol):
    """Takes bytes and gives fewer."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


GZIP = 31  # as zlib counts: 15 bits of window, and 16 for gzip's header


class Codec(msgspec.Struct, frozen=True):
    """A way to compress."""

    extension: str
    start: Callable[[], Compressor]


# ISA-L's deflate is several times as fast as zlib's, for files a few percent larger; any gunzip reads them. Of
# Zstandard's levels the first takes half the time of the third, for ledgers as small as that.
CODECS = {
    "gzip": Codec("gz", lambda: isal_zlib.compressobj(1, isal_zlib.DEFLATED, GZIP)),
    "zstd": Codec("zst", lambda: zstandard.ZstdCompressor(level=1).compressobj()),
}


class Compressed:
    """A format whose file is compressed."""

    def __init__(self, inner: Format, compression: Compression) -> None:
        self._inner = inner
        self._codec = CODECS[compression].start()

    @property
    def rows(self) -> int:
        """Rows that went through."""
        return self._inner.rows

    def query(self, source: str) -> str:
        return self._inner.query(source)

    def options(self) -> dict[str, Any]:
        return self._inner.options()

    def begin(self) -> bytes:
        return self._codec.compress(self._inner.begin())

    def frame(self, block: bytes) -> bytes:
        return self._codec.compress(self._inner.frame(block))

    def end(self) -> Iterator[bytes]:
        for data in self._inner.end():
            yield self._codec.compress(data)
        yield self._codec.flush()
