"""Compression of a whole file: gzip (RFC 1952) and Zstandard (RFC 8878)."""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

Compression = Literal["gzip", "zstd"]


class Compressor(Protocol):
    """A compressor of a stream."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


GZIP = 31  # as zlib counts: 15 bits of window, and 16 for gzip's header


class Codec(msgspec.Struct, frozen=True):
    """A compression: the extension of its files, and the constructor of its compressor."""

    extension: str
    start: Callable[[], Compressor]


def _gzip() -> Compressor:
    # ISA-L's deflate is several times as fast as zlib's, for files a few percent larger; any gunzip reads them.
    from isal import isal_zlib  # where a file is written, as `longshore verify` is installed without it

    return isal_zlib.compressobj(1, isal_zlib.DEFLATED, GZIP)


def _zstandard() -> Compressor:
    import zstandard

    return zstandard.ZstdCompressor(level=1).compressobj()  # the third level takes twice the time, for as small ledgers


CODECS = {"gzip": Codec("gz", _gzip), "zstd": Codec("zst", _zstandard)}
