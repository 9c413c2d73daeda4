"""Violations of a segment have a JSON pointer; no text of a request becomes SQL."""

from typing import Any

import httpx2
import pytest

from tests.answers import violations
from tests.service import CHAIN, export_body

GOOD = {"field_name": "kind", "field_type": "keyword", "operator": "is", "value": "manual"}
DATE = {"field_name": "timestamp", "field_type": "date"}
AMOUNT = {"field_name": "amount", "field_type": "number"}


def segment(*rules: Any, **changes: Any) -> dict[str, Any]:
    return {
        "entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": list(rules), **changes,
    }  # fmt: skip


def create_with_segment(client: httpx2.Client, wanted: dict[str, Any]) -> httpx2.Response:
    return client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z", segment=wanted))


@pytest.mark.parametrize(
    ("wanted", "pointer", "hint"),
    [
        (segment(entity="peopel"), "/entity", 'did you mean "people"?'),
        (segment(index="users"), "/index", "expected \"wallet-ledger\", the target's index"),
        (segment(join="both"), "/join", 'expected "all" or "any"'),
        (segment(chain_id=9), "/chain_id", "expected 1764"),
        (segment(chain_id="1764"), "/chain_id", "expected an integer, got a string"),
        (segment(rules={}), "/rules", "expected an array, got an object"),
        (segment(join="any"), "/rules", "matches nothing"),
        (segment(*[GOOD] * 101), "/rules", "at most 100"),
        (segment(colour="red"), "/colour", "unknown key"),
        (segment("kind"), "/rules/0", "expected an object, got a string"),
        (segment(GOOD, {**GOOD, "field_name": "kin"}), "/rules/1/field_name", 'did you mean "kind"?'),
        (segment({**GOOD, "field_name": "chain_id"}), "/rules/0/field_name", "no field of this index"),
        (segment({**GOOD, "field_name": "kind\" = 'x' or \"kind"}), "/rules/0/field_name", "no field of this index"),
        (segment({**GOOD, "field_type": "text"}), "/rules/0/field_type", 'expected "keyword"'),
        (segment({**GOOD, "operator": "contain"}), "/rules/0/operator", 'did you mean "contains"?'),
        (segment({**GOOD, "operator": "is_date"}), "/rules/0/operator", "use one of is, is_not, is_one_of"),
        (segment({**AMOUNT, "operator": "contains", "value": 1}), "/rules/0/operator", "cannot be used on a number"),
        (segment({**GOOD, "value": 5}), "/rules/0/value", "expected a string"),
        (segment({**GOOD, "value": None}), "/rules/0/value", 'is required by "is"'),
        (segment({**GOOD, "value": "a\x00b"}), "/rules/0/value", "U+0000"),
        (segment({**GOOD, "value": "x" * 1001}), "/rules/0/value", "at most 1000"),
        (segment({**GOOD, "valeu": "x"}), "/rules/0/valeu", 'did you mean "value"?'),
        (segment({**GOOD, "min": 1}), "/rules/0/min", 'is not used by "is"'),
        (segment({**GOOD, "nested": True}), "/rules/0/nesting_path", "no nested fields"),
        (segment({**AMOUNT, "operator": "is", "value": "5"}), "/rules/0/value", "expected a number"),
        (segment({**AMOUNT, "operator": "is", "value": True}), "/rules/0/value", "expected a number"),
        (segment({**AMOUNT, "operator": "is", "value": 10**200}), "/rules/0/value", "at most 100 digits"),
        (segment({**AMOUNT, "operator": "is_between_number", "min": 2, "max": 1}), "/rules/0/max", "lies before min"),
        (segment({**AMOUNT, "operator": "is_between_number", "min": 2}), "/rules/0/max", "is required"),
        (segment({**DATE, "operator": "is_date", "value": "26.5.2026"}), "/rules/0/value", "expected a date"),
        (segment({**DATE, "operator": "is_date", "value": 20260526}), "/rules/0/value", "expected a date"),
        (segment({**DATE, "operator": "is_date", "value": "2026-05-26T12:00:00"}), "/rules/0/value", "offset"),
        (segment({**DATE, "operator": "is_after_date", "end_date": "2026-05-26"}), None, ""),
        (
            segment({**DATE, "operator": "is_between_date", "start_date": "2026-05-26", "end_date": "2026-05-25"}),
            "/rules/0/end_date", "lies before start_date",
        ),
        (
            segment({**DATE, "operator": "relative_less_than", "time_factor": "days", "time_amount": 1}),
            "/rules/0/time_factor", "expected one of minute, hour, day, week, month, year",
        ),
        (
            segment({**DATE, "operator": "relative_less_than", "time_factor": "day", "time_amount": 0}),
            "/rules/0/time_amount", "expected 1 to",
        ),
        (
            segment({**DATE, "operator": "relative_more_than", "time_factor": "year", "time_amount": 10**9}),
            "/rules/0/time_amount", "expected 1 to 1000",
        ),
        (
            segment({**DATE, "operator": "relative_more_than", "time_factor": "day", "time_amount": 1.5}),
            "/rules/0/time_amount", "expected an integer",
        ),
    ],
)  # fmt: skip
def test_a_violation_of_a_segment_names_its_place(
    idle_client: httpx2.Client, wanted: dict[str, Any], pointer: str | None, hint: str
) -> None:
    found = violations(create_with_segment(idle_client, wanted))
    if pointer is None:
        assert set(found) == {"/trigger/segment/rules/0/start_date", "/trigger/segment/rules/0/end_date"}
        return
    assert list(found) == [f"/trigger/segment{pointer}"]
    assert hint in found[f"/trigger/segment{pointer}"]


def test_violations_of_several_rules_are_reported_together(idle_client: httpx2.Client) -> None:
    wanted = segment({**GOOD, "field_name": "kin"}, GOOD, {**AMOUNT, "operator": "is"}, chain_id=9)
    assert set(violations(create_with_segment(idle_client, wanted))) == {
        "/trigger/segment/chain_id", "/trigger/segment/rules/0/field_name", "/trigger/segment/rules/2/value",
    }  # fmt: skip


def test_a_valid_segment_is_returned_unchanged_with_its_times_in_utc(idle_client: httpx2.Client) -> None:
    rules: list[dict[str, Any]] = [
        GOOD,
        {**DATE, "operator": "is_after_date", "start_date": "2026-05-26T14:00:00+02:00"},
        {**DATE, "operator": "is_date", "value": "2026-05-26"},
        {**DATE, "operator": "relative_less_than", "time_factor": "day", "time_amount": 1},
        {**AMOUNT, "operator": "is_between_number", "min": -0.5, "max": 12345678901234567890},
    ]
    answer = create_with_segment(idle_client, segment(*rules))
    assert answer.status_code == 201, answer.text
    rules[1]["start_date"] = "2026-05-26T12:00:00Z"
    assert answer.json()["trigger"]["segment"] == segment(*rules)
