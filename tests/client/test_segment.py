"""The builder of segments: what it makes the service takes, and what the service refuses it refuses first."""

import operator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore import F, Longshore
from longshore.api.bodies import BODY
from longshore.api.indexes import _index
from longshore.client import api_types
from longshore.client.connection import ENCODER as SENT
from longshore.client.errors import SegmentError
from longshore.client.model import Index
from longshore.client.segment import MAX_AMOUNTS, WINDOWS, Rules
from longshore.exports import catalog
from longshore.exports.segments import operators
from longshore.exports.segments import rules as segments
from longshore.exports.segments.rules import Segment
from tests import service as services
from tests.service import CHAIN

CATALOG = catalog.load("")
LEDGER = msgspec.convert(msgspec.to_builtins(_index("wallet-ledger", CATALOG["wallet-ledger"])), Index)
BASKETS = msgspec.convert(msgspec.to_builtins(_index("transactions", CATALOG["transactions"])), Index)
USERS = msgspec.convert(msgspec.to_builtins(_index("users", CATALOG["users"])), Index)


def taken(rules: Rules, index: Index) -> api_types.Segment:
    """The segment, which the service must find nothing wrong with."""
    found = rules.segment(index, 1)
    read = BODY.decode(SENT.encode(found))
    assert segments.check_index_and_rules(msgspec.convert(read, Segment), CATALOG, "") == []
    return found


def test_the_example_is_what_the_api_takes() -> None:
    segment = taken(F("timestamp").within(days=1) & (F("amount") >= 10), LEDGER)
    assert segment == {
        "entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1, "rules": [
            {"field_name": "timestamp", "field_type": "date", "operator": "relative_less_than",
             "time_factor": "day", "time_amount": 1},
            {"field_name": "amount", "field_type": "number", "operator": "is_between_number", "min": 10, "max": 1e100},
        ],
    }  # fmt: skip


NOW = datetime(2026, 5, 26, 12, tzinfo=timezone(timedelta(hours=2)))
MADE: list[tuple[str, Rules]] = [
    ("is", F("kind") == "manual"),
    ("is", F("amount") == Decimal("0.10")),
    ("is_not", F("kind") != "manual"),
    ("is_one_of", F("kind").is_one_of(["manual", "expiry"])),
    ("is_empty", F("comment").is_empty()),
    ("is_not_empty", F("comment").is_not_empty()),
    ("contains", F("comment").contains("50 %")),
    ("does_not_contain", F("comment").does_not_contain("x")),
    ("starts_with", F("member_number").starts_with("00")),
    ("is_date", F("timestamp").on(date(2026, 5, 26))),
    ("is_after_date", F("timestamp") > NOW),
    ("is_before_date", F("timestamp") < "2026-05-26"),
    ("is_between_date", F("timestamp").between("2026-05-01", "2026-05-31T23:59:59Z")),
    ("is_after_date", F("timestamp") >= NOW),
    ("is_before_date", F("timestamp") <= NOW),
    ("is_in_window", F("timestamp").in_window("yesterday", "Europe/Amsterdam")),
    ("is_in_interval", F("timestamp").in_interval()),
    ("relative_less_than", F("timestamp").within(hours=24)),
    ("relative_more_than", F("timestamp").older_than(months=3)),
    ("is_between_number", F("amount").between(0, 1.5)),
    ("is_between_number", F("amount") <= 2**70),
    ("is_greater_than", F("amount") > 0),
    ("is_less_than", F("amount") < 0),
]


@pytest.mark.parametrize(("name", "rule"), MADE, ids=[f"{n} {made[0]}" for n, made in enumerate(MADE)])
def test_every_operator_can_be_made(name: str, rule: Rules) -> None:
    assert taken(rule, LEDGER)["rules"][0]["operator"] == name


def test_no_operator_is_left_out() -> None:
    assert {name for name, _ in MADE} == set(operators.OPERATORS)
    assert set(operators.WINDOWS) == WINDOWS
    assert {unit.removesuffix("s"): most for unit, most in MAX_AMOUNTS.items()} == operators.MAX_AMOUNTS


def test_a_nested_field_is_named_with_its_path() -> None:
    [rule] = taken(F("items.sku") == "00000042", BASKETS)["rules"]
    assert (rule["field_name"], rule["nested"], rule["nesting_path"]) == ("items.sku", True, "items")


def test_rules_are_joined_by_all_or_by_any_and_never_by_both() -> None:
    a, b, c = F("amount") > 1, F("kind") == "manual", F("comment").is_empty()
    assert taken(a & b & c, LEDGER)["join"] == "all"
    assert taken((a | b) | c, LEDGER)["join"] == "any"
    assert len(taken(a | (b | c), LEDGER)["rules"]) == 3
    for left, right, join in ((a & b, c, operator.or_), (a, b & c, operator.or_), (a & b, b | c, operator.and_)):
        with pytest.raises(SegmentError, match="alone"):
            join(left, right)


def test_python_words_for_truth_are_refused() -> None:
    a, b = F("amount") > 1, F("amount") < 5
    for wrong in (lambda: a and b, lambda: a or b, lambda: not a, lambda: 1 < F("amount") < 5):
        with pytest.raises(SegmentError, match="&"):
            wrong()


WORDS = [f"word {number}" for number in range(1000)]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda: F("amuont") > 1, "no field 'amuont'"),
        (lambda: F("items.prize") > 1, "no field"),
        (lambda: F("amount", type="text") == "x", "is a number field"),
        (lambda: F("amount").contains("1"), "cannot be used on"),
        (lambda: F("kind") > 1, "cannot be used on"),
        (lambda: F("timestamp") == "2026-05-26", "cannot be used on"),
        (lambda: F("amount") == "1", "expected a number"),
        (lambda: F("amount") == True, "expected a number"),  # noqa: E712
        (lambda: F("amount") > Decimal("NaN"), "100 digits"),
        (lambda: F("kind") == 1, "expected a string"),
        (lambda: F("kind") == "x" * 1001, "characters"),
        (lambda: F("kind").is_one_of([]), "1 to 1000 values"),
        (lambda: F("kind").is_one_of(WORDS) & F("kind").is_one_of(WORDS) & F("kind").is_one_of(["x"]), "at most 2000"),
        (lambda: F("timestamp") > "yesterday", "expected a date"),
        (lambda: F("timestamp") > datetime(2026, 5, 26), "no time zone"),
        (lambda: F("timestamp") > "2026-05-26T12:00:00", "expected a date"),
        (lambda: F("timestamp") > datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "expected a date"),
        (lambda: F("timestamp").between("2026-05-26", "2026-05-25"), "is less than"),
        (lambda: F("amount").between(2, 1), "is less than"),
        (lambda: F("timestamp").within(), "expected one of minutes"),
        (lambda: F("timestamp").within(days=1, hours=1), "expected one of minutes"),
        (lambda: F("timestamp").within(days=0), "whole number"),
        (lambda: F("timestamp").within(years=1001), "whole number"),
        (lambda: F("timestamp").in_window("tomorrow"), "is not a window"),  # type: ignore[arg-type]
        (lambda: F("timestamp").in_window("today", "Mars"), "time zone"),
    ],
)
def test_what_the_service_would_refuse_is_refused(rule: Any, words: str) -> None:
    with pytest.raises(SegmentError, match=words):
        rule().segment(LEDGER, 1)


VALUES = st.one_of(
    st.text(max_size=5), st.integers(), st.floats(), st.decimals(), st.booleans(), st.none(),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(seconds=1))])),
    st.dates(), st.sampled_from(["2026-05-26", "2026-05-26T12:00:00Z", "2026-02-30", "0000-01-01"]),
)  # fmt: skip


@given(
    index=st.sampled_from([LEDGER, BASKETS, USERS]),
    data=st.data(),
    method=st.sampled_from(
        ["__eq__", "__ne__", "__gt__", "__lt__", "__ge__", "__le__", "between", "contains", "starts_with", "is_empty",
         "does_not_contain", "is_one_of", "on", "after", "before"]
    ),
)  # fmt: skip
def test_whatever_is_not_refused_here_is_not_refused_there(index: Index, data: st.DataObject, method: str) -> None:
    names = [field.name for field in index.fields] + [
        f"{field.name}.{inner.name}" for field in index.fields for inner in field.fields
    ]
    count = {"is_empty": 0, "between": 2}.get(method, 1)
    operands: list[Any] = [data.draw(VALUES) for _ in range(count)]
    if method == "is_one_of":
        operands = [data.draw(st.lists(VALUES, max_size=3))]
    try:
        rules = getattr(F(data.draw(st.sampled_from(names))), method)(*operands)
        rules.segment(index, 1)
    except SegmentError:
        return
    taken(rules, index)


def test_types_come_from_the_service_and_the_rules_select_rows(longshore: Longshore) -> None:
    tried = longshore.segments.preview("wallet-ledger", (F("amount") >= 10) & F("comment").is_empty())
    more = longshore.segments.preview("wallet-ledger", F("amount") >= 10)
    assert tried.rows is not None
    assert more.rows is not None
    assert 0 < tried.rows <= more.rows < 2000
    with pytest.raises(SegmentError):
        longshore.exports.create("wallet-ledger", where=F("nothing") == 1)


@pytest.mark.parametrize(
    ("rule", "condition"),
    [
        (F("at") >= "9999-12-31", "at >= '9999-12-31 00:00Z'"),
        (F("at") >= datetime(2026, 5, 26, 14, 0, 0, 1, UTC), "at >= '2026-05-26 14:00:00.000001Z'"),
        (F("at") <= date(2026, 5, 26), "at < '2026-05-27 00:00Z'"),
        (F("at") <= "0001-01-01T00:00:00Z", "at <= '0001-01-01 00:00Z'"),
        (F("at") >= "0001-01-01", "at >= '0001-01-01 00:00Z' and at < '10000-01-01 00:00Z'"),
        (F("at") <= date(9999, 12, 31), "at >= '0001-01-01 00:00Z' and at < '10000-01-01 00:00Z'"),
        (F("day") >= date(2021, 2, 28), "day >= '2021-02-28'"),
        (F("day") <= "2021-02-28", "day <= '2021-02-28'"),
    ],
)
def test_comparisons_of_dates_are_those_of_postgresql_infinity_included(
    odd_values_service: services.Longshore, rule: Rules, condition: str
) -> None:
    [row] = odd_values_service.sql(
        f"select count(*) as rows from odd.values where chain_id = $1 and {condition}", CHAIN
    )
    with Longshore(odd_values_service.address, odd_values_service.token(), chain=CHAIN) as client:
        assert client.segments.preview("odd", rule).rows == row["rows"] > 0
