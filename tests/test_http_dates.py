"""Dates of header fields are UTC, whatever the time zone of the machine."""

import time
from collections.abc import Iterator
from types import ModuleType

import pytest

from longshore import http_dates
from longshore.client import http_dates as client_http_dates
from longshore.client.errors import NoAnswerError
from longshore.client.retry import retry_after
from longshore.client.schedule import service_time
from longshore.webhooks.retries import retry_after_seconds

# The three forms of RFC 9110, section 5.6.7, of one second.
FORMS = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
SECONDS = 784111777.0


@pytest.fixture(autouse=True)
def _new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine has another time zone."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("text", FORMS)
@pytest.mark.parametrize("reader", [http_dates, client_http_dates], ids=["service", "client"])
def test_date_of_each_form_is_utc(reader: ModuleType, text: str) -> None:
    date = reader.parse_http_date(text)
    assert date is not None
    assert date.timestamp() == SECONDS


@pytest.mark.parametrize("text", FORMS)
def test_retry_after_with_a_date_of_each_form_is_the_seconds_until_then(text: str) -> None:
    assert retry_after_seconds(text, SECONDS - 7) == 7
    for now in ("Sun, 06 Nov 1994 08:49:30 GMT", "Sun Nov  6 08:49:30 1994"):
        assert retry_after({"retry-after": text, "date": now}) == 7


@pytest.mark.parametrize("text", FORMS)
def test_time_of_the_service_is_read_from_a_date_of_each_form(text: str) -> None:
    assert service_time({"date": text}) == "1994-11-06T08:49:37+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 99999999 08:49:37 GMT",
        "Fri, 31 Dec 9999 23:59:59 -0500",
    ],
)  # fmt: skip
def test_text_that_is_no_date_is_none(text: str) -> None:
    assert http_dates.parse_http_date(text) is client_http_dates.parse_http_date(text) is None
    with pytest.raises(NoAnswerError, match="did not say what time it is"):
        service_time({"date": text})
