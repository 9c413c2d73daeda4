"""The test of an SFTP destination."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import asyncssh

from longshore.destinations.destination_test import CLEANUP_SECONDS, run_steps
from longshore.destinations.kind import BytesFile, DestinationError, DestinationUnavailableError, Step
from longshore.destinations.servers import checked_addresses
from longshore.destinations.sftp_connection import connected, offered_key, public_key
from longshore.destinations.sftp_place import CALL_SECONDS, SftpPlace
from longshore.destinations.sftp_settings import SftpSecret, SftpSettings
from longshore.outbound import Address, Network

LACKS_POSIX_RENAME = (
    'the server lacks posix-rename@openssh.com: a delivery with "overwrite" fails where a file lies already'
)
RENAME_REPLACES = (
    "the server replaces a file by the plain rename: one that another program makes while a delivery writes its own may"
    " be lost"
)


async def sftp_steps(settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...]) -> AsyncIterator[Step]:
    """Yield the steps of the test; it ends after the first that fails."""
    async with contextlib.AsyncExitStack() as stack:
        test = _Test(settings, secret, allow, stack)
        async for step in run_steps(
            {
                "resolve": test.resolve,
                "connect": test.connect,
                "host_key": test.compare_host_key,
                "authenticate": test.authenticate,
                "list": test.list_folder,
                "write": test.write,
                "read": test.read,
                "rename": test.rename,
                "delete": test.delete,
            }
        ):
            yield step


class _Test:
    """The steps, with a file of the test's own, and what each leaves to the next ones."""

    addresses: list[Address]
    offered: asyncssh.SSHKey
    client: asyncssh.SFTPClient
    place: SftpPlace

    def __init__(
        self, settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...], stack: contextlib.AsyncExitStack
    ) -> None:
        """`stack`: closed after the last step."""
        self.settings, self.secret, self.allow, self.stack = settings, secret, allow, stack
        self.file = BytesFile(secrets.token_bytes(64))
        self.renamed = f".longshore-test-{secrets.token_hex(8)}"
        self.written = f"{self.renamed}.part"

    async def resolve(self) -> None:
        self.addresses = await checked_addresses(self.settings.host, self.settings.port, self.allow)

    async def connect(self) -> None:
        self.offered = await offered_key(self.settings, self.addresses)

    async def compare_host_key(self) -> None:
        shown = " ".join(self.offered.export_public_key().decode().split()[:2])
        if not self.settings.host_key:
            raise DestinationError(shown)
        if self.offered.public_data != public_key(self.settings.host_key).public_data:
            fingerprint = self.offered.get_fingerprint()
            raise DestinationError(f'the server shows another key than "host_key": {shown} ({fingerprint})')

    async def authenticate(self) -> None:
        self.client = await self.stack.enter_async_context(connected(self.settings, self.secret, self.allow))
        self.place = SftpPlace(self.client, self.settings)

    async def list_folder(self) -> None:
        await self.place.make_folder(self.settings.path)
        with self.place.sftp_errors(self.settings.path or ".", "list"):
            found = cast(AsyncGenerator[object], self.client.scandir(self.settings.path or "."))
            async with asyncio.timeout(CALL_SECONDS), contextlib.aclosing(found):
                await anext(found, None)  # the rest may be many, or never end

    async def write(self) -> None:
        self.stack.push_async_callback(self.clean_up)
        await self.place.send(self.place.full(self.written), self.file)

    async def read(self) -> None:
        if b"".join([chunk async for chunk in self.place.read(self.written)]) != self.file.content:
            address = self.place.address(self.written)
            raise DestinationError(f"{address} does not hold the bytes that were written to it")

    async def rename(self) -> str:
        written, renamed = self.place.full(self.written), self.place.full(self.renamed)
        await self.place.rename(written, renamed)
        if not await self.place.can_replace(renamed):
            return LACKS_POSIX_RENAME
        await self.place.send(written, self.file)
        try:
            await self.place.rename(written, renamed)
        except (DestinationError, DestinationUnavailableError):
            await self.place.remove(written)
            return ""
        return RENAME_REPLACES

    async def delete(self) -> None:
        await self.place.remove(self.place.full(self.renamed))

    async def clean_up(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_SECONDS):
                for left in (self.written, self.renamed):
                    with contextlib.suppress(DestinationError, DestinationUnavailableError):
                        await self.place.remove(self.place.full(left))
