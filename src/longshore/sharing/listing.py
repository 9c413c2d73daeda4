"""The lines of a version's files, page by page: a version may have 10,000 files, and none waits for the last one."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

import structlog

from longshore.access.token_auth import TokenAuth
from longshore.access.tokens import Caller, UnauthorizedError
from longshore.api.addresses import Addresses, RunFiles
from longshore.database.connect import Pool
from longshore.results.links import KERNEL_MARK
from longshore.sharing import protocol
from longshore.sharing.protocol import Capabilities, FileUrl
from longshore.sharing.query import TableQuery
from longshore.tasks import shared_tables
from longshore.tasks.shared_tables import TableFile, Version

log = structlog.get_logger()

PAGE = 1000  # files of a statement


class Listing:
    """The answer about the files of a version."""

    def __init__(self, pool: Pool, version: Version, wanted: Capabilities, query: TableQuery) -> None:
        self._pool = pool
        self._version = version
        self._wanted = wanted
        self._names_version = query.names_version
        self._limit = query.limit_hint
        self._refreshes = bool(query.include_refresh_token)

    @property
    def run_files(self) -> RunFiles:
        """The run, as its addresses are signed."""
        version = self._version
        what = f"run {version.run} of task {version.task}"
        return RunFiles(what, version.task, version.run, version.location, version.reads)

    async def lines(self, signing: Addresses | None) -> AsyncIterator[bytes]:
        """Yield the lines of the answer: all files, or as many of the first ones as have the wanted rows.

        `signing`: None where no file is wanted.
        """
        yield protocol.lines(protocol.head_lines(self._version, self._wanted, names_version=self._names_version))
        if signing is not None:
            async for files in self._pages():
                yield await asyncio.to_thread(self._file_lines, signing, files)
        if self._wanted.end_action or self._refreshes:
            expires = None if signing is None else signing.expires
            yield protocol.lines([protocol.end_line(self._version, expires, refreshes=self._refreshes)])

    async def _pages(self) -> AsyncIterator[list[TableFile]]:
        offset, left = 0, self._limit
        while True:
            page = await shared_tables.files(self._pool, self._version.task, self._version.run, offset, PAGE)
            if not page:
                return
            shown = page
            if left is not None:
                shown, left = _files_for(page, left)
            yield shown
            offset += len(page)
            if len(page) < PAGE or left == 0:
                return

    def _file_lines(self, signing: Addresses, files: Sequence[TableFile]) -> bytes:
        if self._wanted.format == "delta":  # the Python client fails on a table whose files have no row
            files = [file for file in files if file.rows]
        folder = self._version.location.rpartition("/")[0]
        locations = [f"{folder}/{file.path}" for file in files]
        urls = signing.sign(locations)
        if self._wanted.format == "delta" and not signing.presigned:
            urls = [f"{url}&{KERNEL_MARK}" for url in urls]
        return protocol.lines(
            protocol.file_line(
                self._version,
                FileUrl(file, _id(location, file), url, signing.expires),
                self._wanted,
                names_version=self._names_version,
            )
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
    except Exception as error:
        log.error("list of files broken off", exc_info=error)
        yield protocol.lines([protocol.ERROR_LINE])


def _files_for(files: list[TableFile], rows: int) -> tuple[list[TableFile], int]:
    """Return the first files that have so many rows together, and the rows that are still wanted."""
    for number, file in enumerate(files, 1):
        rows = max(0, rows - file.rows)
        if rows == 0:
            return files[:number], 0
    return files, rows


def _id(location: str, file: TableFile) -> str:
    """Return the id of a file, the same in every answer: of its place and its bytes."""
    return hashlib.sha256(location.encode() + file.sha256).hexdigest()[:32]
