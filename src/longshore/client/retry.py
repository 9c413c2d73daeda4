"""Retries of requests: which answers are retried, for how long, and after which pauses."""

import logging
import math
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from longshore.client.errors import ClientError, LostError, NoAnswerError, NotSentError
from longshore.client.http_dates import parse_http_date
from longshore.client.requests import Answer, Request

LOGGER = logging.getLogger("longshore.client")
QUIET_SECONDS = 2.0  # of failures before a warning says why nothing happens
MAX_PAUSE_SECONDS = 5.0  # between two tries
TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
UNPROCESSED_STATUSES = frozenset({429, 503})  # the service has not acted on the request


class RetryBudget:
    """The time that one operation may spend on retries: `pause` after each failure, `reset` after a success.

    `seconds`: counted from the first failure since the last success, however long its request took. `deadline`: the
    time of the monotonic clock at which no other try may begin. Pauses grow with each failure, with full jitter:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, seconds: float, deadline: float = math.inf) -> None:
        self._seconds = seconds
        self._deadline = deadline
        self._has_warned = False
        self._failures = 0
        self._failing_since: float | None = None
        self.is_past_deadline = False
        """Whether the last failure is final because of the deadline."""

    def reset(self) -> None:
        """Start the time anew, after a success."""
        self._failures = 0
        self._failing_since = None

    def pause(self, error: ClientError, retry_after: float = 0.0) -> float:
        """Return the seconds to wait before the next try, at least `retry_after`; raise the error if time is used up.

        Logs a warning with the error once, when failures have followed each other for two seconds.
        """
        self._failures += 1
        jitter = random.uniform(0, min(MAX_PAUSE_SECONDS, 0.1 * 2**self._failures))  # noqa: S311  # jitter is no secret
        pause = retry_after + jitter
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        left = min(self._failing_since + self._seconds, self._deadline) - now
        if pause > left:
            self.is_past_deadline = now + pause > self._deadline
            raise error
        if now + pause - self._failing_since > QUIET_SECONDS and not self._has_warned:
            self._has_warned = True
            LOGGER.warning("%s; trying again for %.0f s at most", error, left)
        return pause


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of `Retry-After` (RFC 9110, 10.2.3: seconds or a date); 0 without a usable one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    date = parse_http_date(value)
    # By the clock of the service, where its answer has that: the one of this machine may be wrong.
    now = parse_http_date(headers.get("date", "")) or datetime.now(UTC)
    return 0.0 if date is None else max(0.0, (date - now).total_seconds())


class Retries:
    """The decisions about one request: whether a failure is retried, and after which pause.

    `is_idempotent`: by default as RFC 9110 (9.2.2) says of the method. A request that is not idempotent is retried only
    if the service cannot have acted on it.
    """

    def __init__(self, request: Request, budget: RetryBudget, is_idempotent: bool | None) -> None:
        if is_idempotent is None:
            is_idempotent = request.method in ("GET", "HEAD", "PUT", "DELETE")
        self._is_idempotent = is_idempotent
        self._statuses = TRANSIENT_STATUSES if is_idempotent else UNPROCESSED_STATUSES
        self._budget = budget
        self._gone_statuses = (404, 401) if request.ends_own_token else (404,) if request.method == "DELETE" else ()
        self._may_have_acted = False

    def pause_after_error(self, error: NoAnswerError) -> float:
        """Return the seconds to wait after an error; raise it if it is not to be retried."""
        if isinstance(error, NotSentError) or (isinstance(error, LostError) and self._is_idempotent):
            self._may_have_acted |= isinstance(error, LostError)
            return self._budget.pause(error)
        raise error

    def pause_after_answer(self, answer: Answer) -> float | None:
        """Return the seconds to wait after an answer; None for one that counts."""
        if answer.status not in self._statuses:
            self._budget.reset()
            return None
        self._may_have_acted |= answer.status not in UNPROCESSED_STATUSES
        return self._budget.pause(answer.error(), retry_after(answer.headers))

    def has_deleted(self, answer: Answer) -> bool:
        """Return whether an answer says that an earlier try, whose answer was lost, has deleted what it names."""
        return answer.status in self._gone_statuses and self._may_have_acted
