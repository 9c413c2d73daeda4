# Made of ../asynchronous/transport.py by tools/blocking_client.py: change that file, then run `make format`.
"""The transport: sends requests, and retries transient errors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from longshore.client.blocking.concurrency import sleep
from longshore.client.connection import HTTP_LOG_FILTER, Connection, new_http_client
from longshore.client.errors import ClientError, NoAnswerError
from longshore.client.requests import Answer, Request
from longshore.client.retry import Retries, RetryBudget

if TYPE_CHECKING:
    import ssl

    import httpx2

MAX_EVENT_BYTES = 10_000_000


class Transport:
    """The connections to a service. `http_client`: one of the caller's own, which is not closed."""

    def __init__(
        self, connection: Connection, verify: "bool | str | ssl.SSLContext", proxy: str | None,
        http_client: "httpx2.Client | None",
    ) -> None:  # fmt: skip
        self.connection = connection
        logging.getLogger("httpx2").addFilter(HTTP_LOG_FILTER)
        self._own = http_client is None
        self._is_closed = False
        if http_client is None:
            import httpx2  # here, so that the package is imported quickly

            http_client = new_http_client(httpx2.Client, verify, proxy)
        self._http = http_client

    def budget(self) -> RetryBudget:
        """Return a new retry budget, for one operation."""
        return RetryBudget(self.connection.retry_for)

    def send(self, request: Request, *, is_idempotent: bool | None = None, budget: RetryBudget | None = None) -> Answer:
        """Send a request, retry transient errors, and return the first other answer.

        Raises NotSentError, LostError or the last problem once the budget is used, other errors at once.
        """
        retries = Retries(request, budget or self.budget(), is_idempotent)
        while True:
            try:
                answer = self._send_once(request)
            except NoAnswerError as error:
                pause: float | None = retries.pause_after_error(error)
            else:
                pause = retries.pause_after_answer(answer)
                if pause is None:
                    return Answer(204, {}) if retries.has_deleted(answer) else answer
            assert pause is not None
            sleep(pause)

    def _send_once(self, request: Request) -> Answer:
        response = self._open(request)
        try:
            with self.connection.translated_errors(request):
                return _answer(response, response.read())
        finally:
            response.close()

    @contextmanager
    def stream(self, request: Request, chunk_bytes: int = 1) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Open a request whose body is read in chunks; that of an unsuccessful answer is in the answer too.

        `chunk_bytes`: of all chunks but the last, at least; 1: as they come. Those that came before an error are
        yielded before it is raised.
        """
        with self._opened(request) as (answer, response):
            is_read = answer.status >= 300
            yield answer, _only(answer.body) if is_read else self._chunks(response, request, chunk_bytes)

    @contextmanager
    def events(self, request: Request) -> Iterator[tuple[Answer, Iterator["httpx2.ServerSentEvent"]]]:
        """Open a request that is answered with server-sent events."""
        with self._opened(request) as (answer, response):
            yield answer, self._events(response, request)

    @contextmanager
    def _opened(self, request: Request) -> Iterator[tuple[Answer, "httpx2.Response"]]:
        """Send a request; the answer has the body only if it is unsuccessful."""
        response = self._open(request)
        try:
            body = b""
            if response.status_code >= 300:
                with self.connection.translated_errors(request):
                    body = response.read()
            yield _answer(response, body), response
        finally:
            response.close()

    def _chunks(self, response: "httpx2.Response", request: Request, chunk_bytes: int) -> Iterator[bytes]:
        chunk, error = bytearray(), None
        try:
            with self.connection.translated_errors(request):
                for received in response.iter_raw():
                    chunk += received
                    if len(chunk) >= chunk_bytes:
                        yield bytes(chunk)
                        chunk.clear()
        except NoAnswerError as lost:
            error = lost
        if chunk:
            yield bytes(chunk)
        if error is not None:
            raise error

    def _events(self, response: "httpx2.Response", request: Request) -> Iterator["httpx2.ServerSentEvent"]:
        import httpx2

        with self.connection.translated_errors(request):
            for event in httpx2.EventSource(response, MAX_EVENT_BYTES):
                yield event

    def _open(self, request: Request) -> "httpx2.Response":
        if self._is_closed:
            raise ClientError("the client is closed")
        with self.connection.translated_errors(request):
            built = self._http.build_request(**self.connection.httpx_arguments(request))
            return self._http.send(built, stream=True, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._is_closed = True
        if self._own:
            self._http.close()


def _answer(response: "httpx2.Response", body: bytes) -> Answer:
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def _only(body: bytes) -> Iterator[bytes]:
    """Yield a body that is read already."""
    yield body
