"""Transfer of one file: resumed after an interruption, checked by SHA-256, visible only when complete.

The part that has arrived is in `.NAME.HASH.part` beside the file. HASH is the one that the run recorded, so a later
download, also by another process, resumes a part of the same content.
"""

import base64
import hashlib
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from longshore.client.errors import DownloadError
from longshore.client.retry import TRANSIENT_STATUSES, retry_after
from longshore.client.steps import Answer, Call, Close, LostError, NotSentError, Pause, Read, Request, Steps
from longshore.client.wait import ServiceState

OnBytes = Callable[[int, int], None]
"""Called with the number of bytes so far and the number in total."""


class Content(msgspec.Struct, frozen=True):
    """The bytes to download, and the steps that return an address of them."""

    sha256: str
    bytes: int
    address: Callable[[], Steps[str]]


class ReplacedError(Exception):
    """The address has another content than the run recorded, because a newer run has ended."""


class Part:
    """The file that a download writes, and the hash of its content. Its methods block."""

    def __init__(self, path: Path, sha256: str) -> None:
        self.path = path.with_name(f".{path.name}.{sha256[:16]}.part")
        self._file = self.path.open("ab+")
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

    def publish(self, path: Path, sha256: str) -> None:
        """Rename the file to `path`. Deletes the file and raises DownloadError if it has another hash."""
        if (actual := self._hash.hexdigest()) != sha256:
            self._file.close()
            self.path.unlink()
            raise DownloadError(f"the downloaded file has the SHA-256 {actual}, the run recorded {sha256}")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(path)

    def close(self) -> None:
        """Close the file and keep it for a later download."""
        self._file.close()


def fetch(
    known: ServiceState, part: Part, content: Content, on_bytes: OnBytes | None, url: str | None = None
) -> Steps[None]:
    """Download the rest of the part. Failures use the retry budget; received bytes reset it."""
    budget = known.budget()
    etag: str | None = None
    while part.size < content.bytes:
        failure: Exception
        delay = 0.0
        if url is None:
            url = yield from content.address()
        try:
            answer: Answer = yield Request(method="GET", url=url, headers=_range(part, etag), stream=True)
            if answer.status < 300:
                etag = answer.headers.get("etag")
                yield from _begin(answer, part, content)
                while chunk := (yield Read()):
                    yield Call(partial(part.write, chunk))
                    budget.reset()
                    if on_bytes:
                        on_bytes(part.size, content.bytes)
                if part.size < content.bytes:
                    raise LostError(f"the download ended at {part.size} of {content.bytes} bytes")
                continue
            if answer.status == 416:  # the content is shorter than the part
                raise ReplacedError
            failure, delay = answer.error(), retry_after(answer.headers)
            if answer.status == 403:
                url = None  # the address has expired
            elif answer.status not in TRANSIENT_STATUSES:
                raise failure
        except (NotSentError, LostError) as error:
            failure = error
        yield Close()
        pause = budget.next_pause(delay)
        if pause is None:
            raise failure
        yield Pause(pause)


def _range(part: Part, etag: str | None) -> dict[str, str]:
    """Return the headers that request the rest. A part of an earlier download has no ETag; its hash decides."""
    if not part.size:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    return {**headers, "If-Range": etag} if etag and not etag.startswith("W/") else headers


def _begin(answer: Answer, part: Part, content: Content) -> Steps[None]:
    digest = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", answer.headers.get("repr-digest", ""))
    if digest and base64.b64decode(digest[1]).hex() != content.sha256:
        raise ReplacedError
    if answer.status == 206:
        first = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
        if first is None or int(first[1]) != part.size:
            raise LostError(f"requested bytes from {part.size}, got {answer.headers.get('content-range')!r}")
    elif part.size:
        yield Call(part.restart)
