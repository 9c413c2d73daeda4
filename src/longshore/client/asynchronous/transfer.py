"""Transfer of one file: resumed after an interruption, checked by SHA-256, visible only when complete."""

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from longshore.client.answers import Answer, Request
from longshore.client.asynchronous.concurrency import in_thread, sleep
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.errors import LostError, NotSentError
from longshore.client.parts import OnBytes, Part, ReplacedError, must_restart, range_headers
from longshore.client.retry import TRANSIENT_STATUSES, RetryBudget, retry_after

# Amazon's store asks for a retry of its InternalError:
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
DOWNLOAD_TRANSIENT_STATUSES = TRANSIENT_STATUSES | {500}


class AsyncContent(msgspec.Struct, frozen=True):
    """The bytes to download, and the function that returns an address of them."""

    sha256: str
    bytes: int
    address: Callable[[], Awaitable[str]]


async def fetch(
    transport: AsyncTransport, part: Part, content: AsyncContent, on_bytes: OnBytes | None, url: str | None = None
) -> None:
    """Download the rest of the part. Failures use the retry budget; received bytes reset it."""
    budget = transport.budget()
    etag: str | None = None
    is_fresh = False
    while part.size < content.bytes:
        if url is None:
            url, is_fresh = await content.address(), True
        delay = 0.0
        try:
            request = Request(method="GET", url=url, headers=range_headers(part, etag))
            async with transport.stream(request) as (answer, chunks):
                if answer.status < 300:
                    etag, is_fresh = answer.headers.get("etag"), False
                    await _receive(part, content, (answer, chunks), budget, on_bytes)
                    continue
            if answer.status == 416:  # the content is shorter than the part
                raise ReplacedError
            failure, delay = answer.error(), retry_after(answer.headers)
            # An expired address is 403, in Google's store and for Amazon's session credentials 400.
            if answer.status == 403 or (answer.status == 400 and not is_fresh):
                url = None
            elif answer.status not in DOWNLOAD_TRANSIENT_STATUSES:
                raise failure
        except (NotSentError, LostError) as error:
            failure = error
        is_fresh = False
        await sleep(budget.pause(failure, delay))


async def _receive(
    part: Part,
    content: AsyncContent,
    streamed: tuple[Answer, AsyncIterator[bytes]],
    budget: RetryBudget,
    on_bytes: OnBytes | None,
) -> None:
    """Write the bytes of an answer. Raises ReplacedError, and LostError where it ends too early."""
    answer, chunks = streamed
    if must_restart(answer.status, answer.headers, part, content.sha256):
        await in_thread(part.restart)
    async for chunk in chunks:
        await in_thread(part.write, chunk)
        budget.reset()
        if on_bytes:
            on_bytes(part.size, content.bytes)
    if part.size < content.bytes:
        raise LostError(f"the download ended at {part.size} of {content.bytes} bytes")
