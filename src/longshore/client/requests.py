"""Requests to the service, their parts, and their answers."""

import base64
import math
import os
from collections.abc import Mapping
from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from longshore.client.errors import ClientError, NoAnswerError, problem

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request."""

    method: str = "GET"
    url: str
    """A path of the service, or a whole address, which gets neither the token nor the chain."""
    params: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None
    timeout: float = 0
    """Seconds of silence that are allowed in addition to the client's own."""
    deadline: float = math.inf
    """The time of the monotonic clock until which the answer is waited for."""


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

    def check(self) -> Self:
        """Return a successful answer as it is. Raises ProblemError, or NoAnswerError if it is not Longshore's."""
        if self.status >= 300:
            raise self.error()
        return self

    def expect(self, kind: type[T]) -> T:
        """Return the body of a successful answer as a struct.

        Raises ProblemError if the answer is a problem, NoAnswerError if it is not Longshore's.
        """
        body = self.check().body
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise NoAnswerError(f"the answer is not Longshore's: {error}") from None


def idempotency_header(key: str | None = None) -> dict[str, str]:
    """Return the header by which a request that is repeated has one effect. `key`: by default a new one."""
    return {"Idempotency-Key": key or base64.urlsafe_b64encode(os.urandom(24)).decode()}


def path_step(name: str) -> str:
    """Return a name as a step of a path."""
    return quote(str(name), safe="")


def without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that are None."""
    return {name: value for name, value in options.items() if value is not None}
