"""When a failed delivery is tried again."""

import pytest

from longshore.webhooks.retries import PAUSE_SECONDS, pause_seconds, retry_after_seconds


def test_attempts_go_on_for_about_a_day_with_growing_pauses() -> None:
    pauses = [pause_seconds(tries) for tries in range(1, len(PAUSE_SECONDS) + 2)]
    assert pauses.pop() is None
    assert 20 * 3600 < sum(pause or 0 for pause in pauses) < 28 * 3600
    assert list(PAUSE_SECONDS) == sorted(PAUSE_SECONDS)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("7", 7), ("999999999", 86_400), ("9" * 26, 86_400), ("9" * 5000, 86_400), ("-1", None),
     ("1.5", None), ("soon", None), ("", None),
     ("Thu, 01 Jan 1970 00:02:00 GMT", 20), ("Thu, 01 Jan 1970 00:01:00 GMT", 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
     ("Thu, 99 Jan 1970 00:02:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_a_day_at_most(text: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(text, 100.0) == seconds
