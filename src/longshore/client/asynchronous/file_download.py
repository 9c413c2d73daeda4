"""Download of one file: resumed after an interruption, checked by SHA-256, visible only when complete."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from longshore.client.asynchronous.concurrency import in_thread, sleep
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.errors import LostError, NotSentError
from longshore.client.model import RunFile
from longshore.client.partial_file import ContentError, OnBytes, PartialFile, must_restart, range_headers
from longshore.client.requests import Answer, Request
from longshore.client.retry import TRANSIENT_STATUSES, RetryBudget, retry_after

CHUNK_BYTES = 1 << 18  # that are written at once
# Amazon's store asks for a retry of its InternalError:
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
DOWNLOAD_TRANSIENT_STATUSES = TRANSIENT_STATUSES | {500}


async def fetch_file(
    transport: AsyncTransport,
    path: Path,
    file: RunFile,
    address: Callable[[], Awaitable[str]],
    on_bytes: OnBytes | None,
) -> None:
    """Download one file to a path, where it appears once it has the recorded SHA-256.

    `address`: returns another address of the file, for when its own has expired. Raises DownloadError if the bytes have
    another SHA-256 or the disk fails, and the errors of requests.
    """
    while True:
        partial: PartialFile = await in_thread(PartialFile, path, file.sha256, file.bytes)
        is_resumed = partial.size > 0
        try:
            await _fetch(transport, partial, file.url, address, on_bytes)
            await in_thread(partial.publish)
            return
        except ContentError:
            await in_thread(partial.discard)
            if not is_resumed:  # a resumed file may have been damaged before, and is downloaded anew
                raise
        finally:
            partial.close()


async def _fetch(
    transport: AsyncTransport,
    partial: PartialFile,
    url: str,
    address: Callable[[], Awaitable[str]],
    on_bytes: OnBytes | None,
) -> None:
    """Download the rest of a partial file. Failures use the retry budget; bytes that were not received before reset it.

    `url`: an address of the content. `address`: returns another one, for when that has expired.
    """
    budget = transport.budget()
    etag: str | None = None
    address_is_new = False
    has_expired = False
    while partial.size < partial.total:
        if has_expired:
            url, has_expired, address_is_new = await address(), False, True
        delay = 0.0
        try:
            request = Request(url=url, headers=range_headers(partial, etag))
            async with transport.stream(request, CHUNK_BYTES) as (answer, chunks):
                if answer.status < 300:
                    etag, address_is_new = answer.headers.get("etag"), False
                    await _receive(partial, answer, chunks, budget, on_bytes)
                    continue
            if answer.status == 416:
                raise ContentError(f"the content is shorter than the {partial.total} bytes that the run recorded")
            failure, delay = answer.error(), retry_after(answer.headers)
            # An expired address is 403, in Google's store and for Amazon's session credentials 400.
            if answer.status == 403 or (answer.status == 400 and not address_is_new):
                has_expired = True
                if not address_is_new:
                    continue
            elif answer.status not in DOWNLOAD_TRANSIENT_STATUSES:
                raise failure
        except (NotSentError, LostError) as error:
            failure = error
        address_is_new = False
        await sleep(budget.pause(failure, delay))


async def _receive(
    partial: PartialFile,
    answer: Answer,
    chunks: AsyncIterator[bytes],
    budget: RetryBudget,
    on_bytes: OnBytes | None,
) -> None:
    """Write the bytes of an answer. Raises ContentError, and LostError where it ends too early."""
    if must_restart(answer.status, answer.headers, partial):
        await in_thread(partial.restart)
    async for chunk in chunks:
        if await in_thread(partial.write, chunk):
            budget.reset()
        if on_bytes:
            on_bytes(partial.size, partial.total)
    if partial.size < partial.total:
        raise LostError(f"the download ended at {partial.size} of {partial.total} bytes")
