"""The conditions of `--where`: their grammar, the rules they make, and errors that point at a character."""

from typing import Any

import pytest

from longshore.cli.where import ConditionError, read
from longshore.client.model import Field, Index

FIELDS = [Field("amount", "number"), Field("currency", "keyword"), Field("note", "text"), Field("active", "boolean"),
          Field("timestamp", "date"), Field("name of it", "keyword"),
          Field("items", "nested", fields=[Field("sku", "keyword")])]  # fmt: skip
INDEX = Index("ledger", "", "timestamp", "", FIELDS)


def rule(text: str) -> dict[str, Any]:
    """The rule of a condition, with numbers as text, as `Decimal` compares `1.0` and `1.00` as equal."""
    [found] = read(text).rule(INDEX).segment(INDEX, 1)["rules"]
    shown = {key: value if isinstance(value, (str, bool, list)) else str(value) for key, value in found.items()}
    return {key: value for key, value in shown.items() if key not in ("field_name", "field_type")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount > 10", {"operator": "is_greater_than", "value": "10"}),
        ("amount>10", {"operator": "is_greater_than", "value": "10"}),
        ("  amount  <  -1.50  ", {"operator": "is_less_than", "value": "-1.50"}),
        ("amount >= 12345678901234567890.01",
         {"operator": "is_between_number", "min": "12345678901234567890.01", "max": "1e+100"}),
        ("amount = 1e3", {"operator": "is", "value": "1E+3"}),
        ("amount is_between_number 1, 2.0", {"operator": "is_between_number", "min": "1", "max": "2.0"}),
        ("currency = EUR", {"operator": "is", "value": "EUR"}),
        ("currency != ''", {"operator": "is_not", "value": "''"}),
        ('currency != ""', {"operator": "is_not", "value": ""}),
        ("currency is 's-Hertogenbosch, NL", {"operator": "is", "value": "'s-Hertogenbosch, NL"}),
        ('currency = "  a ""b"" "', {"operator": "is", "value": '  a "b" '}),
        ("currency = is_one_of", {"operator": "is", "value": "is_one_of"}),
        ('currency is_one_of EUR, "A, B",USD', {"operator": "is_one_of", "value": ["EUR", "A, B", "USD"]}),
        ("note contains gift = wrap", {"operator": "contains", "value": "gift = wrap"}),
        ("active = true", {"operator": "is", "value": True}),
        ("note is_empty", {"operator": "is_empty"}),
        ("timestamp > 2026-05-01", {"operator": "is_after_date", "start_date": "2026-05-01"}),
        ("timestamp = 2026-05-01", {"operator": "is_date", "value": "2026-05-01"}),
        ("timestamp < 2026-05-01T02:00:00+02:00",
         {"operator": "is_before_date", "end_date": "2026-05-01T02:00:00+02:00"}),
        ("timestamp is_between_date 2026-05-01,2026-05-31",
         {"operator": "is_between_date", "start_date": "2026-05-01", "end_date": "2026-05-31"}),
        ("timestamp relative_less_than 7 days",
         {"operator": "relative_less_than", "time_factor": "day", "time_amount": "7"}),
        ("timestamp relative_more_than 1month",
         {"operator": "relative_more_than", "time_factor": "month", "time_amount": "1"}),
        ("timestamp is_in_window last_month", {"operator": "is_in_window", "window": "last_month"}),
        ("timestamp is_in_interval", {"operator": "is_in_interval"}),
        ('"name of it" starts_with x', {"operator": "starts_with", "value": "x"}),
        ("items.sku = 42", {"operator": "is", "value": "42", "nested": True, "nesting_path": "items"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_condition_becomes_the_rule_of_the_api(text: str, expected: dict[str, Any]) -> None:
    assert rule(text) == expected


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("", 1, "expected the name of a field"),
        ("> 10", 1, "expected the name of a field"),
        ("amout > 10", 1, "ledger has no field 'amout'"),
        ("amount", 7, "expected an operator: =, !=, >, <, is"),
        ("amount => 10", 8, "expected an operator"),
        ("amount greater 10", 8, "expected an operator"),
        ("amount >", 9, "> takes a value"),
        ("amount > ten", 10, "expected a number, got 'ten'"),
        ("amount > 1_000", 10, "expected a number"),
        ("amount > NaN", 10, "expected a number"),
        ("amount > \N{FULLWIDTH DIGIT ONE}", 10, "expected a number"),
        ("amount contains 1", 8, "amount is a number field, which takes is,"),
        ("amount is_between_number 1", 26, "takes two values with a comma between them"),
        ("amount is_between_number 2,1", 26, "1 is less than 2"),
        ("amount is_one_of 1,,2", 20, "expected a value"),
        ("currency is_one_of EUR,", 24, "expected a value"),
        ('currency = "EUR', 12, "this quote is not closed"),
        ('currency = "EUR" USD', 18, "expected the end"),
        ('currency is_one_of "EUR" USD', 26, "expected a comma"),
        ("currency is_empty EUR", 19, "is_empty takes no value"),
        ("active = yes", 10, "expected true or false, got 'yes'"),
        ("timestamp > tomorrow", 13, "expected a date (2026-05-26)"),
        ("timestamp relative_less_than soon", 30, "expected a time such as 7 days"),
        ("timestamp is_in_window last_moon", 24, "'last_moon' is not a window"),
        ("currency = \x1b[2J\x00", 12, "without U+0000"),
    ],
)  # fmt: skip
def test_error_points_at_the_character(text: str, at: int, words: str) -> None:
    with pytest.raises(ConditionError) as caught:
        read(text).rule(INDEX)
    message, shown, mark = str(caught.value).split("\n")
    assert words in message
    assert message.endswith(f", at character {at}:")
    assert mark == " " * (at + 1) + "^"
    assert "\x1b" not in shown


def test_mark_stands_below_its_character_after_wide_ones() -> None:
    with pytest.raises(ConditionError) as caught:
        read('"\N{CJK UNIFIED IDEOGRAPH-6C34}" ~ 1')
    assert str(caught.value).split("\n")[2] == " " * 7 + "^"
