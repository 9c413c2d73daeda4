"""The test of a destination in an object store."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from longshore.destinations.kind import CLEANUP_SECONDS, BytesFile, DestinationError, DestinationUnavailableError, Step
from longshore.destinations.object_place import CredentialError, ObjectPlace, Objects

ERRORS = (DestinationError, DestinationUnavailableError)


async def object_steps(objects: Objects, prefix: str) -> AsyncIterator[Step]:
    """Yield the steps of the test; it ends after the first that fails."""
    for name, call in (("resolve", objects.client.resolve), ("connect", objects.client.connect)):
        try:
            await call()
        except ERRORS as error:
            yield Step(name, ok=False, detail=str(error))
            return
        yield Step(name, ok=True)
    try:
        await objects.list_one(f"{prefix.strip('/')}/".lstrip("/"))
    except (CredentialError, DestinationUnavailableError) as error:
        yield Step("authenticate", ok=False, detail=str(error))
        return
    except DestinationError as error:
        yield Step("authenticate", ok=True)
        yield Step("list", ok=False, detail=str(error))
        return
    yield Step("authenticate", ok=True)
    yield Step("list", ok=True)
    async for step in _file_steps(objects, ObjectPlace(objects, prefix)):
        yield step


async def _file_steps(objects: Objects, place: ObjectPlace) -> AsyncIterator[Step]:
    """Yield the steps that write, read and delete a file of the test's own."""
    name = f".longshore-test-{secrets.token_hex(8)}"
    key, file = place.key(name), BytesFile(secrets.token_bytes(64))

    async def read() -> None:
        if not await place.holds(key, file, overwrite=True):
            raise DestinationError(f"{place.address(name)} does not hold the bytes that were written to it")

    async def delete() -> None:
        try:
            await objects.delete(key)
        except DestinationError as error:
            raise DestinationError(f"{error} The test's file {place.address(name)} is left.") from None

    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "write": lambda: objects.put(key, file, "test", overwrite=False),
        "read": read,
        "upload": lambda: objects.try_upload(key),
        "delete": delete,
    }
    deleted = False
    try:
        for step, call in steps.items():
            deleted = step == "delete"
            try:
                await call()
            except ERRORS as error:
                yield Step(step, ok=False, detail=str(error))
                return
            yield Step(step, ok=True)
    finally:
        if not deleted:
            with contextlib.suppress(*ERRORS, TimeoutError):
                async with asyncio.timeout(CLEANUP_SECONDS):
                    await objects.delete(key)
