"""Downloads of results: resumed after an interruption, checked by SHA-256, visible only when complete.

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
from longshore.client.model import Run
from longshore.client.retry import TRANSIENT_STATUSES, expect, retry_after, send
from longshore.client.steps import Answer, Call, Close, LostError, NotSentError, Pause, Read, Request, Steps
from longshore.client.wait import ServiceState

MAX_REPLACEMENTS = 3  # of a result by a newer run during one download

OnBytes = Callable[[int, int], None]
"""Called with the number of bytes so far and the number in total."""


class _Address(msgspec.Struct):
    url: str


class _ReplacedError(Exception):
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


def destination(path: str | Path) -> Path:
    """Return the path to download to. Raises DownloadError if its folder (`out/`, or the file's) does not exist."""
    to = Path(path)
    folder = to if str(path).endswith(("/", os.sep)) or to.is_dir() else to.parent
    if not folder.is_dir():
        raise DownloadError(f"the folder {str(folder)!r} does not exist; make it first")
    return to


def download(known: ServiceState, id: int, path: Path, on_bytes: OnBytes | None) -> Steps[Path]:
    """Download the result of a task to a path, or into a folder under its own name."""
    for _ in range(MAX_REPLACEMENTS):
        run = yield from _latest(known, id)
        if run.sha256 is None or run.result is None:
            raise DownloadError(f"run {run.run} of task {id} has no file")
        into = path / Path(run.result).name if path.is_dir() else path
        part: Part = yield Call(partial(Part, into, run.sha256))
        resumed = part.size > 0
        try:
            yield from _fetch(known, id, part, run, on_bytes)
            yield Call(partial(part.publish, into, run.sha256))
        except _ReplacedError:
            part.path.unlink()
        except DownloadError:
            if not resumed:  # a resumed part may have been damaged before; download it anew
                raise
        else:
            return into
        finally:
            part.close()
    raise DownloadError(f"newer runs replaced the result of task {id} {MAX_REPLACEMENTS} times during the download")


def _latest(known: ServiceState, id: int) -> Steps[Run]:
    # The address first: if there is no result, its problem says why.
    expect((yield from send(Request(method="GET", url=f"/tasks/{id}/download_url"), known.budget())), _Address)
    return expect((yield from send(Request(method="GET", url=f"/tasks/{id}/runs/latest"), known.budget())), Run)


def _fetch(known: ServiceState, id: int, part: Part, run: Run, on_bytes: OnBytes | None) -> Steps[None]:
    """Download the rest of the part. Failures use the retry budget; received bytes reset it."""
    budget = known.budget()
    etag: str | None = None
    url: str | None = None
    while part.size < run.bytes:
        failure: Exception
        delay = 0.0
        if url is None:
            request = Request(method="GET", url=f"/tasks/{id}/download_url")
            url = expect((yield from send(request, known.budget())), _Address).url
        try:
            answer: Answer = yield Request(method="GET", url=url, headers=_range(part, etag), stream=True)
            if answer.status < 300:
                etag = answer.headers.get("etag")
                yield from _begin(answer, part, run)
                while chunk := (yield Read()):
                    yield Call(partial(part.write, chunk))
                    budget.reset()
                    if on_bytes:
                        on_bytes(part.size, run.bytes)
                if part.size < run.bytes:
                    raise LostError(f"the download ended at {part.size} of {run.bytes} bytes")
                continue
            if answer.status == 416:  # the content is shorter than the part
                raise _ReplacedError
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


def _begin(answer: Answer, part: Part, run: Run) -> Steps[None]:
    digest = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", answer.headers.get("repr-digest", ""))
    if digest and base64.b64decode(digest[1]).hex() != run.sha256:
        raise _ReplacedError
    if answer.status == 206:
        first = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
        if first is None or int(first[1]) != part.size:
            raise LostError(f"requested bytes from {part.size}, got {answer.headers.get('content-range')!r}")
    elif part.size:
        yield Call(part.restart)
