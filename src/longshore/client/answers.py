"""A request to the service and its answer."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from longshore.client.errors import ClientError, NoAnswerError, problem

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request."""

    method: str
    url: str
    """A path of the service, or a whole address, which gets neither the token nor the chain."""
    params: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None
    timeout: float = 0
    """Seconds of silence that are allowed in addition to the client's own."""
    deadline: float = math.inf
    """The time of the monotonic clock at which nobody waits for the answer any more."""


class Answer(msgspec.Struct, frozen=True):
    """An answer to a request. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    """Empty where the body is streamed."""

    def error(self) -> ClientError:
        """Return the exception that an unsuccessful answer stands for."""
        if 300 <= self.status < 400 and "location" in self.headers:
            return NoAnswerError(f"the service is at another address: {self.headers['location'].partition('?')[0]}")
        return problem(self.status, self.body, self.headers.get("x-request-id", ""))

    def expect(self, kind: type[T]) -> T:
        """Return the body of a successful answer as a struct.

        Raises ProblemError if the answer is a problem, NoAnswerError if it is not Longshore's.
        """
        if self.status >= 300:
            raise self.error()
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.MsgspecError as error:
            raise NoAnswerError(f"the answer is not Longshore's: {error}") from None
