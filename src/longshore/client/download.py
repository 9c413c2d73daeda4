"""Downloading a result: goes on where it was cut off, checks the SHA-256, and shows the file whole or not at all.

What has arrived lies beside the file as `.NAME.HASH.part`. The hash is the one that the run recorded, so a later
attempt, of another process too, goes on with what is there if it is a part of the same content.
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
from longshore.client.steps import (
    PASSING,
    Answer,
    Call,
    Close,
    LostError,
    NotSentError,
    Pause,
    Read,
    Request,
    Steps,
    expect,
    retry_after,
    send,
)
from longshore.client.wait import ServiceState

REPLACED = 3  # times that a result may be replaced by a newer run while it is downloaded
RUNS = 100

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are there and those there will be."""


class _Address(msgspec.Struct):
    url: str


class _ReplacedError(Exception):
    """The address gives another content than the run recorded: a newer run has ended meanwhile."""


class Part:
    """The file that is being written, and the hash of what is in it. Its methods block."""

    def __init__(self, path: Path, sha256: str) -> None:
        self.path = path.with_name(f".{path.name}.{sha256[:16]}.part")
        self._file = self.path.open("ab+")
        self._hash = hashlib.sha256()
        self._file.seek(0)
        while chunk := self._file.read(1 << 20):
            self._hash.update(chunk)
        self.size = self._file.tell()

    def write(self, chunk: bytes) -> None:
        """Append what arrived."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget what is there."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0

    def publish(self, path: Path, sha256: str) -> None:
        """Give the file its name. Raises DownloadError, and forgets the file, where the hash is another."""
        if (found := self._hash.hexdigest()) != sha256:
            self._file.close()
            self.path.unlink()
            raise DownloadError(f"what arrived has the SHA-256 {found}, the run recorded {sha256}")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(path)

    def close(self) -> None:
        """Leave what is there for a later attempt."""
        self._file.close()


def destination(path: str | Path) -> Path:
    """Return where to download to. Raises DownloadError where the folder (`out/`, or that of the file) is missing."""
    to = Path(path)
    folder = to if str(path).endswith(("/", os.sep)) or to.is_dir() else to.parent
    if not folder.is_dir():
        raise DownloadError(f"there is no folder {str(folder)!r} to download to; make it first")
    return to


def download(known: ServiceState, id: int, path: Path, on_bytes: OnBytes | None) -> Steps[Path]:
    """Fetch the result of a task to a path, or into a folder under its own name."""
    for _ in range(REPLACED):
        run = yield from _last_done(known, id)
        if run.sha256 is None or run.result is None:
            raise DownloadError(f"run {run.run} of task {id} left no file")
        into = path / Path(run.result).name if path.is_dir() else path
        part: Part = yield Call(partial(Part, into, run.sha256))
        resumed = part.size > 0
        try:
            yield from _fetch(known, id, part, run, on_bytes)
            yield Call(partial(part.publish, into, run.sha256))
        except _ReplacedError:
            part.path.unlink()
        except DownloadError:
            if not resumed:  # else what was there may have been spoilt
                raise
        else:
            return into
        finally:
            part.close()
    raise DownloadError(f"the result of task {id} was replaced again and again while it was downloaded")


def _last_done(known: ServiceState, id: int) -> Steps[Run]:
    # The address first: it says whether there is a result, and why not.
    expect((yield from send(Request(method="GET", url=f"/tasks/{id}/download_url"), known.patience())), _Address)
    request = Request(method="GET", url=f"/tasks/{id}/runs", params={"limit": RUNS})
    for run in expect((yield from send(request, known.patience())), list[Run]):
        if run.state == "DONE":
            return run
    raise DownloadError(f"none of the last {RUNS} runs of task {id} is DONE")


def _fetch(known: ServiceState, id: int, part: Part, run: Run, on_bytes: OnBytes | None) -> Steps[None]:
    """Fill the part. Failures may follow each other as long as the client's patience lasts; bytes renew it."""
    patience = known.patience()
    etag: str | None = None
    url: str | None = None
    while part.size < run.bytes:
        failure: Exception
        asked = 0.0
        if url is None:
            request = Request(method="GET", url=f"/tasks/{id}/download_url")
            url = expect((yield from send(request, known.patience())), _Address).url
        try:
            answer: Answer = yield Request(method="GET", url=url, headers=_range(part, etag), stream=True)
            if answer.status < 300:
                etag = answer.headers.get("etag")
                yield from _begin(answer, part, run)
                while chunk := (yield Read()):
                    yield Call(partial(part.write, chunk))
                    patience.renew()
                    if on_bytes:
                        on_bytes(part.size, run.bytes)
                if part.size < run.bytes:
                    raise LostError(f"the download ended at {part.size} of {run.bytes} bytes")
                continue
            if answer.status == 416:  # shorter than what is there
                raise _ReplacedError
            failure, asked = answer.error(), retry_after(answer.headers)
            if answer.status == 403:
                url = None  # its hour is over
            elif answer.status not in PASSING:
                raise failure
        except (NotSentError, LostError) as error:
            failure = error
        yield Close()
        pause = patience.pause(asked)
        if pause is None:
            raise failure
        yield Pause(pause)


def _range(part: Part, etag: str | None) -> dict[str, str]:
    """Ask for the rest. What was there before the first answer has no ETag to name; the hash decides in the end."""
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
            raise LostError(f"asked for bytes from {part.size}, got {answer.headers.get('content-range')!r}")
    elif part.size:
        yield Call(part.restart)
