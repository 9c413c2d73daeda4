# Made of ../asynchronous/client.py by tools/blocking_client.py: change that file, then run `make format`.
"""The client: the connection to a service, and its operations by kind of resource."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import msgspec

from longshore.client.blocking.destinations import Destinations
from longshore.client.blocking.exports import Exports
from longshore.client.blocking.indexes import Indexes
from longshore.client.blocking.segments import Segments
from longshore.client.blocking.shares import Shares
from longshore.client.blocking.tasks import Tasks
from longshore.client.blocking.transport import Transport
from longshore.client.blocking.webhooks import Webhooks
from longshore.client.connection import resolve_connection
from longshore.client.profiles import read_profile
from longshore.client.requests import api_request, idempotency_header

if TYPE_CHECKING:
    import ssl

    import httpx2


class StreamedAnswer(msgspec.Struct, frozen=True):
    """An answer whose body is read as it comes. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Longshore:
    """A client of a service, whose methods block.

    `address`: the service's, such as `http://127.0.0.1:8080`. `token`: `id:secret`. `chain`: the chain that all
    requests are for. Without them the variables LONGSHORE_ADDRESS, LONGSHORE_TOKEN and LONGSHORE_CHAIN count.
    A request raises ForbiddenError if the token is not for this chain.
    `timeout`: seconds without a byte after which a connection counts as lost.
    `retry_for`: seconds for which transient errors (no connection, 429, 502, 503, 504) are retried.
    `verify`: the file of the authority that signed the service's certificate, an `ssl.SSLContext`, or False.
    `proxy`: the address of a proxy; by default HTTP_PROXY, HTTPS_PROXY and NO_PROXY count.
    `http_client`: an `httpx2.Client` to send requests with, in place of `verify` and `proxy`; it is not closed.
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
        http_client: "httpx2.Client | None" = None,
    ) -> None:
        found = resolve_connection(address, token, chain, (timeout, retry_for))
        self._transport = Transport(found, verify, proxy, http_client)
        self.address = found.address
        self.chain = found.chain
        self.exports = Exports(self._transport)
        self.tasks = Tasks(self._transport)
        self.indexes = Indexes(self._transport)
        self.segments = Segments(self._transport)
        self.destinations = Destinations(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.shares = Shares(self._transport)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transport.connection!r}>"

    @classmethod
    def from_profile(cls, name: str | None = None, **settings: Any) -> Self:
        """Return a client for a login of `longshore login`, by default the current one. Raises ProfileError."""
        profile = read_profile(name)
        return cls(profile.address, profile.token, chain=profile.chain, **settings)

    def request(
        self, method: str, path: str, body: Any = None, *, params: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:  # fmt: skip
        """Send a request to a path of the API, such as `/audit`, and return the decoded answer; None for an empty one.

        For what has no method here; `stream` gives status and header fields too. Raises ProblemError, ArgumentError.
        """
        headers = {} if idempotency_key is None else idempotency_header(idempotency_key)
        request = api_request(method, path, params=params or {}, headers=headers, body=body)
        answer = self._transport.send(request, is_idempotent=None if idempotency_key is None else True)
        return answer.expect(object) if answer.check().body else None

    @contextmanager
    def stream(
        self, method: str, path: str, body: Any = None, *, params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[StreamedAnswer]:  # fmt: skip
        """Send a request to a path of the API, and open its answer, whatever its status: `with` closes it.

        For answers as they are: status, header fields, and the bytes of the body in chunks. The request is sent once;
        nothing is retried. `body`: as JSON; `msgspec.Raw` as it is. Raises NoAnswerError, ArgumentError.
        """
        request = api_request(method, path, params=params or {}, headers=headers or {}, body=body)
        with self._transport.stream(request) as (answer, chunks):
            yield StreamedAnswer(answer.status, answer.headers, chunks)

    def close(self) -> None:
        """Close the connections. A call on a closed client raises ClientError."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
