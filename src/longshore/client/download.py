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

from longshore.client.errors import ClientError, DownloadError
from longshore.client.model import Run, RunFile
from longshore.client.retry import TRANSIENT_STATUSES, expect, retry_after, send
from longshore.client.steps import Answer, Call, Close, LostError, NotSentError, Pause, Read, Request, Steps
from longshore.client.wait import ServiceState

MAX_REPLACEMENTS = 3  # of a result by a newer run during one download
MANIFEST = ".manifest.json"
FILES_PAGE = 1000

OnBytes = Callable[[int, int], None]
"""Called with the number of bytes so far and the number in total."""


class _Address(msgspec.Struct):
    url: str


class _Content(msgspec.Struct, frozen=True):
    """The bytes to download, and the steps that return an address of them."""

    sha256: str
    bytes: int
    address: Callable[[], Steps[str]]


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


def has_files(run: Run) -> bool:
    """Return whether the result of a run is a manifest of many files."""
    return (run.result or "").endswith(MANIFEST)


class _Files(msgspec.Struct):
    """The files of a manifest, as far as reading them needs to know."""

    files: list["_Path"]


class _Path(msgspec.Struct):
    path: str
    index: str


def tables(result: Path) -> list[Path]:
    """Return the files of a downloaded result of one index. Raises ClientError for a result of several."""
    if not result.name.endswith(MANIFEST):
        return [result]
    files = msgspec.json.decode(result.read_bytes(), type=_Files).files
    if len({file.index for file in files}) > 1:
        raise ClientError("the result has several indexes, which are several tables; download and read its files")
    return [result.parent / file.path for file in files]


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
        if has_files(run):
            return (yield from download_files(known, id, run, path, on_bytes))
        into = path / Path(run.result).name if path.is_dir() else path
        part: Part = yield Call(partial(Part, into, run.sha256))
        resumed = part.size > 0
        try:
            content = _Content(run.sha256, run.bytes, partial(_address, known, id))
            yield from _fetch(known, part, content, on_bytes)
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


def list_files(
    known: ServiceState, id: int, run: int, limit: int = FILES_PAGE, offset: int = 0
) -> Steps[list[RunFile]]:
    """Return a page of the files of a run."""
    request = Request(method="GET", url=f"/tasks/{id}/runs/{run}/files", params={"limit": limit, "offset": offset})
    return expect((yield from send(request, known.budget())), list[RunFile])


def download_files(known: ServiceState, id: int, run: Run, folder: Path, on_bytes: OnBytes | None) -> Steps[Path]:
    """Download all files of a run into a folder, and its manifest last. Return the path of the manifest.

    A file that is there already with the recorded SHA-256 is kept, so a second call goes on where the first one ended.
    """
    assert run.result is not None
    if not folder.is_dir():
        raise DownloadError(f"the result of task {id} has many files; give a folder that exists, not {str(folder)!r}")
    answer = yield from send(Request(method="GET", url=f"/tasks/{id}/runs/{run.run}/manifest"), known.budget())
    if answer.status >= 300:
        raise answer.error()
    if hashlib.sha256(answer.body).hexdigest() != run.sha256:
        raise DownloadError(f"the manifest of run {run.run} of task {id} is not the one that the run recorded")
    done = number = 0
    while page := (yield from list_files(known, id, run.run, offset=number)):
        for file in page:
            progress = partial(_report_file, on_bytes, done, run.bytes) if on_bytes else None
            yield from _download_file(known, folder, file, partial(_address_of, known, id, run.run, number), progress)
            done += file.bytes
            number += 1
        if len(page) < FILES_PAGE:
            break
    path = folder / Path(run.result).name
    yield Call(partial(path.write_bytes, answer.body))
    return path


def _report_file(on_bytes: OnBytes, before: int, total: int, size: int, _: int) -> None:
    on_bytes(before + size, total)


def _address_of(known: ServiceState, id: int, run: int, number: int) -> Steps[str]:
    page = yield from list_files(known, id, run, limit=1, offset=number)
    return page[0].url


def _download_file(
    known: ServiceState, folder: Path, file: RunFile, address: Callable[[], Steps[str]], on_bytes: OnBytes | None
) -> Steps[None]:
    to = folder / file.path
    if to.is_absolute() != folder.is_absolute() or {"", ".", ".."} & set(file.path.split("/")):
        raise DownloadError(f"the service names a file outside of its folder: {file.path!r}")
    if (yield Call(partial(_is_complete, to, file))):
        return
    yield Call(partial(to.parent.mkdir, parents=True, exist_ok=True))
    part: Part = yield Call(partial(Part, to, file.sha256))
    try:
        content = _Content(file.sha256, file.bytes, address)
        yield from _fetch(known, part, content, on_bytes, file.url)
        yield Call(partial(part.publish, to, file.sha256))
    except _ReplacedError:
        raise DownloadError(f"{file.path} has other bytes than the run recorded") from None
    finally:
        part.close()


def _is_complete(path: Path, file: RunFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    with path.open("rb") as existing:
        return hashlib.file_digest(existing, "sha256").hexdigest() == file.sha256


def _latest(known: ServiceState, id: int) -> Steps[Run]:
    # The address first: if there is no result, its problem says why.
    expect((yield from send(Request(method="GET", url=f"/tasks/{id}/download_url"), known.budget())), _Address)
    return expect((yield from send(Request(method="GET", url=f"/tasks/{id}/runs/latest"), known.budget())), Run)


def _address(known: ServiceState, id: int) -> Steps[str]:
    request = Request(method="GET", url=f"/tasks/{id}/download_url")
    return expect((yield from send(request, known.budget())), _Address).url


def _fetch(
    known: ServiceState, part: Part, content: _Content, on_bytes: OnBytes | None, url: str | None = None
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


def _begin(answer: Answer, part: Part, content: _Content) -> Steps[None]:
    digest = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", answer.headers.get("repr-digest", ""))
    if digest and base64.b64decode(digest[1]).hex() != content.sha256:
        raise _ReplacedError
    if answer.status == 206:
        first = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
        if first is None or int(first[1]) != part.size:
            raise LostError(f"requested bytes from {part.size}, got {answer.headers.get('content-range')!r}")
    elif part.size:
        yield Call(part.restart)
