# Made of ../asynchronous/transport.py by tools/blocking_client.py: change that file, then run `make format`.
"""The transport: sends requests, and retries transient errors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from longshore.client.blocking.concurrency import sleep
from longshore.client.connection import HTTP_LOG_FILTER, Connection, new_http_client
from longshore.client.errors import ClientError, NoAnswerError
from longshore.client.model import Index
from longshore.client.requests import Answer, Request
from longshore.client.retry import Retries, RetryBudget

if TYPE_CHECKING:
    import ssl

    import httpx2

CHUNK_BYTES = 1 << 20  # of a download that are read at once


class Transport:
    """The connections to a service. `http_client`: one of the caller's own, which is not closed."""

    def __init__(
        self, connection: Connection, verify: "bool | str | ssl.SSLContext", proxy: str | None,
        http_client: "httpx2.Client | None",
    ) -> None:  # fmt: skip
        self.connection = connection
        self.indexes: dict[str, Index] = {}
        """The declarations of the indexes that rules were built for."""
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
    def stream(self, request: Request) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Open a request whose body is read in chunks; that of an unsuccessful answer is in the answer too."""
        response = self._open(request)
        try:
            if response.status_code < 300:
                yield _answer(response, b""), self._chunks(response, request)
            else:
                with self.connection.translated_errors(request):
                    answer = _answer(response, response.read())
                yield answer, _only(answer.body)
        finally:
            response.close()

    def _chunks(self, response: "httpx2.Response", request: Request) -> Iterator[bytes]:
        with self.connection.translated_errors(request):
            for chunk in response.iter_raw(CHUNK_BYTES):
                yield chunk

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
