"""Kinds of object stores, which differ in how they send their requests, and their test.

Their settings have a `prefix`.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from longshore.destinations.destination_test import CLEANUP_SECONDS, run_steps
from longshore.destinations.kind import (
    BytesFile,
    DestinationError,
    DestinationUnavailableError,
    FilePlace,
    Kind,
    Step,
)
from longshore.destinations.object_place import CredentialError, ObjectClient, ObjectPlace
from longshore.outbound import Network
from longshore.validation import Violation

OpenObjects = Callable[[Any, Any, tuple[Network, ...]], AbstractAsyncContextManager[ObjectClient]]
"""Takes settings, secret and the networks that the chain may reach. Raises DestinationError."""


def object_kind(
    settings: type[msgspec.Struct],
    secret: type[msgspec.Struct],
    objects: OpenObjects,
    check: Callable[[Any, Any, tuple[Network, ...]], list[Violation]],
) -> Kind:
    """Return the kind of an object store, of whose settings only the prefix changes without the secret."""

    @contextlib.asynccontextmanager
    async def opened(settings: Any, secret: Any, allow: tuple[Network, ...]) -> AsyncIterator[FilePlace]:
        async with objects(settings, secret, allow) as found:
            yield ObjectPlace(found, settings.prefix)

    async def test(settings: Any, secret: Any, allow: tuple[Network, ...]) -> AsyncIterator[Step]:
        try:
            async with objects(settings, secret, allow) as found:
                async for step in _steps(found, settings.prefix):
                    yield step
        except DestinationError as error:
            yield Step("settings", ok=False, detail=str(error))

    return Kind(settings, secret, "files", opened, test, check, frozenset({"prefix"}))


async def _steps(objects: ObjectClient, prefix: str) -> AsyncIterator[Step]:
    """Yield the steps of the test; it ends after the first that fails."""
    list_error: DestinationError | None = None

    async def authenticate() -> None:
        nonlocal list_error
        try:
            await objects.require_listing(f"{prefix.strip('/')}/".lstrip("/"))
        except CredentialError:
            raise
        except DestinationError as error:  # the credentials are right, and may not list
            list_error = error

    async def listing() -> None:
        if list_error is not None:
            raise list_error

    first = {"resolve": objects.client.resolve, "connect": objects.client.connect}
    async for step in run_steps({**first, "authenticate": authenticate, "list": listing}):
        yield step
    if step.ok:
        async for step in _file_steps(objects, ObjectPlace(objects, prefix)):
            yield step


async def _file_steps(objects: ObjectClient, place: ObjectPlace) -> AsyncIterator[Step]:
    """Yield the steps that write, read and delete a file of the test's own."""
    name = f".longshore-test-{secrets.token_hex(8)}"
    key, file = place.key(name), BytesFile(secrets.token_bytes(64))
    is_to_delete = True

    async def read() -> None:
        _, is_written = await place.find(key, file, overwrite=True)
        if not is_written:
            raise DestinationError(f"{place.address(name)} does not hold the bytes that were written to it")

    async def delete() -> None:
        nonlocal is_to_delete
        is_to_delete = False
        try:
            await objects.delete(key)
        except DestinationError as error:
            raise DestinationError(f"{error} The test's file {place.address(name)} is left.") from None

    try:
        async for step in run_steps(
            {
                "write": lambda: objects.put(key, file, "test"),
                "read": read,
                "upload": lambda: objects.try_upload(key),
                "delete": delete,
            }
        ):
            yield step
    finally:
        if is_to_delete:
            with contextlib.suppress(DestinationError, DestinationUnavailableError, TimeoutError):
                async with asyncio.timeout(CLEANUP_SECONDS):
                    await objects.delete(key)
