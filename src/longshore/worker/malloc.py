"""Limits on glibc's heap, so that a worker's memory shrinks when its tasks end.

Exports in many threads fragment glibc's heaps, which keep the free memory. Measured without these limits: 520 MB after
half an hour of mixed exports, and growing. Other C libraries have neither of the two functions and need neither.
https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

import ctypes

M_ARENA_MAX = -8  # of glibc's malloc.h

_library = ctypes.CDLL(None)


def limit_arenas() -> None:
    """Let all threads share two heaps instead of eight for each core."""
    if hasattr(_library, "mallopt"):
        _library.mallopt(M_ARENA_MAX, 2)


def release_free_memory() -> None:
    """Return free memory to the operating system. Takes about a millisecond."""
    if hasattr(_library, "malloc_trim"):
        _library.malloc_trim(0)
