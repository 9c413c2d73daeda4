"""Files on an SFTP server: written under a temporary name in their folder, checked, and renamed."""

import asyncio
import contextlib
import functools
import hashlib
import posixpath
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import asyncssh

from longshore.destinations.concurrency import map_concurrently
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, File
from longshore.destinations.object_place import EXISTS_ADVICE, check_path
from longshore.destinations.sftp_connection import connection_errors
from longshore.destinations.sftp_settings import SftpSettings
from longshore.results.own_thread import opened_in_thread
from longshore.validation import shortened

CHUNK_BYTES = 4 << 20  # as many requests of 256 KiB at a time as asyncssh sends; bounds the memory
REMOVALS_AT_A_TIME = 100  # of a result with 10,000 files, within `delivery_runner.DISCARD_SECONDS`
CALL_SECONDS = 120.0  # of one request, or of the requests of one chunk

T = TypeVar("T")


class FileMissingError(DestinationError):
    """There is no such file or folder."""


class NoRightError(DestinationError):
    """The user has no right to do something, or the server bounds the files of a session that are open at a time."""


class SftpPlace:
    """A FilePlace on an SFTP server."""

    files_at_a_time = 4

    def __init__(self, client: asyncssh.SFTPClient, settings: SftpSettings) -> None:
        self._client = client
        self._settings = settings
        self._base = settings.path.rstrip("/") or ("/" if settings.path else "")
        self._writing = asyncio.Semaphore(self.files_at_a_time)
        self._alone = asyncio.Lock()

    def address(self, path: str) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        port = "" if self._settings.port == 22 else f":{self._settings.port}"
        return f"sftp://{self._settings.username}@{host}{port}/{self.full(path).lstrip('/')}"

    async def write(self, path: str, file: File, write_id: str, *, overwrite: bool) -> bytes:
        write = functools.partial(self._write, path, file, write_id, overwrite=overwrite)
        try:
            async with self._writing:
                return await write()
        except NoRightError:
            # Servers that bound the transfers of a session have no other answer for one too many.
            async with self._alone, contextlib.AsyncExitStack() as stack:
                for _ in range(self.files_at_a_time):
                    await stack.enter_async_context(self._writing)
                return await write()

    async def _write(self, path: str, file: File, write_id: str, *, overwrite: bool) -> bytes:
        target, temporary = self.full(path), self._temporary(path, write_id)
        if await self._holds(target, file, overwrite=overwrite):
            await self.remove(temporary)
            return file.sha256
        await self.make_folder(posixpath.dirname(target))
        await self.send(temporary, file)
        # Before it is renamed: a file with other bytes is never seen, and programs may take the file away once it is.
        if await self._sha256(temporary) != file.sha256:
            await self.remove(temporary)
            raise DestinationUnavailableError(f"{temporary} has other bytes than were written to it")
        # Looked for once more, as some servers replace a file by the plain rename.
        if not overwrite and await self._holds(target, file, overwrite=False):
            await self.remove(temporary)
        else:
            await self._publish(temporary, target, file, overwrite=overwrite)
        return file.sha256

    async def read(self, path: str) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks(self.full(path)):
            yield chunk

    async def discard(self, path: str, write_id: str) -> None:
        await self.discard_many([path], [write_id])

    async def discard_many(self, paths: Sequence[str], write_ids: Sequence[str]) -> None:
        temporary = [self._temporary(path, write_id) for write_id in write_ids for path in paths]
        await map_concurrently(temporary, self.remove, REMOVALS_AT_A_TIME)

    def full(self, path: str) -> str:
        """Return a path as the server has it. Raises DestinationError."""
        check_path(path)
        return posixpath.join(self._base, path)

    async def make_folder(self, folder: str) -> None:
        """Make a folder with those above it, where they are missing."""
        if not folder:
            return
        with self.sftp_errors(folder, "make the folder"):
            if await self._call(self._client.isdir(folder)):
                return
            if (above := posixpath.dirname(folder)) != folder:
                await self.make_folder(above)
            try:
                await self._call(self._client.mkdir(folder))
            except asyncssh.SFTPError:
                if not await self._call(self._client.isdir(folder)):  # not made meanwhile by another delivery
                    raise

    async def _holds(self, target: str, file: File, *, overwrite: bool) -> bool:
        """Return whether a file lies there with the same bytes. Raises DestinationError for another that must stay."""
        try:
            with self.sftp_errors(target, "look for"):
                found = await self._call(self._client.stat(target))
            if found.size == file.size and await self._sha256(target) == file.sha256:
                return True
        except FileMissingError:  # a program may take it away at any time
            return False
        if not overwrite:
            raise DestinationError(f"another file lies at {target}; {EXISTS_ADVICE}")
        if not await self.can_replace(target):
            raise DestinationError(
                f"a file lies at {target}, and {self._settings.server} cannot replace it at once, as it lacks "
                "posix-rename@openssh.com; deliver each run to a path of its own"
            )
        return False

    async def can_replace(self, target: str) -> bool:
        """Return whether the server can rename one file over another."""
        try:
            # Of a file that is not there: the answer says whether there is such a request.
            await self._call(self._client.posix_rename(f"{target}.longshore-none", target))
        except asyncssh.SFTPOpUnsupported:
            return False
        except asyncssh.SFTPError:
            return True
        return True

    async def send(self, temporary: str, file: File) -> None:
        """Write a temporary file, from where the bytes that lie there already end."""
        loop = asyncio.get_running_loop()
        with self.sftp_errors(temporary, "write"):
            async with opened_in_thread(file.open) as (source, thread):
                read = functools.partial(loop.run_in_executor, thread, source.read)
                there = await self._bytes_there(temporary, read, file.size)
                remote, offset = await self._open_at(temporary, there)
                async with remote:
                    await loop.run_in_executor(thread, source.seek, offset)
                    while chunk := await read(CHUNK_BYTES):
                        await self._call(remote.write(chunk, offset))
                        offset += len(chunk)
                    with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                        await self._call(remote.fsync())
            if offset != file.size:
                raise DestinationUnavailableError("the file of the result is cut short")
            if (await self._call(self._client.stat(temporary))).size != file.size:
                raise DestinationUnavailableError(f"{temporary} has another size than was written to it")

    async def _bytes_there(self, temporary: str, read: Callable[[int], Awaitable[bytes]], size: int) -> int | None:
        """Return how many bytes of the source the temporary file begins with; None where there is none.

        `read`: reads the source, which has `size` bytes.
        """
        try:
            there = (await self._call(self._client.stat(temporary))).size or 0
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return None
        if there > size:
            return 0
        offset = 0
        async with contextlib.aclosing(self._chunks(temporary)) as chunks:
            async for theirs in chunks:
                if await read(len(theirs)) != theirs:
                    break
                offset += len(theirs)
        return offset

    async def _open_at(self, temporary: str, there: int | None) -> tuple[asyncssh.SFTPClientFile, int]:
        """Open a temporary file for writing, and return it with the offset to write from. `there`: see `_bytes_there`.

        Some servers do not write to a file that is there: then it is written anew.
        """
        if there:
            with contextlib.suppress(asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied, asyncssh.SFTPOpUnsupported):
                return await self._call(self._client.open(temporary, asyncssh.FXF_WRITE, encoding=None)), there
        if there is not None:
            await self.remove(temporary)
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC
        return await self._call(self._client.open(temporary, flags, encoding=None)), 0

    async def _publish(self, temporary: str, target: str, file: File, *, overwrite: bool) -> None:
        try:
            await self.rename(temporary, target, overwrite=overwrite)
        except DestinationUnavailableError:  # which is all that most servers say where a file lies
            if not await self._holds(target, file, overwrite=overwrite):
                raise
            await self.remove(temporary)

    async def rename(self, temporary: str, target: str, *, overwrite: bool = False) -> None:
        """Rename a file, once. Raises as `write`."""
        with self.sftp_errors(target, "rename a file to"):
            if overwrite:
                with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                    await self._call(self._client.posix_rename(temporary, target))
                    return
            await self._call(self._client.rename(temporary, target))  # which replaces no file, on most servers

    async def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileMissingError), self.sftp_errors(path, "remove"):
            await self._call(self._client.remove(path))

    async def _sha256(self, path: str) -> bytes:
        digest = hashlib.sha256()
        async with contextlib.aclosing(self._chunks(path)) as chunks:
            async for chunk in chunks:
                await asyncio.to_thread(digest.update, chunk)
        return digest.digest()

    async def _chunks(self, path: str) -> AsyncGenerator[bytes, None]:
        with self.sftp_errors(path, "read"):
            async with await self._call(self._client.open(path, "rb", encoding=None)) as remote:
                offset = 0
                while chunk := await self._call(remote.read(CHUNK_BYTES, offset)):
                    assert isinstance(chunk, bytes), "opened without an encoding"
                    yield chunk
                    offset += len(chunk)

    def _temporary(self, path: str, write_id: str) -> str:
        """Return the temporary name of a delivery's file: in its folder, hidden, and short enough for any name."""
        folder = posixpath.dirname(self.full(path))
        name = hashlib.sha256(path.encode()).hexdigest()[:12]
        return posixpath.join(folder, f".longshore-{write_id}-{name}.part")

    async def _call(self, call: Awaitable[T]) -> T:
        return await asyncio.wait_for(call, CALL_SECONDS)

    @contextlib.contextmanager
    def sftp_errors(self, path: str, action: str) -> Iterator[None]:
        """Raise DestinationError or DestinationUnavailableError for errors of SFTP. `action`: such as "write"."""
        user, server = self._settings.username, self._settings.server
        try:
            with connection_errors(self._settings):
                yield
        except (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect) as error:
            raise NoRightError(f"{user} has no right on {server} to {action} {path}{_reason(error)}") from None
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            raise FileMissingError(f"{path} does not exist on {server}") from None
        except (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded):
            raise DestinationUnavailableError(
                f"the disk of {server} is full, or the quota of {user} is used up"
            ) from None
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
            raise DestinationUnavailableError(f"the connection to {server} broke") from None
        except (asyncssh.SFTPBadMessage, asyncssh.SFTPInvalidFilename):
            raise DestinationError(f"{server} does not take the name {path}") from None
        except asyncssh.SFTPError as error:  # most servers have no other word for a full disk
            raise DestinationUnavailableError(
                f"{server} failed to {action} {path}{_reason(error)}: is its disk full or read-only, or the quota of "
                f"{user} used up?"
            ) from None


def _reason(error: asyncssh.SFTPError) -> str:
    """Return the words of the server in parentheses; empty where it has none."""
    text = "".join(character for character in error.reason if character.isprintable()).strip()
    return f" ({shortened(text)})" if text else ""
