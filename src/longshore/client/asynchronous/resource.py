"""The parent of the classes with the operations on one kind of resource."""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from longshore.client.api_types import Segment
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.model import Index
from longshore.client.requests import Request, path_step, whole_number, without_none
from longshore.client.segment import Rules

T = TypeVar("T")

PAGE = 100  # entries that are asked for at once


class AsyncResource:
    """The operations on one kind of resource. `path`: of the service, before all that are requested."""

    def __init__(self, transport: AsyncTransport, path: str = "") -> None:
        self._transport = transport
        self._path = path

    async def _get(self, below: str, type: type[T], **params: Any) -> T:
        request = Request(url=self._path + below, params=without_none(params))
        return (await self._transport.send(request)).expect(type)

    async def _post(self, below: str, type: type[T], body: Any = None, headers: dict[str, str] | None = None) -> T:
        """Send a POST that is retried also after a lost answer, and return the body of its answer as a struct.

        The endpoint has to be idempotent: by its nature, or by the Idempotency-Key in `headers`.
        """
        request = Request(method="POST", url=self._path + below, headers=headers or {}, body=body)
        return (await self._transport.send(request, is_idempotent=True)).expect(type)

    async def _delete(self, below: str) -> None:
        (await self._transport.send(Request(method="DELETE", url=self._path + below))).check()

    async def _pages(
        self, below: str, type: type[list[T]], key: Callable[[T], Any], offset: int = 0, **params: Any
    ) -> AsyncIterator[T]:
        """Yield the entries of a list, page by page, each once; also where entries are made or deleted meanwhile."""
        seen: set[Any] = set()
        at = offset
        while True:
            page = await self._get(below, type, **params, limit=PAGE, offset=at)
            # A page begins with the last entry of the one before, unless entries were deleted and later ones came up.
            if seen and at > offset and (not page or key(page[0]) not in seen):
                at = max(offset, at - PAGE)
                continue
            for entry in page:
                if key(entry) not in seen:
                    seen.add(key(entry))
                    yield entry
            if len(page) < PAGE:
                return
            at += PAGE - 1

    async def _segment(self, index: str, where: Rules | Segment) -> Segment:
        if not isinstance(where, Rules):
            return where
        declared = await self._get(f"/indexes/{path_step(index)}", Index)
        return where.segment(declared, self._transport.connection.chain)


async def first_entries(entries: AsyncIterator[T], limit: int | None) -> list[T]:
    """Return the first entries of an iterator as a list; None: all of them."""
    found: list[T] = []
    limit = None if limit is None else whole_number("limit", limit)
    if limit == 0:
        return found
    async for entry in entries:
        found.append(entry)
        if len(found) == limit:
            break
    return found
