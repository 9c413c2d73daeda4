"""Times of a trigger in the API's form."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from longshore.client.errors import ArgumentError, NoAnswerError
from longshore.client.http_dates import parse_http_date

LONG_AGO = "2000-01-01T00:00:00+00:00"
"""As `once` it means now, by the clock of the service, and it is the same in every request."""


class Times(msgspec.Struct, frozen=True):
    """The answer to a preview of a schedule."""

    times: list[datetime]


def trigger_time(name: str, time: datetime) -> str:
    """Return a time of a parameter. Raises ArgumentError for one without a time zone."""
    if not isinstance(time, datetime):
        raise ArgumentError(f"`{name}`: expected a datetime with a time zone, got {time!r}")
    if time.tzinfo is None:
        raise ArgumentError(f"`{name}` has no time zone; give it one, such as datetime.UTC")
    return time.isoformat()


def service_time(headers: Mapping[str, str]) -> str:
    """Return the time at which an answer was made, by the clock of the service."""
    date = parse_http_date(headers.get("date", ""))
    if date is None:
        raise NoAnswerError("the service did not say what time it is; give `at`")
    return date.isoformat()
