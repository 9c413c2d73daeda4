"""The partial file that a download writes: `.NAME.HASH.part` beside the target until it is complete.

HASH is the one that the run recorded, so a later download, also by another process, resumes one of the same content.
A download locks its partial file. One that runs beside it writes another: `.NAME.HASH.1.part`, and so on.
"""

import base64
import contextlib
import hashlib
import io
import itertools
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from longshore.client.disk import disk_errors
from longshore.client.errors import DownloadError, LostError

CLOSES_FIRST = sys.platform == "win32"  # which renames and deletes no open file
OnBytes = Callable[[int, int], None]
"""Called with the number of bytes so far and the number in total."""


class ContentError(DownloadError):
    """The bytes are not those that the run recorded."""


class PartialFile:
    """The file that a download to `target` writes, and the hash of its content. Its methods block.

    `sha256` and `total`, in bytes, are those of the whole content, as the run recorded them. Errors of the disk are
    DownloadErrors.
    """

    def __init__(self, target: Path, sha256: str, total: int) -> None:
        self.sha256 = sha256
        self.total = total
        self._target = target
        self._hash = hashlib.sha256()
        # A cancelled download closes the file while its thread may still write: to a descriptor that is reused by then.
        self._changing = threading.Lock()
        with disk_errors(target):
            self.path, self._file = _locked_file(f".{target.name}.{sha256[:16]}", target.parent)
            self._file.seek(0)
            while chunk := self._file.read(1 << 20):
                self._hash.update(chunk)
            self.size = self._greatest_size = self._file.tell()

    def write(self, chunk: bytes) -> bool:
        """Append bytes. Return whether the file is larger than ever before, also than before a restart."""
        rest = memoryview(chunk)
        with disk_errors(self._target), self._changing:
            while rest:
                rest = rest[self._file.write(rest) :]
        self._hash.update(chunk)
        self.size += len(chunk)
        is_larger = self.size > self._greatest_size
        self._greatest_size = max(self.size, self._greatest_size)
        return is_larger

    def restart(self) -> None:
        """Empty the file."""
        with disk_errors(self._target), self._changing:
            self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0

    def publish(self) -> None:
        """Rename the file to the target. Raises ContentError if it has another hash."""
        with disk_errors(self._target):
            os.fsync(self._file.fileno())
            if (actual := self._hash.hexdigest()) != self.sha256:
                raise ContentError(f"the downloaded file has the SHA-256 {actual}, the run recorded {self.sha256}")
            if CLOSES_FIRST:
                self._file.close()
            self.path.replace(self._target)
            self._file.close()  # and with it the lock, so that no other download gets a file that is not partial

    def discard(self) -> None:
        """Delete the file."""
        with disk_errors(self._target):
            if CLOSES_FIRST:
                self._file.close()
            self.path.unlink()

    def close(self) -> None:
        """Close the file and keep it for a later download."""
        with self._changing:
            self._file.close()


def _locked_file(stem: str, folder: Path) -> tuple[Path, io.FileIO]:
    """Open the first partial file that no other download has locked, and return its path and file."""
    for number in itertools.count():
        path = folder / (f"{stem}.{number}.part" if number else f"{stem}.part")
        while True:
            file = path.open("ab+", buffering=0)
            if not _lock(file):
                file.close()
                break  # another download has it
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    return path, file
            file.close()  # renamed or deleted by the download that had it, between `open` and the lock
    raise AssertionError  # the numbers do not end


def _lock(file: io.FileIO) -> bool:
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


def range_headers(partial: PartialFile, etag: str | None) -> dict[str, str]:
    """Return the headers that request the rest. A file of an earlier download has no ETag; its hash decides."""
    if not partial.size:
        return {}
    headers = {"Range": f"bytes={partial.size}-"}
    return {**headers, "If-Range": etag} if etag and not etag.startswith("W/") else headers


def must_restart(status: int, headers: Mapping[str, str], partial: PartialFile) -> bool:
    """Return whether an answer has the whole content and not the rest of it. Raises ContentError and LostError."""
    digest = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", headers.get("repr-digest", ""))
    if digest and base64.b64decode(digest[1]).hex() != partial.sha256:
        raise ContentError(f"the service sends other bytes than the run recorded, {partial.sha256}")
    if status == 206:
        first = re.match(r"bytes (\d+)-", headers.get("content-range", ""))
        if first is None or int(first[1]) != partial.size:
            raise LostError(f"requested bytes from {partial.size}, got {headers.get('content-range')!r}")
        return False
    return partial.size > 0
