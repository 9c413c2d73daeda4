"""Errors of temporary files: those of their disk alone, not of the disk for results, nor of a connection."""

import contextlib
from collections.abc import Iterator

from longshore.errors import TransientError


@contextlib.contextmanager
def temporary_files(of: str) -> Iterator[None]:
    """Raise TransientError where the block, which works with temporary files alone, raises OSError.

    `of`: what they are for, as in `a workbook`.
    """
    try:
        yield
    except OSError as error:
        raise TransientError(f"the temporary files of {of} cannot be written: {error.strerror}") from error
