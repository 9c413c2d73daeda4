"""The two clients: Longshore blocks, AsyncLongshore is awaited. They share their operations."""

from typing import Any, Self, TypeVar

from longshore.client.destinations import Destinations
from longshore.client.profiles import read_profile
from longshore.client.resources import Exports, Indexes, Segments, Tasks
from longshore.client.task import AsyncTask, Task, TaskOperations
from longshore.client.transport import AsyncTransport, BlockingTransport, Operates
from longshore.client.wait import ServiceState

K = TypeVar("K", bound=TaskOperations[Any])


class _Client(Operates[K]):
    """The parts of either client."""

    def __init__(self, transport: Any, chain: int, kind: type[K], retry_for: float) -> None:
        self._transport = transport
        self.chain = chain
        known = ServiceState(chain, retry_for)
        self.exports = Exports(transport, known, kind)
        self.tasks = Tasks(transport, known, kind)
        self.indexes = Indexes(transport, known, kind)
        self.segments = Segments(transport, known, kind)
        self.destinations = Destinations(transport, known, kind)


class Longshore(_Client[Task]):
    """A client that blocks.

    `address`: the service's, such as `http://127.0.0.1:8080`. `token`: `id:secret`.
    `chain`: the chain that all requests are for. A request raises ForbiddenError if the token is not for this chain.
    `timeout`: seconds without a byte after which a connection counts as lost.
    `retry_for`: seconds for which transient errors (no connection, 429, 502, 503, 504) are retried.
    """

    def __init__(self, address: str, token: str, *, chain: int, timeout: float = 30.0, retry_for: float = 60.0) -> None:
        super().__init__(BlockingTransport(address, token, chain, timeout), chain, Task, retry_for)

    @classmethod
    def from_profile(cls, name: str = "default") -> Self:
        """Return a client for a profile that `longshore login` has stored. Raises ProfileError."""
        profile = read_profile(name)
        return cls(profile.address, profile.token, chain=profile.chain)

    def close(self) -> None:
        """Close the connections."""
        self._transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncLongshore(_Client[AsyncTask]):
    """A client whose methods are awaited, on asyncio. Its arguments are those of Longshore."""

    def __init__(self, address: str, token: str, *, chain: int, timeout: float = 30.0, retry_for: float = 60.0) -> None:
        super().__init__(AsyncTransport(address, token, chain, timeout), chain, AsyncTask, retry_for)

    @classmethod
    def from_profile(cls, name: str = "default") -> Self:
        """Return a client for a profile that `longshore login` has stored. Raises ProfileError."""
        profile = read_profile(name)
        return cls(profile.address, profile.token, chain=profile.chain)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
