# Made of ../asynchronous/transfer.py by tools/blocking_client.py: change that file, then run `make format`.
"""Download of one file: resumed after an interruption, checked by SHA-256, visible only when complete."""

from collections.abc import Callable, Iterator
from pathlib import Path

from longshore.client.blocking.concurrency import in_thread, sleep
from longshore.client.blocking.transport import Transport
from longshore.client.errors import DownloadError, LostError, NotSentError
from longshore.client.model import RunFile
from longshore.client.parts import OnBytes, Part, ReplacedError, must_restart, range_headers
from longshore.client.requests import Answer, Request
from longshore.client.retry import TRANSIENT_STATUSES, RetryBudget, retry_after

# Amazon's store asks for a retry of its InternalError:
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
DOWNLOAD_TRANSIENT_STATUSES = TRANSIENT_STATUSES | {500}


def fetch_file(
    transport: Transport,
    path: Path,
    file: RunFile,
    address: Callable[[], str],
    on_bytes: OnBytes | None,
) -> None:
    """Download one file to a path, where it appears once it has the recorded SHA-256.

    `address`: returns another address of the file, for when its own has expired. Raises ReplacedError, DownloadError
    if the bytes have another SHA-256, and the errors of requests.
    """
    while True:
        part: Part = in_thread(Part, path, file.sha256, file.bytes)
        is_resumed = part.size > 0
        try:
            _fetch(transport, part, file.url, address, on_bytes)
            in_thread(part.publish)
            return
        except ReplacedError:
            part.discard()
            raise
        except DownloadError:
            if not is_resumed:  # a resumed part may have been damaged before; it is deleted, and downloaded anew
                raise
        finally:
            part.close()


def _fetch(transport: Transport, part: Part, url: str, address: Callable[[], str], on_bytes: OnBytes | None) -> None:
    """Download the rest of the part. Failures use the retry budget; received bytes reset it.

    `url`: an address of the content. `address`: returns another one, for when that has expired.
    """
    budget = transport.budget()
    etag: str | None = None
    is_fresh = False
    has_expired = False
    while part.size < part.total:
        if has_expired:
            url, has_expired, is_fresh = address(), False, True
        delay = 0.0
        try:
            request = Request(url=url, headers=range_headers(part, etag))
            with transport.stream(request) as (answer, chunks):
                if answer.status < 300:
                    etag, is_fresh = answer.headers.get("etag"), False
                    _receive(part, (answer, chunks), budget, on_bytes)
                    continue
            if answer.status == 416:  # the content is shorter than the part
                raise ReplacedError
            failure, delay = answer.error(), retry_after(answer.headers)
            # An expired address is 403, in Google's store and for Amazon's session credentials 400.
            if answer.status == 403 or (answer.status == 400 and not is_fresh):
                has_expired = True
            elif answer.status not in DOWNLOAD_TRANSIENT_STATUSES:
                raise failure
        except (NotSentError, LostError) as error:
            failure = error
        is_fresh = False
        sleep(budget.pause(failure, delay))


def _receive(
    part: Part, streamed: tuple[Answer, Iterator[bytes]], budget: RetryBudget, on_bytes: OnBytes | None
) -> None:
    """Write the bytes of an answer. Raises ReplacedError, and LostError where it ends too early."""
    answer, chunks = streamed
    if must_restart(answer.status, answer.headers, part):
        in_thread(part.restart)
    for chunk in chunks:
        in_thread(part.write, chunk)
        budget.reset()
        if on_bytes:
            on_bytes(part.size, part.total)
    if part.size < part.total:
        raise LostError(f"the download ended at {part.size} of {part.total} bytes")
