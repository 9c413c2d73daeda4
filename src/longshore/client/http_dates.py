"""Dates in the header fields of HTTP. The service has a reader of its own: the client imports nothing of it."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_http_date(text: str) -> datetime | None:
    """Return the date of a field in one of the three forms of RFC 9110, section 5.6.7, in UTC; None for another text.

    The form of C's `asctime` names no zone: it is UTC, as all dates of HTTP.
    """
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
