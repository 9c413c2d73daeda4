"""The lines of the form without scripts, as rules of a segment."""

from typing import Any

import msgspec
import pytest

from longshore.console.rule_form import choices, line_of, segment_of
from longshore.exports.catalog import load
from longshore.exports.segments.operators import OPERATORS
from longshore.exports.segments.rules import Segment, check_index_and_rules

CATALOG = load()
FIELDS = {
    "date": "timestamp",
    "keyword": "type",
    "text": "notes",
    "number": "total",
    "boolean": "items.returned",
}
VALUES = {
    "start_date": ("2026-05-01", "2026-05-02"),
    "end_date": ("2026-05-01", ""),
    "min": ("1", "2.5"),
    "window": ("last month", ""),
    "time_factor": ("3", "days"),
}
PAIRS = [(name, kind.value) for name, operator in OPERATORS.items() for kind in operator.types]


def line(field: str, operator: str, value: str, second: str = "") -> list[tuple[str, str]]:
    values = {"field": field, "operator": operator, "value": value, "second": second}
    return [(f"rule-{name}", text) for name, text in values.items()]


@pytest.mark.parametrize(("operator", "kind"), PAIRS)
def test_line_becomes_a_valid_rule_of_each_operator_and_type(operator: str, kind: str) -> None:
    usual = {"date": "2026-05-01", "number": "5", "boolean": "true"}.get(kind, "x")
    value, second = VALUES.get((*OPERATORS[operator].operands, "value")[0], (usual, ""))
    made = segment_of(line(FIELDS[kind], operator, value, second), "transactions", CATALOG["transactions"], 1764)
    assert check_index_and_rules(msgspec.convert(made, Segment), CATALOG, "") == []


def test_value_in_double_quotes_has_a_comma() -> None:
    index = CATALOG["transactions"]
    made = segment_of(line("type", "is_one_of", '"Smith, John", b ,"" , " c "'), "transactions", index, 1764)
    assert made is not None
    assert made["rules"][0]["value"] == ["Smith, John", "b", "", " c "]


def test_empty_lines_are_no_rules() -> None:
    index = CATALOG["transactions"]
    assert segment_of([*line("", "is", ""), *line("", "is", "")], "transactions", index, 1764) is None
    made = segment_of([*line("", "is", ""), *line("total", "is", "many")], "transactions", index, 1764)
    assert made is not None
    assert [rule["value"] for rule in made["rules"]] == ["many"]  # for the API to refuse
    assert {"total", "items.price"} <= set(choices(index))


@pytest.mark.parametrize(
    "pairs", [line("", "is", "x"), line("", "is_empty", ""), line("", "is", "", "x"), line("", "is", "x")[1:]]
)
def test_line_with_an_operator_or_a_value_and_no_field_is_left_to_the_api_to_refuse(
    pairs: list[tuple[str, str]],
) -> None:
    made = segment_of(pairs, "transactions", CATALOG["transactions"], 1764)
    violations = check_index_and_rules(msgspec.convert(made, Segment), CATALOG, "")
    assert violations[0].pointer == "/rules/0/field_name", violations


@pytest.mark.parametrize("text", ["1e9999999", "1e-9999999", "1e999999999999999999", "1e9999999999999999999", "nan"])
def test_number_of_a_line_that_no_rule_can_have_is_left_to_the_api_to_refuse(text: str) -> None:
    made = segment_of(line("total", "is", text), "transactions", CATALOG["transactions"], 1764)
    violations = check_index_and_rules(msgspec.convert(made, Segment), CATALOG, "")
    assert [violation.pointer for violation in violations] == ["/rules/0/value"]


def test_line_that_shows_a_rule_and_was_not_changed_stands_for_it() -> None:
    before: list[dict[str, Any]] = [
        {"field_name": "type", "field_type": "keyword", "operator": "is", "value": "two\nlines, \"one\""},
        {"field_name": "type", "field_type": "keyword", "operator": "is_one_of", "value": ["a, b", "", ' "c"', "d"]},
        {"field_name": "total", "field_type": "number", "operator": "is_one_of", "value": [2**53 + 1, 0.5]},
        {"field_name": "returned", "field_type": "boolean", "operator": "is", "value": False, "nested": True,
         "nesting_path": "items"},
        {"field_name": "gone", "field_type": "keyword", "operator": "is", "value": ""},
    ]  # fmt: skip
    pairs = []
    for rule in before:
        texts = line_of(rule)
        assert texts.pop("field_type")
        pairs.append(("rule-field", texts.pop("field")))
        pairs += [(f"rule-{name}", text.replace("\n", "")) for name, text in {**texts, "timezone": ""}.items()]
    made = segment_of(pairs, "transactions", CATALOG["transactions"], 1764, before)
    assert made is not None
    assert made["rules"] == before
    changed = [(name, text.replace("two", "three")) for name, text in pairs]
    made = segment_of(changed, "transactions", CATALOG["transactions"], 1764, before)
    assert made is not None
    assert made["rules"] == [{**before[0], "value": 'threelines, "one"'}, *before[1:]]
