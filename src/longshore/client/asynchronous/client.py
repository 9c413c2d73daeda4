"""The client: the connection to a service, and its operations by kind of resource."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import msgspec

from longshore.client.asynchronous.destinations import AsyncDestinations
from longshore.client.asynchronous.exports import AsyncExports
from longshore.client.asynchronous.indexes import AsyncIndexes
from longshore.client.asynchronous.segments import AsyncSegments
from longshore.client.asynchronous.shares import AsyncShares
from longshore.client.asynchronous.tasks import AsyncTasks
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.asynchronous.webhooks import AsyncWebhooks
from longshore.client.connection import resolve_connection
from longshore.client.profiles import read_profile
from longshore.client.requests import api_request, idempotency_header

if TYPE_CHECKING:
    import ssl

    import httpx2


class AsyncStreamedAnswer(msgspec.Struct, frozen=True):
    """An answer whose body is read as it comes. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class AsyncLongshore:
    """A client of a service, whose methods are awaited.

    `address`: the service's, such as `http://127.0.0.1:8080`. `token`: `id:secret`. `chain`: the chain that all
    requests are for. Without them the variables LONGSHORE_ADDRESS, LONGSHORE_TOKEN and LONGSHORE_CHAIN count.
    A request raises ForbiddenError if the token is not for this chain.
    `timeout`: seconds without a byte after which a connection counts as lost.
    `retry_for`: seconds for which transient errors (no connection, 429, 502, 503, 504) are retried.
    `verify`: the file of the authority that signed the service's certificate, an `ssl.SSLContext`, or False.
    `proxy`: the address of a proxy; by default HTTP_PROXY, HTTPS_PROXY and NO_PROXY count.
    `http_client`: an `httpx2.AsyncClient` to send requests with, in place of `verify` and `proxy`; it is not closed.
    Raises ClientError.
    """

    def __init__(  # noqa: PLR0913 (the settings of a client, by keyword)
        self,
        address: str | None = None,
        token: str | None = None,
        *,
        chain: int | None = None,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        verify: "bool | str | ssl.SSLContext" = True,
        proxy: str | None = None,
        http_client: "httpx2.AsyncClient | None" = None,
    ) -> None:
        found = resolve_connection(address, token, chain, (timeout, retry_for))
        self._transport = AsyncTransport(found, verify, proxy, http_client)
        self.address = found.address
        self.chain = found.chain
        self.exports = AsyncExports(self._transport)
        self.tasks = AsyncTasks(self._transport)
        self.indexes = AsyncIndexes(self._transport)
        self.segments = AsyncSegments(self._transport)
        self.destinations = AsyncDestinations(self._transport)
        self.webhooks = AsyncWebhooks(self._transport)
        self.shares = AsyncShares(self._transport)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transport.connection!r}>"

    @classmethod
    def from_profile(cls, name: str | None = None, **settings: Any) -> Self:
        """Return a client for a login of `longshore login`, by default the current one. Raises ProfileError."""
        profile = read_profile(name)
        return cls(profile.address, profile.token, chain=profile.chain, **settings)

    async def request(
        self, method: str, path: str, body: Any = None, *, params: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:  # fmt: skip
        """Send a request to a path of the API, such as `/audit`, and return the decoded answer; None for an empty one.

        For what has no method here; `stream` gives status and header fields too. Raises ProblemError, ArgumentError.
        """
        headers = {} if idempotency_key is None else idempotency_header(idempotency_key)
        request = api_request(method, path, params=params or {}, headers=headers, body=body)
        answer = await self._transport.send(request, is_idempotent=None if idempotency_key is None else True)
        return answer.expect(object) if answer.check().body else None

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: Any = None, *, params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> AsyncIterator[AsyncStreamedAnswer]:  # fmt: skip
        """Send a request to a path of the API, and open its answer, whatever its status: `async with` closes it.

        For answers as they are: status, header fields, and the bytes of the body in chunks. The request is sent once;
        nothing is retried. `body`: as JSON; `msgspec.Raw` as it is. Raises NoAnswerError, ArgumentError.
        """
        request = api_request(method, path, params=params or {}, headers=headers or {}, body=body)
        async with self._transport.stream(request) as (answer, chunks):
            yield AsyncStreamedAnswer(answer.status, answer.headers, chunks)

    async def close(self) -> None:
        """Close the connections. A call on a closed client raises ClientError."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
