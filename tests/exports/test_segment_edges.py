"""Rules at the edges: midnights that come twice or not at all, identifiers of any characters."""

from datetime import UTC, datetime

import pytest

from longshore.exports.segments.date_spans import interval_times
from longshore.exports.segments.rules import Rule
from longshore.tasks.model import Interval
from tests.exports.engine import index_over


def edges(window: str, timezone: str, began_at: datetime) -> tuple[str, str]:
    rule = Rule(field_name="at", field_type="date", operator="is_in_window", window=window, timezone=timezone)
    start, end = interval_times(rule, Interval(None, began_at))
    assert start is not None
    return f"{start:%Y-%m-%dT%H:%M}", f"{end:%Y-%m-%dT%H:%M}"


@pytest.mark.parametrize(
    ("window", "timezone", "began_at", "expected"),
    [
        ("today", "UTC", "2026-04-02T00:00", ("2026-04-02T00:00", "2026-04-03T00:00")),
        ("today", "Asia/Kolkata", "2026-04-02T18:30", ("2026-04-02T18:30", "2026-04-03T18:30")),
        ("yesterday", "Europe/Amsterdam", "2026-03-30T12:00", ("2026-03-28T23:00", "2026-03-29T22:00")),
        ("this_week", "UTC", "2026-04-05T23:59", ("2026-03-30T00:00", "2026-04-06T00:00")),
        ("last_week", "UTC", "2026-04-06T00:00", ("2026-03-30T00:00", "2026-04-06T00:00")),
        ("last_month", "Europe/Amsterdam", "2026-04-02T12:00", ("2026-02-28T23:00", "2026-03-31T22:00")),
        ("this_month", "UTC", "2024-02-29T12:00", ("2024-02-01T00:00", "2024-03-01T00:00")),
        ("last_quarter", "UTC", "2026-02-28T12:00", ("2025-10-01T00:00", "2026-01-01T00:00")),
        ("this_quarter", "UTC", "2026-08-31T12:00", ("2026-07-01T00:00", "2026-10-01T00:00")),
        ("last_year", "UTC", "2025-01-01T00:00", ("2024-01-01T00:00", "2025-01-01T00:00")),
        ("this_year", "UTC", "2024-12-31T00:00", ("2024-01-01T00:00", "2025-01-01T00:00")),
        # In the Azores the clock goes from 01:00 back to 00:00: the day begins with the first of the two midnights.
        ("today", "Atlantic/Azores", "2025-10-26T12:00", ("2025-10-26T00:00", "2025-10-27T01:00")),
        # In Cairo it goes from 00:00 to 01:00: the day has no midnight and begins at that moment.
        ("today", "Africa/Cairo", "2025-04-25T12:00", ("2025-04-24T22:00", "2025-04-25T21:00")),
    ],
)
def test_a_window_begins_and_ends_at_its_zones_midnights(
    window: str, timezone: str, began_at: str, expected: tuple[str, str]
) -> None:
    assert edges(window, timezone, datetime.fromisoformat(began_at).replace(tzinfo=UTC)) == expected


def quoted(relation: str) -> str:
    return index_over(relation).quoted_relation


def test_dollar_signs_of_a_quoted_identifier_are_escaped() -> None:
    # Within U&"…" a backslash is doubled and \0024 is the dollar sign.
    assert quoted('public."$1\\') == '"public".U&"""\\00241\\\\"'


def test_a_relation_in_double_quotes_may_have_dots_in_its_name() -> None:
    assert quoted("shop.orders") == '"shop"."orders"'
    assert quoted('shop."a.b"') == '"shop"."a.b"'
    assert quoted('"a.b"."say ""hi"""') == '"a.b"."say ""hi"""'
