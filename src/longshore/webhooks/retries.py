"""The pauses before the next attempt of a webhook delivery."""

import random
import re

from longshore.http_dates import parse_http_date

# After the first, second, … failure; about a day altogether. After the last one the delivery has failed.
PAUSE_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
MAX_RETRY_AFTER_SECONDS = 86_400.0
DELAY = re.compile("[0-9]+")


def pause_seconds(attempts: int) -> float | None:
    """Return the seconds until the next attempt after so many that failed; None if there is no next one.

    Up to a tenth more or less, so that the deliveries to a receiver that was away do not come all at once.
    """
    if attempts > len(PAUSE_SECONDS):
        return None
    return PAUSE_SECONDS[attempts - 1] * random.uniform(0.9, 1.1)  # noqa: S311  # no secret


def retry_after_seconds(text: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` field asks for, at most MAX_RETRY_AFTER_SECONDS; None if it is invalid.

    `now`: seconds since 1970. The field has seconds or a date (RFC 9110, section 10.2.3).
    """
    if text is None:
        return None
    if DELAY.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    date = parse_http_date(text)
    return None if date is None else min(max(date.timestamp() - now, 0.0), MAX_RETRY_AFTER_SECONDS)
