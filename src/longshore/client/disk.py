"""Files of the client: written whole, with errors that name their path."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from longshore.client.errors import DownloadError

FOR_OWNER = 0o600  # the mode of a file that only its owner can read


def write_whole(file: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file that appears once it is complete, in place of one that is there."""
    aside = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as to:
            to.write(content)
            to.flush()
            os.fsync(to.fileno())
        aside.replace(file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise DownloadError, which names a path, in place of the errors of the disk that it is on."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: of a path with U+0000
        named = str(getattr(error, "filename", None) or path)
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"{named!r} cannot be read or written: {reason}") from error
