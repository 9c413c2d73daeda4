"""The lines of a version's files, page by page: a version may have 10,000 files, and none waits for the last one."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

import structlog

from longshore.access.token_auth import TokenAuth
from longshore.access.tokens import Caller, UnauthorizedError
from longshore.api.download_urls import DELTA_KERNEL_PARAMETER, UrlSigner
from longshore.api.problems import problem
from longshore.database.connect import Pool
from longshore.errors import ProblemError
from longshore.sharing import protocol
from longshore.sharing.protocol import VersionAnswer
from longshore.sharing.query import TableQuery
from longshore.tasks import shared_tables
from longshore.tasks.shared_tables import TableFile, TableVersion

log = structlog.get_logger()

PAGE_FILES = 1000  # that one statement reads


async def all_lines(
    pool: Pool, answer: VersionAnswer, query: TableQuery, signer: UrlSigner | None
) -> AsyncIterator[bytes]:
    """Yield the lines of an answer: all files, or as many of the first ones as have the rows that the query wants.

    `signer`: None where no file is wanted.
    """
    yield protocol.lines(answer.head())
    if signer is not None:
        async for files in _pages(pool, answer.version, query.limit_hint):
            yield await asyncio.to_thread(_file_lines, answer, signer, files)
    if answer.capabilities.end_action or query.include_refresh_token:
        expires = None if signer is None else signer.expires
        yield protocol.lines([answer.end(expires, refreshes=bool(query.include_refresh_token))])


async def _pages(pool: Pool, version: TableVersion, rows: int | None) -> AsyncIterator[list[TableFile]]:
    """Yield the files of a version, as many as have so many rows; None: all. Raises ProblemError if some are gone."""
    offset, count = 0, version.files or 1
    while offset < count:
        page = await shared_tables.files(pool, version.task, version.run, offset, PAGE_FILES)
        if len(page) < min(PAGE_FILES, count - offset):
            raise ProblemError("result-gone", "The version was removed while its files were listed.")
        shown = page
        if rows is not None:
            shown, rows = _files_for(page, rows)
        yield shown
        offset += len(page)
        if rows == 0:
            return


def _file_lines(answer: VersionAnswer, signer: UrlSigner, files: Sequence[TableFile]) -> bytes:
    in_delta = answer.capabilities.format == "delta"
    if in_delta:  # the Python client fails on a table whose files have no row
        files = [file for file in files if file.rows]
    folder = answer.version.location.rpartition("/")[0]
    locations = [f"{folder}/{file.path}" for file in files]
    urls = signer.sign(locations)
    if in_delta and not signer.presigned:
        urls = [f"{url}&{DELTA_KERNEL_PARAMETER}" for url in urls]
    return protocol.lines(
        answer.file(file, _file_id(location, file), url, signer.expires)
        for file, location, url in zip(files, locations, urls, strict=True)
    )


async def while_valid(
    auth: TokenAuth, authorization: str | None, caller: Caller, lines: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Yield lines as long as the token of a caller is valid: none gets addresses after it was revoked.

    Raises UnauthorizedError.
    """
    async for part in lines:
        if caller not in (await auth.callers(authorization)).values():
            raise UnauthorizedError
        yield part


async def with_error_line(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines; after an error, a last one that makes a client fail, as the status was sent long before.

    https://github.com/delta-io/delta-sharing/blob/main/PROTOCOL.md#endstreamaction
    """
    try:
        async for part in lines:
            yield part
    except ProblemError as error:
        yield protocol.lines([protocol.error_line(problem(error, "").detail)])
    except Exception as error:
        log.error("list of files broken off", exc_info=error)
        yield protocol.lines([protocol.error_line("The service failed while it listed the files. Try again.")])


def _files_for(files: list[TableFile], rows: int) -> tuple[list[TableFile], int]:
    """Return the first files that have so many rows together, and the rows that are still wanted."""
    for number, file in enumerate(files, 1):
        rows = max(0, rows - file.rows)
        if rows == 0:
            return files[:number], 0
    return files, rows


def _file_id(location: str, file: TableFile) -> str:
    """Return the id of a file, the same in every answer: of its place and its bytes."""
    return hashlib.sha256(location.encode() + file.sha256).hexdigest()[:32]
