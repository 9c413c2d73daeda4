"""Kinds of object stores, which differ in how they send their requests. Their settings have a `prefix`."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from longshore.destinations.kind import DestinationError, FilePlace, Kind, Step
from longshore.destinations.object_place import ObjectClient, ObjectPlace
from longshore.destinations.object_steps import object_steps
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
                async for step in object_steps(found, settings.prefix):
                    yield step
        except DestinationError as error:
            yield Step("settings", ok=False, detail=str(error))

    return Kind(settings, secret, "files", opened, test, check, frozenset({"prefix"}))
