"""The steps of an operation: a generator that yields steps, receives their outcomes, and returns a result.

A transport performs the steps, blocking or on asyncio. Waiting, retrying and resuming are therefore written once for
both clients.
"""

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from longshore.client.errors import NoAnswerError, problem

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Send a request; the outcome is an Answer. Raises NotSentError and LostError."""

    method: str
    url: str
    """A path of the service, or a whole address, which gets neither the token nor the chain."""
    params: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None
    stream: bool = False
    """True to leave the body to Read steps."""
    timeout: float | None = None
    """Seconds of silence that are allowed in addition to the client's own."""


class Read(msgspec.Struct, frozen=True):
    """Read the next bytes of the last streamed answer; the outcome is b"" at its end. Raises LostError."""


class Close(msgspec.Struct, frozen=True):
    """Close the last streamed answer."""


class Pause(msgspec.Struct, frozen=True):
    """Sleep."""

    seconds: float


class Call(msgspec.Struct, frozen=True):
    """Call a blocking function, such as a write to a file; the outcome is its return value."""

    function: Callable[[], Any]


Step: TypeAlias = Request | Read | Close | Pause | Call
Steps: TypeAlias = Generator[Step, Any, T]


class Answer(msgspec.Struct, frozen=True):
    """An answer to a request. Header names are in lower case; `body` is empty if it is left to Read steps."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self) -> Exception:
        """Return the exception that an unsuccessful answer stands for."""
        return problem(self.status, self.body, self.headers.get("x-request-id", ""))


class NotSentError(NoAnswerError):
    """The service cannot have received the request."""


class LostError(NoAnswerError):
    """The connection ended before the answer did; the service may have acted on the request."""
