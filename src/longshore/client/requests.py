"""Requests to the service, their parts, and their answers."""

import base64
import math
import operator
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from longshore.client.errors import NOT_DECODED, ArgumentError, ClientError, NoAnswerError, problem

T = TypeVar("T")

FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
OWN_FIELD = re.compile(r"authorization|x-(spaaza-)?session-(user-id|key|chain-id)", re.IGNORECASE)
FIELD_VALUE = re.compile(r"([!-~]([ -~\t]*[!-~])?)?")  # https://www.rfc-editor.org/rfc/rfc9110#section-5.5


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request."""

    method: str = "GET"
    url: str
    """A path of the service, or a whole address, which gets neither the token nor the chain."""
    params: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None
    extra_seconds: float = 0
    """Seconds without a byte that are allowed beyond the client's `timeout`."""
    deadline: float = math.inf
    """The time of the monotonic clock until which the answer is waited for."""
    ends_own_token: bool = False
    """Whether it deletes the token that it is sent with, so that a repetition is 401."""


def api_request(method: str, path: str, **parts: Any) -> Request:
    """Return a request to a path of the API. Raises ArgumentError for a path or a method that no request can have."""
    if not path.startswith("/"):
        raise ArgumentError(f"expected a path of the API such as /tasks/12345, got {path!r}")
    if not FIELD_NAME.fullmatch(method):
        raise ArgumentError(f"expected a method such as GET, got {method!r}")
    return Request(method=method.upper(), url=path, **parts)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ArgumentError for a header field that no request can have, or that the client itself sends."""
    for name, value in headers.items():
        if OWN_FIELD.fullmatch(name):
            raise ArgumentError(f"{name} is of the login; use another login, or a client with another token or chain")
        if not FIELD_NAME.fullmatch(name):
            raise ArgumentError(f"{name!r} is no name of a header field")
        if not FIELD_VALUE.fullmatch(value):
            raise ArgumentError(f"{name} is {value!r}; expected printable ASCII characters without a space at the ends")


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

    def expect(self, type: type[T]) -> T:
        """Return the body of a successful answer, decoded as a type such as a struct.

        Raises ProblemError if the answer is a problem, NoAnswerError if it is not Longshore's.
        """
        body = self.check().body
        try:
            return exact_decoder(type).decode(body)
        except NOT_DECODED as error:
            raise NoAnswerError(f"the answer is not Longshore's: {error}") from None


def exact_decoder(type: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder of a type. Where a value is untyped, as in rules, a number with a point becomes a Decimal."""
    return msgspec.json.Decoder(type, float_hook=Decimal)


def idempotency_header(key: str | None = None) -> dict[str, str]:
    """Return the header by which a request that is repeated has one effect. Raises ArgumentError for an empty key.

    `key`: None for a new one.
    """
    if key == "":
        raise ArgumentError("`idempotency_key` is empty; give one of the caller's own, or None for a new one")
    return {"Idempotency-Key": key or base64.urlsafe_b64encode(os.urandom(24)).decode()}


def path_step(name: object) -> str:
    """Return a name as a step of a path. Raises ArgumentError."""
    try:
        step = quote(str(name), safe="")
    except UnicodeEncodeError:
        raise ArgumentError("an argument is no text in UTF-8") from None
    if step in ("", ".", ".."):  # steps that name another path: https://www.rfc-editor.org/rfc/rfc3986#section-5.2.4
        raise ArgumentError(f"expected an id or a name, got {str(name)!r}")
    return step


def whole_number(name: str, value: Any, minimum: int = 0) -> int:
    """Return the whole number that a parameter is. Raises ArgumentError."""
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        number = minimum - 1
    if number < minimum:
        raise ArgumentError(f"`{name}`: expected a whole number from {minimum} on, got {value!r}")
    return number


def without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that are None."""
    return {name: value for name, value in options.items() if value is not None}
