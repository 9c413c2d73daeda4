"""The test of an SFTP destination."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import asyncssh

from longshore.destinations.addresses import checked_addresses
from longshore.destinations.kind import (
    CLEANUP_SECONDS,
    BytesFile,
    DestinationError,
    DestinationUnavailableError,
    Step,
    run_steps,
)
from longshore.destinations.sftp_connection import (
    OFFERED,
    connected,
    host_key_algorithms,
    offered_key,
    public_key,
)  # fmt: skip
from longshore.destinations.sftp_login import Login
from longshore.destinations.sftp_place import SftpPlace
from longshore.outbound import Address, Network

ERRORS = (DestinationError, DestinationUnavailableError)


async def sftp_steps(login: Login, base: str, allow: tuple[Network, ...]) -> AsyncIterator[Step]:
    """Yield the steps of the test; it ends after the first that fails."""
    try:
        addresses = await checked_addresses(login.host, login.port, allow)
    except ERRORS as error:
        yield Step("resolve", ok=False, detail=str(error))
        return
    yield Step("resolve", ok=True)
    try:
        yielded = await _host_key_steps(login, addresses)
    except ERRORS as error:
        yield Step("connect", ok=False, detail=str(error))
        return
    for step in yielded:
        yield step
    if not yielded[-1].ok:
        return
    async with contextlib.AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(connected(login, allow))
        except ERRORS as error:
            yield Step("authenticate", ok=False, detail=str(error))
            return
        yield Step("authenticate", ok=True)
        async for step in _file_steps(SftpPlace(client, login, base), client, base):
            yield step


async def _host_key_steps(login: Login, addresses: list[Address]) -> list[Step]:
    """Return the steps `connect` and `host_key`."""
    if not login.host_key:
        offered = await offered_key(login, addresses, OFFERED)
        return [Step("connect", ok=True), Step("host_key", ok=False, detail=_text(offered))]
    pinned = public_key(login.host_key)
    offered = await offered_key(login, addresses, host_key_algorithms(pinned))
    if offered.public_data == pinned.public_data:
        return [Step("connect", ok=True), Step("host_key", ok=True)]
    detail = f'the server shows another key than "host_key": {_text(offered)} ({offered.get_fingerprint()})'
    return [Step("connect", ok=True), Step("host_key", ok=False, detail=detail)]


def _text(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


async def _file_steps(place: SftpPlace, client: asyncssh.SFTPClient, base: str) -> AsyncIterator[Step]:
    """Yield the steps that list the folder, and write, read, rename and delete a file of the test's own."""
    name = f".longshore-test-{secrets.token_hex(8)}"
    file = BytesFile(secrets.token_bytes(64))
    written, renamed = f"{name}.part", name

    async def list_folder() -> None:
        await place.make_folder(base)
        with place.errors(base or ".", "list"):
            await client.listdir(base or ".")

    async def read() -> None:
        if b"".join([chunk async for chunk in place.read(written)]) != file.content:
            raise DestinationError(f"{place.address(written)} does not hold the bytes that were written to it")

    async def rename() -> str:
        await place.rename(place.full(written), place.full(renamed))
        if await place.can_replace(place.full(renamed)):
            return ""
        return 'the server lacks posix-rename@openssh.com: a delivery with "overwrite" fails where a file lies already'

    try:
        async for step in run_steps(
            {
                "list": list_folder,
                "write": lambda: place.send(place.full(written), file),
                "read": read,
                "rename": rename,
                "delete": lambda: place.remove(place.full(renamed)),
            }
        ):
            yield step
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_SECONDS):
                for left in (written, renamed):
                    with contextlib.suppress(*ERRORS):
                        await place.remove(place.full(left))
