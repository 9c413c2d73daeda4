"""Downloads of results: of one file or of many, with their manifests and signatures. `transfer` brings one file."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from longshore.client.errors import ClientError, DownloadError
from longshore.client.model import Run, RunFile
from longshore.client.retry import expect, send
from longshore.client.steps import Call, Request, Steps
from longshore.client.transfer import Content, OnBytes, Part, ReplacedError, fetch
from longshore.client.wait import ServiceState

MAX_REPLACEMENTS = 3  # of a result by a newer run during one download
MANIFEST = ".manifest.json"
SIGNATURE = ".jws"
FILES_PAGE = 1000


class DownloadOptions(msgspec.Struct, frozen=True):
    """The options of one download."""

    on_bytes: OnBytes | None = None
    run: int | None = None
    """The run whose result it is; None for the newest data."""
    manifest: bool = False
    """Whether manifest and signature are written beside a result of one file too."""


class _Address(msgspec.Struct):
    url: str


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


def download(known: ServiceState, id: int, path: Path, options: DownloadOptions) -> Steps[Path]:
    """Download the result of a task to a path, or into a folder under its own name."""
    of_run = f"/tasks/{id}" if options.run is None else f"/tasks/{id}/runs/{options.run}"
    for _ in range(MAX_REPLACEMENTS):
        yield from _address(known, of_run)  # first: if there is no result, its problem says why
        run = yield from _run(known, id, options.run or "latest")
        if run.sha256 is None or run.result is None:
            raise DownloadError(f"run {run.run} of task {id} has no file")
        if has_files(run):
            return (yield from download_files(known, id, run, path, options.on_bytes))
        into = path / Path(run.result).name if path.is_dir() else path
        part: Part = yield Call(partial(Part, into, run.sha256))
        resumed = part.size > 0
        try:
            content = Content(run.sha256, run.bytes, partial(_address, known, of_run))
            yield from fetch(known, part, content, options.on_bytes)
            yield Call(partial(part.publish, into, run.sha256))
        except ReplacedError:
            part.path.unlink()
        except DownloadError:
            if not resumed:  # a resumed part may have been damaged before; download it anew
                raise
        else:
            if options.manifest:
                manifest = yield from manifest_of(known, id, run.run)
                yield from _write_signed(known, id, run.run, into.with_name(into.name + MANIFEST), manifest)
            return into
        finally:
            part.close()
    raise DownloadError(f"newer runs replaced the result of task {id} {MAX_REPLACEMENTS} times during the download")


def manifest_of(known: ServiceState, id: int, run: int) -> Steps[bytes]:
    """Return the bytes of the manifest of a run."""
    return (yield from _bytes_of(known, f"/tasks/{id}/runs/{run}/manifest"))


def signature_of(known: ServiceState, id: int, run: int) -> Steps[str]:
    """Return the signature of the manifest of a run."""
    return (yield from _bytes_of(known, f"/tasks/{id}/runs/{run}/manifest.jws")).decode()


def _bytes_of(known: ServiceState, url: str) -> Steps[bytes]:
    answer = yield from send(Request(method="GET", url=url), known.budget())
    if answer.status >= 300:
        raise answer.error()
    return answer.body


def _write_signed(known: ServiceState, id: int, run: int, path: Path, manifest: bytes) -> Steps[None]:
    """Write a manifest and, before it, its signature."""
    signature = yield from signature_of(known, id, run)
    yield Call(partial(path.with_name(path.name + SIGNATURE).write_text, signature))
    yield Call(partial(path.write_bytes, manifest))


def list_files(
    known: ServiceState, id: int, run: int, limit: int = FILES_PAGE, offset: int = 0
) -> Steps[list[RunFile]]:
    """Return a page of the files of a run."""
    request = Request(method="GET", url=f"/tasks/{id}/runs/{run}/files", params={"limit": limit, "offset": offset})
    return expect((yield from send(request, known.budget())), list[RunFile])


def download_files(known: ServiceState, id: int, run: Run, folder: Path, on_bytes: OnBytes | None) -> Steps[Path]:
    """Download all files of a run into a folder, its signature, and its manifest last. Return the manifest's path.

    A file that is there already with the recorded SHA-256 is kept, so a second call goes on where the first one ended.
    """
    assert run.result is not None
    if not folder.is_dir():
        raise DownloadError(f"the result of task {id} has many files; give a folder that exists, not {str(folder)!r}")
    manifest = yield from manifest_of(known, id, run.run)
    if hashlib.sha256(manifest).hexdigest() != run.sha256:
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
    yield from _write_signed(known, id, run.run, path, manifest)
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
        content = Content(file.sha256, file.bytes, address)
        yield from fetch(known, part, content, on_bytes, file.url)
        yield Call(partial(part.publish, to, file.sha256))
    except ReplacedError:
        raise DownloadError(f"{file.path} has other bytes than the run recorded") from None
    finally:
        part.close()


def _is_complete(path: Path, file: RunFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    with path.open("rb") as existing:
        return hashlib.file_digest(existing, "sha256").hexdigest() == file.sha256


def _run(known: ServiceState, id: int, run: int | str) -> Steps[Run]:
    return expect((yield from send(Request(method="GET", url=f"/tasks/{id}/runs/{run}"), known.budget())), Run)


def _address(known: ServiceState, of_run: str) -> Steps[str]:
    request = Request(method="GET", url=f"{of_run}/download_url")
    return expect((yield from send(request, known.budget())), _Address).url
