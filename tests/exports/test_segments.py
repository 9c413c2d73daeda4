"""Segments: each operator selects the rows that a plain reading of its rule selects, and no others."""

import asyncio
import calendar
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from longshore.exports import catalog
from longshore.exports.catalog import Index
from longshore.exports.row_query import row_query
from longshore.exports.segments import rules as segment
from longshore.exports.segments.rules import Rule, Segment
from longshore.tasks.model import Interval
from tests import odd_values_table
from tests.service import Longshore

CHAIN = 1765
WALLET = catalog.load()["wallet-ledger"]
BEGAN = datetime(2026, 5, 22, 12, 30, 45, 500_000, UTC)

Row = dict[str, Any]
Plain = Callable[[Row], bool]


def rule(field: str, kind: str, operator: str, **operands: Any) -> Rule:
    return Rule(field, kind, operator, **operands)


def segment_with(index: str, join: str, *rules: Rule) -> Segment:
    return Segment("people", index, join, CHAIN, list(rules))  # type: ignore[arg-type]


def selected(url: str, index: Index, chosen: Segment) -> set[int]:
    """Return the ids of the rows that a segment selects in the real database."""
    assert segment.check_rules(chosen, index, "") == []

    async def run() -> set[int]:
        connection = await asyncpg.connect(url)
        try:
            chain = CHAIN if index is WALLET else odd_values_table.CHAIN
            source = await row_query(connection, index, chain, chosen, Interval(None, BEGAN))
            return {row["id"] for row in await connection.fetch(f"select id {source.sql}", *source.values)}
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def ledger(service: Longshore) -> list[Row]:
    """Return the rows of chain 1765."""
    return [dict(row) for row in service.sql(f"select * from loyalty.wallet_ledger where chain_id = {CHAIN}")]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Return the index of the unusual values."""
    path: Path = odd_values_table.write_catalog(tmp_path_factory.mktemp("catalog"))
    return catalog.load(str(path))["odd"]


def before(**ago: int) -> datetime:
    """Return a time before the run began, months by the calendar."""
    months = ago.pop("months", 0) + 12 * ago.pop("years", 0)
    year, month = divmod(BEGAN.year * 12 + BEGAN.month - 1 - months, 12)
    day = min(BEGAN.day, calendar.monthrange(year, month + 1)[1])
    return BEGAN.replace(year=year, month=month + 1, day=day) - timedelta(**ago)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


TITLE = "contributing_campaign_title"
CASES: list[tuple[Rule, Plain]] = [
    (rule("kind", "keyword", "is", value="manual"), lambda r: r["kind"] == "manual"),
    (rule("kind", "keyword", "is", value="Manual"), lambda r: r["kind"] == "Manual"),
    (rule("kind", "keyword", "is_not", value="manual"), lambda r: r["kind"] != "manual"),
    (rule("kind", "keyword", "contains", value="em"), lambda r: "em" in r["kind"]),
    (rule("kind", "keyword", "contains", value=""), lambda _: True),
    (rule("kind", "keyword", "does_not_contain", value="e"), lambda r: "e" not in r["kind"]),
    (rule("currency_symbol", "keyword", "is", value="€"), lambda r: r["currency_symbol"] == "€"),
    (rule(TITLE, "text", "is", value="BIRTHDAY"), lambda r: (r[TITLE] or "").lower() == "birthday"),
    (rule(TITLE, "text", "is_not", value="birthday"), lambda r: r[TITLE] is not None and r[TITLE] != "Birthday"),
    (rule(TITLE, "text", "contains", value="ÉTÉ"), lambda r: r[TITLE] is not None and "Été" in r[TITLE]),
    (rule(TITLE, "text", "contains", value="5%"), lambda r: r[TITLE] is not None and "5%" in r[TITLE]),
    (rule(TITLE, "text", "contains", value="%"), lambda r: r[TITLE] is not None and "%" in r[TITLE]),
    (rule(TITLE, "text", "contains", value="_"), lambda _: False),
    (
        rule(TITLE, "text", "does_not_contain", value="a"),
        lambda r: r[TITLE] is not None and "a" not in r[TITLE].lower(),
    ),
    (rule("comment", "text", "is", value=""), lambda r: r["comment"] == ""),
    (rule("comment", "text", "is_not", value=""), lambda r: bool(r["comment"])),
    (rule("amount", "number", "is", value=-1.06), lambda r: float(r["amount"]) == -1.06),
    (rule("amount", "number", "is_not", value=-1.06), lambda r: float(r["amount"]) != -1.06),
    (rule("amount", "number", "is_between_number", min=-5, max=20.25), lambda r: -5 <= float(r["amount"]) <= 20.25),
    (rule("amount", "number", "is_between_number", min=0.78, max=0.78), lambda r: float(r["amount"]) == 0.78),
    (rule("mutator_id", "number", "is_not", value=70), lambda r: r["mutator_id"] not in (None, 70)),
    (rule("mutator_id", "number", "is_between_number", min=70, max=72), lambda r: 70 <= (r["mutator_id"] or 0) <= 72),
    (
        rule("timestamp", "date", "is_date", value="2025-03-30"),
        lambda r: r["timestamp"].date() == at(2025, 3, 30).date(),
    ),
    (
        rule("timestamp", "date", "is_date", value="2025-03-30T01:30:00+02:00"),
        lambda r: r["timestamp"].date() == at(2025, 3, 29).date(),
    ),
    (rule("timestamp", "date", "is_after_date", start_date="2025-06-01"), lambda r: r["timestamp"] >= at(2025, 6, 2)),
    (
        rule("timestamp", "date", "is_before_date", end_date="2025-06-01T12:00:00.5-03:30"),
        lambda r: r["timestamp"] < at(2025, 6, 1, 15, 30, 0, 500_000),
    ),
    (
        rule("timestamp", "date", "is_between_date", start_date="2025-01-01", end_date="2025-02-01T00:00:00Z"),
        lambda r: at(2025, 1, 1) <= r["timestamp"] <= at(2025, 2, 1),
    ),
]

FACTORS: list[tuple[str, int, dict[str, int]]] = [
    ("minute", 90, {"minutes": 90}), ("hour", 30, {"hours": 30}), ("day", 3, {"days": 3}), ("week", 2, {"weeks": 2}),
    ("month", 3, {"months": 3}), ("year", 1, {"years": 1}),
]  # fmt: skip
for factor, amount, ago in FACTORS:
    limit = before(**ago)
    CASES += [
        (
            rule("timestamp", "date", "relative_less_than", time_factor=factor, time_amount=amount),
            lambda r, limit=limit: limit <= r["timestamp"] < BEGAN,  # type: ignore[misc]
        ),
        (
            rule("timestamp", "date", "relative_more_than", time_factor=factor, time_amount=amount),
            lambda r, limit=limit: r["timestamp"] < limit,  # type: ignore[misc]
        ),
    ]


def shown(case: object) -> str:
    return f"{case.operator} on {case.field_type}" if isinstance(case, Rule) else ""


@pytest.mark.parametrize(("chosen", "plain"), CASES, ids=shown)
def test_an_operator_selects_what_a_plain_reading_selects(
    service: Longshore, ledger: list[Row], chosen: Rule, plain: Plain
) -> None:
    expected = {row["id"] for row in ledger if plain(row)}
    assert selected(service.url, WALLET, segment_with("wallet-ledger", "all", chosen)) == expected
    never = chosen.value in ("Manual", "_")
    always = chosen.value == ""
    assert (len(expected) == 0) == never, "the case would show nothing"
    assert always or len(expected) < len(ledger), "the case would show nothing"


@pytest.mark.parametrize("join", ["all", "any"])
def test_rules_joined_by_all_or_any_select_what_python_selects(
    service: Longshore, ledger: list[Row], join: str
) -> None:
    for start in range(0, len(CASES), 3):
        some = CASES[start : start + 3]
        combined = all if join == "all" else any
        expected = {row["id"] for row in ledger if combined(plain(row) for _, plain in some)}
        assert (
            selected(service.url, WALLET, segment_with("wallet-ledger", join, *(chosen for chosen, _ in some)))
            == expected
        )


def test_no_rules_joined_by_all_select_everything(service: Longshore, ledger: list[Row]) -> None:
    assert selected(service.url, WALLET, segment_with("wallet-ledger", "all")) == {row["id"] for row in ledger}


@pytest.mark.parametrize(
    ("field", "kind", "operators", "value"),
    [("words", "text", ("is_not", "does_not_contain"), "zzz"),
     ("code", "keyword", ("is_not", "does_not_contain"), "zzz"),
     ("figure", "number", ("is_not",), 77), ("flag", "boolean", ("is_not",), True),
     ("flag", "boolean", ("is_not",), False),
     ("kind", "keyword", ("is_not", "does_not_contain"), "third"), ("double", "number", ("is_not",), 77)],
)  # fmt: skip
def test_null_never_matches_a_negation(
    odd_values_service: Longshore, odd: Index, field: str, kind: str, operators: tuple[str, ...], value: Any
) -> None:
    column = odd.expression(field)
    rows = odd_values_service.sql(f"select id, {column}::text as value from odd.values")
    expected = {row["id"] for row in rows if row["value"] not in (None, str(value).lower())}
    assert len(expected) < len(rows)
    for operator in operators:
        chosen = segment_with("odd", "all", rule(field, kind, operator, value=value))
        assert selected(odd_values_service.url, odd, chosen) == expected


@pytest.mark.parametrize("value", [word for word in odd_values_table.WORDS if word is not None and len(word) < 100])
def test_rule_on_any_text_takes_exactly_the_rows_with_that_text(
    odd_values_service: Longshore, odd: Index, value: str
) -> None:
    exact = {number for number, word in enumerate(odd_values_table.WORDS[::-1]) if word == value}
    within = {number for number, word in enumerate(odd_values_table.WORDS[::-1]) if word is not None and value in word}
    for operator, expected in (("is", exact), ("contains", within)):
        chosen = segment_with("odd", "all", rule("code", "keyword", operator, value=value))
        assert selected(odd_values_service.url, odd, chosen) == expected


def test_numbers_and_moments_that_are_none_lie_beyond_all_others(odd_values_service: Longshore, odd: Index) -> None:
    chosen = segment_with("odd", "all", rule("figure", "number", "is_between_number", min=-(10**50), max=10**50))
    figures = [
        odd_values_table.FIGURES[number % len(odd_values_table.FIGURES)] for number in range(odd_values_table.ROWS)
    ]
    expected = {
        number
        for number, figure in enumerate(figures)
        if figure is not None and math.isfinite(float(figure)) and abs(float(figure)) <= 1e50
    }
    assert selected(odd_values_service.url, odd, chosen) == expected
    chosen = segment_with("odd", "all", rule("at", "date", "is_after_date", start_date="9999-12-31T23:59:59Z"))
    late = {"infinity", "10000-01-01 00:00:00+00", "294276-12-31 23:59:59.999999+00"}
    moments = [
        odd_values_table.MOMENTS[number % len(odd_values_table.MOMENTS)][0] for number in range(odd_values_table.ROWS)
    ]
    expected = {number for number, moment in enumerate(moments) if moment in late}
    assert selected(odd_values_service.url, odd, chosen) == expected


def test_rule_on_a_boolean_takes_the_rows_with_that_value(odd_values_service: Longshore, odd: Index) -> None:
    for value, rest in ((True, 1), (False, 2)):
        chosen = segment_with("odd", "all", rule("flag", "boolean", "is", value=value))
        expected = {number for number in range(odd_values_table.ROWS) if number % 3 == rest}
        assert selected(odd_values_service.url, odd, chosen) == expected


@pytest.mark.parametrize(
    "value", ["'; drop table loyalty.wallet_ledger; --", "' or '1'='1", "$1", "\\'", "%s", "{}", "')"]
)
def test_an_injected_value_is_only_a_value(service: Longshore, ledger: list[Row], value: str) -> None:
    for field, kind in (("kind", "keyword"), ("comment", "text")):
        for operator in ("is", "contains"):
            chosen = segment_with("wallet-ledger", "any", rule(field, kind, operator, value=value))
            assert selected(service.url, WALLET, chosen) == set()
    assert service.sql(f"select count(*) from loyalty.wallet_ledger where chain_id = {CHAIN}")[0][0] == len(ledger)
