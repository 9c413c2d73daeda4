"""The client without its network: what an operation asks for, one step after the other.

An operation is a generator. It yields steps, gets their outcome back, and returns its result; `drive` performs the
steps, blocking or awaiting. So waiting, retrying and resuming are written once, for both kinds of client.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeVar

import msgspec

from longshore.client.errors import NoAnswerError, problem

T = TypeVar("T")

LONGEST_PAUSE = 5.0  # seconds between two tries
PASSING = frozenset({429, 502, 503, 504})
UNTOUCHED = frozenset({429, 503})  # answers that say that nothing was changed


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Send a request; the outcome is an Answer. Raises NotSentError and LostError."""

    method: str
    url: str
    """A path of the service, or a whole address, which is then asked without the token."""
    params: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None
    stream: bool = False
    """Whether to leave the body to Read steps."""
    timeout: float | None = None
    """Seconds of silence that are allowed beyond the client's own."""


class Read(msgspec.Struct, frozen=True):
    """Read on in the body of the last streamed answer; the outcome is bytes, b"" at its end. Raises LostError."""


class Close(msgspec.Struct, frozen=True):
    """Read no further in the last streamed answer."""


class Pause(msgspec.Struct, frozen=True):
    """Let time pass."""

    seconds: float


class Call(msgspec.Struct, frozen=True):
    """Call something that blocks, such as a write to a file; the outcome is what it returns."""

    function: Callable[[], Any]


Step: TypeAlias = Request | Read | Close | Pause | Call
Steps: TypeAlias = Generator[Step, Any, T]


class Answer(msgspec.Struct, frozen=True):
    """What came back. Names of headers are lower case; `body` is empty where it is left to be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self) -> Exception:
        """The exception that this answer means."""
        return problem(self.status, self.body, self.headers.get("x-request-id", ""))


class NotSentError(NoAnswerError):
    """The service cannot have seen the request."""


class LostError(NoAnswerError):
    """The connection ended before the answer did; the service may have acted on the request."""


class Patience:
    """How long to keep trying: full jitter after each failure, and what `Retry-After` asks for at least.

    `seconds`: how long failures may follow each other. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.failures = 0
        self.since = time.monotonic()

    def renew(self) -> None:
        """Something went well: failures count anew."""
        self.failures = 0
        self.since = time.monotonic()

    def pause(self, asked: float = 0.0) -> float | None:
        """Seconds to wait before the next try; None when it is time to give up. `asked`: what Retry-After says."""
        self.failures += 1
        most = min(LONGEST_PAUSE, 0.1 * 2**self.failures)
        pause = asked + random.uniform(0, most)  # noqa: S311  # jitter is no secret
        return pause if time.monotonic() - self.since + pause <= self.seconds else None


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that `Retry-After` asks for (RFC 9110, 10.2.3: seconds or a date); 0 where it does not."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def send(request: Request, patience: Patience, *, repeatable: bool | None = None) -> Steps[Answer]:
    """Send a request until something but a passing failure comes back.

    `repeatable`: whether doing it twice is as once; by default what RFC 9110 (9.2.2) says of the method. What is not
    repeatable is tried again only where the service cannot have acted on it.
    """
    if repeatable is None:
        repeatable = request.method in ("GET", "HEAD", "PUT", "DELETE")
    while True:
        asked = 0.0
        failure: Exception
        try:
            answer: Answer = yield request
        except NotSentError as error:
            failure = error
        except LostError as error:
            if not repeatable:
                raise
            failure = error
        else:
            if answer.status not in PASSING or not (repeatable or answer.status in UNTOUCHED):
                patience.renew()
                return answer
            failure, asked = answer.error(), retry_after(answer.headers)
        pause = patience.pause(asked)
        if pause is None:
            raise failure
        yield Pause(pause)


def expect(answer: Answer, kind: type[T]) -> T:
    """The body of a good answer as a struct. Raises ProblemError for a problem, NoAnswerError for what is neither."""
    if answer.status >= 300:
        raise answer.error()
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError as error:
        raise NoAnswerError(f"the answer is not Longshore's: {error}") from None
