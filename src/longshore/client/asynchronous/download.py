"""Downloads of results: of one file or of many, with their manifests and signatures."""

import hashlib
from functools import partial
from pathlib import Path

from longshore.client.asynchronous.concurrency import in_thread
from longshore.client.asynchronous.transfer import fetch_file
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.errors import DownloadError
from longshore.client.model import Run, RunFile
from longshore.client.parts import OnBytes, ReplacedError
from longshore.client.requests import Request
from longshore.client.result_files import (
    FILES_PAGE,
    MANIFEST,
    MAX_REPLACEMENTS,
    SIGNATURE,
    Address,
    DownloadOptions,
    file_id,
    has_many_files,
    is_complete,
    path_of,
    refuse_irregular,
    refuse_same_file,
)  # fmt: skip


async def download(transport: AsyncTransport, id: int, path: Path, options: DownloadOptions) -> Path:
    """Download the result of a task to a path, or into a folder under its own name."""
    of_run = f"/tasks/{id}" if options.run is None else f"/tasks/{id}/runs/{options.run}"
    for _ in range(MAX_REPLACEMENTS):
        url = await _download_url(transport, of_run)  # first: if there is no result, its problem says why
        run = await _run(transport, id, options.run or "latest")
        if run.sha256 is None or run.result is None:
            raise DownloadError(f"run {run.run} of task {id} has no file")
        if has_many_files(run):
            return await _download_files(transport, id, run, path, options)
        name = Path(run.result).name
        into = path / name if path.is_dir() else path
        manifest_path = into.with_name(into.name + MANIFEST)
        beside = (manifest_path, manifest_path.with_name(manifest_path.name + SIGNATURE)) if options.manifest else ()
        await in_thread(options.check_targets, into, *beside)
        file = RunFile(path=name, index="", rows=run.rows, bytes=run.bytes, sha256=run.sha256, url=url)
        try:
            await fetch_file(transport, into, file, partial(_download_url, transport, of_run), options.on_bytes)
        except ReplacedError:
            continue
        if options.manifest:
            await _write_signed(transport, id, run.run, manifest_path, await manifest_of(transport, id, run.run))
        return into
    raise DownloadError(f"newer runs replaced the result of task {id} {MAX_REPLACEMENTS} times during the download")


async def manifest_of(transport: AsyncTransport, id: int, run: int) -> bytes:
    """Return the bytes of the manifest of a run."""
    return await _bytes_of(transport, f"/tasks/{id}/runs/{run}/manifest")


async def signature_of(transport: AsyncTransport, id: int, run: int) -> str:
    """Return the signature of the manifest of a run."""
    return (await _bytes_of(transport, f"/tasks/{id}/runs/{run}/manifest.jws")).decode()


async def _bytes_of(transport: AsyncTransport, url: str) -> bytes:
    return (await transport.send(Request(url=url))).check().body


async def _write_signed(transport: AsyncTransport, id: int, run: int, path: Path, manifest: bytes) -> None:
    """Write a manifest and, before it, its signature."""
    signature = await signature_of(transport, id, run)
    await in_thread(path.with_name(path.name + SIGNATURE).write_text, signature)
    await in_thread(path.write_bytes, manifest)


async def list_files(
    transport: AsyncTransport, id: int, run: int, limit: int = FILES_PAGE, offset: int = 0
) -> list[RunFile]:
    """Return a page of the files of a run."""
    request = Request(url=f"/tasks/{id}/runs/{run}/files", params={"limit": limit, "offset": offset})
    return (await transport.send(request)).expect(list[RunFile])


async def _download_files(transport: AsyncTransport, id: int, run: Run, folder: Path, options: DownloadOptions) -> Path:
    """Download all files of a run into a folder, its signature, and its manifest last. Return the manifest's path.

    A file that is there already with the recorded SHA-256 is kept, so a second call goes on where the first one ended.
    """
    assert run.result is not None
    if not folder.is_dir():
        raise DownloadError(f"the result of task {id} has many files; give a folder that exists, not {str(folder)!r}")
    path = folder / Path(run.result).name
    await in_thread(options.check_targets, path)
    await in_thread(refuse_irregular, path.with_name(path.name + SIGNATURE))
    manifest = await manifest_of(transport, id, run.run)
    if hashlib.sha256(manifest).hexdigest() != run.sha256:
        raise DownloadError(f"the manifest of run {run.run} of task {id} is not the one that the run recorded")
    done = number = 0
    written: set[tuple[int, int]] = set()
    while page := (await list_files(transport, id, run.run, offset=number)):
        for file in page:
            to = path_of(folder, file)
            await in_thread(refuse_same_file, to, written)
            if not await in_thread(is_complete, to, file):
                await in_thread(options.check_targets, to)
                await in_thread(to.parent.mkdir, parents=True, exist_ok=True)
                address = partial(_file_url, transport, id, run.run, number)
                on_bytes = None if options.on_bytes is None else _following(options.on_bytes, done, run.bytes)
                try:
                    await fetch_file(transport, to, file, address, on_bytes)
                except ReplacedError:
                    raise DownloadError(f"{file.path} has other bytes than the run recorded") from None
            written.add(await in_thread(file_id, to))
            done += file.bytes
            number += 1
        if len(page) < FILES_PAGE:
            break
    await _write_signed(transport, id, run.run, path, manifest)
    return path


def _following(on_bytes: OnBytes, before: int, total: int) -> OnBytes:
    """Return the function to call with the bytes of one file, after `before` bytes of others."""
    return lambda size, _: on_bytes(before + size, total)


async def _file_url(transport: AsyncTransport, id: int, run: int, number: int) -> str:
    page = await list_files(transport, id, run, limit=1, offset=number)
    return page[0].url


async def _run(transport: AsyncTransport, id: int, run: int | str) -> Run:
    return (await transport.send(Request(url=f"/tasks/{id}/runs/{run}"))).expect(Run)


async def _download_url(transport: AsyncTransport, of_run: str) -> str:
    return (await transport.send(Request(url=f"{of_run}/download_url"))).expect(Address).url
