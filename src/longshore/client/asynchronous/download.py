"""Downloads of results: of one file or of many, with their manifests and signatures."""

import hashlib
from functools import partial
from pathlib import Path

from longshore.client.asynchronous.concurrency import in_thread
from longshore.client.asynchronous.file_download import fetch_file
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.download_paths import (
    FILES_PAGE,
    MANIFEST,
    SIGNATURE,
    DownloadOptions,
    DownloadUrl,
    has_many_files,
    inode_of,
    must_download,
    path_of,
    refuse_irregular,
    write_manifest,
)  # fmt: skip
from longshore.client.errors import DownloadError
from longshore.client.model import Run, RunFile, TaskData
from longshore.client.partial_file import OnBytes
from longshore.client.requests import Request, path_step


async def download(transport: AsyncTransport, id: int, path: Path, options: DownloadOptions) -> Path:
    """Download the result of a task to a path, or into a folder under its own name."""
    run = await _run(transport, id, options.run)
    address = partial(_download_url, transport, f"/tasks/{id}/runs/{run.run}")
    url = await address()  # if there is no result, its problem says why
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
    await fetch_file(transport, into, file, address, options.on_bytes)
    if options.manifest:
        await _write_signed(transport, id, run.run, manifest_path, await manifest_of(transport, id, run.run))
    return into


async def manifest_of(transport: AsyncTransport, id: int, run: int) -> bytes:
    """Return the bytes of the manifest of a run."""
    return await _bytes_of(transport, f"/tasks/{id}/runs/{path_step(run)}/manifest")


async def signature_of(transport: AsyncTransport, id: int, run: int) -> str:
    """Return the signature of the manifest of a run."""
    return (await _bytes_of(transport, f"/tasks/{id}/runs/{path_step(run)}/manifest.jws")).decode(errors="replace")


async def _bytes_of(transport: AsyncTransport, url: str) -> bytes:
    return (await transport.send(Request(url=url))).check().body


async def _write_signed(transport: AsyncTransport, id: int, run: int, path: Path, manifest: bytes) -> None:
    signature = await signature_of(transport, id, run)
    await in_thread(write_manifest, path, manifest, signature.encode())


async def list_files(
    transport: AsyncTransport, id: int, run: int, limit: int = FILES_PAGE, offset: int = 0
) -> list[RunFile]:
    """Return a page of the files of a run."""
    request = Request(url=f"/tasks/{id}/runs/{path_step(run)}/files", params={"limit": limit, "offset": offset})
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
            if await in_thread(must_download, to, file, written, options):
                address = partial(_file_url, transport, id, run.run, number)
                on_bytes = None if options.on_bytes is None else _following(options.on_bytes, done, run.bytes)
                await fetch_file(transport, to, file, address, on_bytes)
            written.add(await in_thread(inode_of, to))
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


async def _run(transport: AsyncTransport, id: int, number: int | None) -> Run:
    """Return a run of a task; None: the one with the newest data, of a task that has a result."""
    step = "latest" if number is None else path_step(number)
    if number is None:
        task = (await transport.send(Request(url=f"/tasks/{id}", params={"log_limit": 0}))).expect(TaskData)
        if not task.result:
            await _download_url(transport, f"/tasks/{id}")  # its problem says why
    return (await transport.send(Request(url=f"/tasks/{id}/runs/{step}"))).expect(Run)


async def _download_url(transport: AsyncTransport, of_run: str) -> str:
    return (await transport.send(Request(url=f"{of_run}/download_url"))).expect(DownloadUrl).url
