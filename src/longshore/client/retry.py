"""Retries of requests: which answers are retried, for how long, and after which pauses."""

import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

from longshore.client.errors import NoAnswerError
from longshore.client.steps import Answer, LostError, NotSentError, Pause, Request, Steps

T = TypeVar("T")

MAX_PAUSE_SECONDS = 5.0  # between two tries
TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
UNPROCESSED_STATUSES = frozenset({429, 503})  # the service has not acted on the request


class RetryBudget:
    """The time for which failures may follow each other, with full jitter between tries.

    `seconds`: the time since the last success. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._failures = 0
        self._last_success = time.monotonic()

    def reset(self) -> None:
        """Start the time anew, after a success."""
        self._failures = 0
        self._last_success = time.monotonic()

    def next_pause(self, retry_after: float = 0.0) -> float | None:
        """Return the seconds to wait before the next try, at least `retry_after`; None if the time is used up."""
        self._failures += 1
        jitter = random.uniform(0, min(MAX_PAUSE_SECONDS, 0.1 * 2**self._failures))  # noqa: S311  # jitter is no secret
        pause = retry_after + jitter
        return pause if time.monotonic() - self._last_success + pause <= self.seconds else None


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of `Retry-After` (RFC 9110, 10.2.3: seconds or a date); 0 without a usable one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def send(request: Request, budget: RetryBudget, *, is_idempotent: bool | None = None) -> Steps[Answer]:
    """Send a request, retry transient errors, and return the first other answer.

    `is_idempotent`: by default as RFC 9110 (9.2.2) says of the method. A request that is not idempotent is retried only
    if the service cannot have acted on it. Raises NotSentError, LostError or the last problem once the budget is used.
    """
    if is_idempotent is None:
        is_idempotent = request.method in ("GET", "HEAD", "PUT", "DELETE")
    retried_statuses = TRANSIENT_STATUSES if is_idempotent else UNPROCESSED_STATUSES
    while True:
        delay = 0.0
        failure: Exception
        try:
            answer: Answer = yield request
        except NotSentError as error:
            failure = error
        except LostError as error:
            if not is_idempotent:
                raise
            failure = error
        else:
            if answer.status not in retried_statuses:
                budget.reset()
                return answer
            failure, delay = answer.error(), retry_after(answer.headers)
        pause = budget.next_pause(delay)
        if pause is None:
            raise failure
        yield Pause(pause)


def expect(answer: Answer, kind: type[T]) -> T:
    """Return the body of a successful answer as a struct.

    Raises ProblemError if the answer is a problem, NoAnswerError if it is not Longshore's.
    """
    if answer.status >= 300:
        raise answer.error()
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError as error:
        raise NoAnswerError(f"the answer is not Longshore's: {error}") from None
