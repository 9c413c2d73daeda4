"""The part of a file that a download writes: `.NAME.HASH.part` beside the file until it is complete.

HASH is the one that the run recorded, so a later download, also by another process, resumes a part of the same content.
A download locks its part. One that runs beside it writes another part: `.NAME.HASH.1.part`, and so on.
"""

import base64
import contextlib
import hashlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from longshore.client.errors import DownloadError, LostError

CLOSES_FIRST = sys.platform == "win32"  # which renames and deletes no open file
OnBytes = Callable[[int, int], None]
"""Called with the number of bytes so far and the number in total."""


class ReplacedError(Exception):
    """The address has another content than the run recorded, because a newer run has ended."""


class Part:
    """The file that a download to `target` writes, and the hash of its content. Its methods block.

    `sha256` and `total`, in bytes, are those of the whole content, as the run recorded them.
    """

    def __init__(self, target: Path, sha256: str, total: int) -> None:
        self.sha256 = sha256
        self.total = total
        self._target = target
        self.path, self._file = _lock_part(f".{target.name}.{sha256[:16]}", target.parent)
        self._hash = hashlib.sha256()
        self._file.seek(0)
        while chunk := self._file.read(1 << 20):
            self._hash.update(chunk)
        self.size = self._file.tell()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Empty the file."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0

    def publish(self) -> None:
        """Rename the file to the target. Deletes it and raises DownloadError if it has another hash."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if CLOSES_FIRST:
            self._file.close()
        try:
            if (actual := self._hash.hexdigest()) != self.sha256:
                self.discard()
                raise DownloadError(f"the downloaded file has the SHA-256 {actual}, the run recorded {self.sha256}")
            self.path.replace(self._target)
        finally:
            self._file.close()  # and with it the lock, so that no other download gets a file that is no part any more

    def discard(self) -> None:
        """Delete the file."""
        if CLOSES_FIRST:
            self._file.close()
        self.path.unlink()

    def close(self) -> None:
        """Close the file and keep it for a later download."""
        self._file.close()


def _lock_part(stem: str, folder: Path) -> tuple[Path, BinaryIO]:
    """Open the first part that no other download has locked, and return its path and file."""
    for number in itertools.count():
        path = folder / (f"{stem}.{number}.part" if number else f"{stem}.part")
        while True:
            file = path.open("ab+")
            if not _lock(file):
                file.close()
                break  # another download has it
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    return path, file
            file.close()  # renamed or deleted by the download that had it, between `open` and the lock
    raise AssertionError  # the numbers do not end


def _lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; return False if another download has locked it."""
    if sys.platform == "win32":  # which has no `flock`
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks, as some of a network are
    return True


def range_headers(part: Part, etag: str | None) -> dict[str, str]:
    """Return the headers that request the rest. A part of an earlier download has no ETag; its hash decides."""
    if not part.size:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    return {**headers, "If-Range": etag} if etag and not etag.startswith("W/") else headers


def must_restart(status: int, headers: Mapping[str, str], part: Part) -> bool:
    """Return whether an answer has the whole content and not the rest of it. Raises ReplacedError and LostError."""
    digest = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", headers.get("repr-digest", ""))
    if digest and base64.b64decode(digest[1]).hex() != part.sha256:
        raise ReplacedError
    if status == 206:
        first = re.match(r"bytes (\d+)-", headers.get("content-range", ""))
        if first is None or int(first[1]) != part.size:
            raise LostError(f"requested bytes from {part.size}, got {headers.get('content-range')!r}")
        return False
    return part.size > 0
