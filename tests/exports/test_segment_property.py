"""Any segment takes exactly the rows that a plain reading of its rules takes in the exported CSV file."""

import asyncio
import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from longshore.database.connect import connect
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.row_query import row_query
from longshore.exports.segments.operators import DATE_OPERATORS, MAX_AMOUNTS, OPERATORS, WINDOWS
from longshore.exports.segments.rules import Segment, check_rules, is_zone
from tests.debian_postgres import DebianPostgres
from tests.exports.engine import export
from tests.exports.plain_reading import Row, moment, selects
from tests.exports.property_table import (
    CHAIN,
    CREATE,
    FIELDS,
    INDEX,
    INTERVAL,
    MOMENTS,
    NUMBERS,
    OTHERS,
    WORDS,
    rows,
    values,
)

ROWS = rows()
MISSING = "\\N"  # NULL in the file that is read
ZONES = ["UTC", "Europe/Amsterdam", "America/New_York", "Asia/Kolkata", "Atlantic/Azores", "Australia/Lord_Howe"]

OTHER_WORDS = ["10.0.0.1", "10.0.0.1/32", "10.0.0.1/24", "::1", "10.0.0.0/8", "a     ", "100%  ", "P1D", "PT24H", "0.1",
    "true", "$1.50", "-$7.00", "101", "2026-04-01T00:00:00.000000Z", "infinity", "0044-03-15 12:00:00+00 BC", "i", "I",
    "ETE", "aA", "NaN"]  # fmt: skip
texts = st.sampled_from([*WORDS, *OTHER_WORDS]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\x00İ"), max_size=3
)
OTHER_NUMBERS = ["0.1", "0.30000000000000004", "0.3", "16777216", "16777217", "1e-10", "3e38", "1e40"]
numbers = (
    st.sampled_from([*NUMBERS, *map(Decimal, OTHER_NUMBERS)])
    | st.integers(-9, 9).map(Decimal)
    | st.decimals(-10, 10, places=3)
)
dates = st.sampled_from(
    [text for at in MOMENTS for text in (at.isoformat(), at.date().isoformat(), at.isoformat().replace("+00:00", "Z"))]
    + ["2026-04-02T05:04:05.678901+02:00", "2026-03-29", "9999-12-31", "0001-01-01"]
    + ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "9999-12-30", "0001-01-02"]
)
OPERANDS = {"keyword": texts, "text": texts, "number": numbers, "boolean": st.booleans(), "date": dates}


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    nested = draw(st.booleans())
    fields = FIELDS["items"]["fields"] if nested else {name: f for name, f in FIELDS.items() if name != "items"}
    name = draw(st.sampled_from(sorted(fields)))
    kind = fields[name]["type"]
    operator = draw(st.sampled_from(sorted(name for name, each in OPERATORS.items() if kind in each.types)))
    shown = f"items.{name}" if nested and draw(st.booleans()) else name
    rule: dict[str, Any] = {"field_name": shown, "field_type": kind, "operator": operator}
    if nested:
        rule |= {"nested": True, "nesting_path": "items"}
    operands = OPERANDS[kind]
    pair = st.lists(operands, min_size=2, max_size=2)
    match operator:
        case "is_one_of":
            rule["value"] = draw(st.lists(operands, min_size=1, max_size=4))
        case "is_between_date" | "is_between_number":
            names = ("min", "max") if kind == "number" else ("start_date", "end_date")
            rule |= dict(zip(names, draw(pair), strict=True))
        case "is_in_window":
            rule["window"] = draw(st.sampled_from(sorted(WINDOWS)))
        case "relative_less_than" | "relative_more_than":
            rule |= {"time_factor": draw(st.sampled_from(sorted(MAX_AMOUNTS))), "time_amount": draw(st.integers(1, 40))}
        case "is_after_date":
            rule["start_date"] = draw(operands)
        case "is_before_date":
            rule["end_date"] = draw(operands)
        case "is_empty" | "is_not_empty" | "is_in_interval":
            pass
        case _:
            rule["value"] = draw(operands)
    if operator in DATE_OPERATORS and draw(st.booleans()):
        rule["timezone"] = draw(st.sampled_from(ZONES))
    return rule


segments = st.fixed_dictionaries(
    {
        "entity": st.just("people"),
        "index": st.just("awkward"),
        "join": st.sampled_from(["all", "any"]),
        "chain_id": st.just(CHAIN),
        "rules": st.lists(rules(), min_size=1, max_size=4),
    }
)


class Table:
    """The table of unusual values in a database of its own, and one connection to it."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.connection = self.runner.run(self._open(url))
        content = self.runner.run(export(url, INDEX, "csv", CsvOptions(null=MISSING)))[0].decode()
        self.rows = [
            {name: None if shown == MISSING else shown for name, shown in row.items()}
            for row in csv.DictReader(io.StringIO(content, newline=""))
        ]

    async def _open(self, url: str) -> Any:
        connection = await connect(url, "test")
        await connection.execute("set search_path = public")
        await connection.execute(CREATE)
        marks = ", ".join(f"${n}" for n in range(1, len(ROWS[0]) + 1))
        await connection.executemany(f"insert into public.awkward values ({marks})", [values(row) for row in ROWS])
        await connection.execute(OTHERS)
        await connection.execute("set search_path = ''")
        return connection

    def expected(self, segment: dict[str, Any]) -> list[int]:
        """Return the ids of the rows of the file that a plain reading takes."""
        found: list[Row] = [row for row in self.rows if selects(segment, row)]
        return sorted(int(row["id"] or 0) for row in found)

    def taken(self, segment: dict[str, Any]) -> tuple[list[int], list[int]]:
        """Return the ids that a segment takes, by a query and by the copy of an export."""
        checked = msgspec.convert(segment, Segment)
        assert check_rules(checked, INDEX, "") == []
        return self.runner.run(self._taken(checked))

    async def _taken(self, segment: Segment) -> tuple[list[int], list[int]]:
        source = await row_query(self.connection, INDEX, CHAIN, segment, INTERVAL)
        query = f"select id {source.sql} order by id"
        fetched = [row["id"] for row in await self.connection.fetch(query, *source.values)]
        copied = bytearray()

        async def take(data: bytes) -> None:
            copied.extend(data)

        await self.connection.copy_from_query(query, *source.values, output=take)
        return fetched, [int(line) for line in copied.split()]

    def close(self) -> None:
        self.runner.run(self.connection.close())
        self.runner.close()


@pytest.fixture(scope="module")
def table(debian: DebianPostgres) -> Iterator[Table]:
    debian.sql("create database awkward")
    found = Table(debian.url(database="awkward"))
    yield found
    found.close()


def one(operator: str, name: str, kind: str, **more: Any) -> dict[str, Any]:
    rule = {"field_name": name, "field_type": kind, "operator": operator, **more}
    return {"entity": "people", "index": "awkward", "join": "all", "chain_id": CHAIN, "rules": [rule]}


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(segments)
@example(one("is_not", "words", "text", value="été"))
@example(one("is_one_of", "amount", "number", value=[Decimal("0.10"), Decimal("1E+2")]))
@example(one("is_in_window", "at", "date", window="yesterday"))
@example(one("is_in_interval", "day", "date", timezone="Pacific/Kiritimati"))
@example(one("is", "price", "number", value=Decimal("1.5"), nested=True, nesting_path="items"))
@example(one("is_not_empty", "sent", "date", nested=True, nesting_path="items"))
@example(one("is_date", "sent", "date", value="2026-04-01", nested=True, nesting_path="items"))
@example(one("is_not_empty", "price", "number", nested=True, nesting_path="items"))
def test_a_segment_takes_the_rows_of_a_plain_reading_of_its_rules(table: Table, segment: dict[str, Any]) -> None:
    for rule in segment["rules"]:
        for low, high in (("min", "max"), ("start_date", "end_date")):
            if low in rule and high in rule and backwards(rule[low], rule[high]):
                rule[low], rule[high] = rule[high], rule[low]
    expected = table.expected(segment)
    fetched, copied = table.taken(segment)
    assert fetched == expected
    assert copied == expected


def backwards(low: Any, high: Any) -> bool:
    utc = ZoneInfo("UTC")
    return bool(moment(low, utc) > moment(high, utc) if isinstance(low, str) else low > high)


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "items"])
def test_every_operator_compares_values_as_the_file_shows_them(table: Table, name: str) -> None:
    """For each value of a field in the file, and of another field, and for each operator that takes a value."""
    kind = FIELDS[name]["type"]
    shown = sorted({row[name] for row in table.rows if row[name] is not None}, key=str)
    for operator, use in OPERATORS.items():
        if kind not in use.types or operator in ("is_in_window", "relative_less_than", "relative_more_than"):
            continue
        for text in shown if use.operands else [""]:
            operand = usable(text, kind)
            if operand is None:
                continue
            more = {key: [operand] if operator == "is_one_of" else operand for key in use.operands}
            segment = one(operator, name, kind, **more)
            assert table.taken(segment)[0] == table.expected(segment), segment["rules"]


def usable(text: str | None, kind: str) -> Any:
    """Return a value of the file as an operand of a request; None if it cannot be one."""
    match kind:
        case "number":
            number = Decimal(text or "0")
            return number if number.is_finite() and abs(number.adjusted()) < 100 else None
        case "boolean":
            return text == "true"
        case "date":
            return text if text and text[4:5] == "-" and " " not in text else None
    return text


def test_every_operator_takes_some_rows_and_leaves_some(table: Table) -> None:
    taken = {
        "is": one("is", "key", "keyword", value="A"),
        "is_not": one("is_not", "key", "keyword", value="A"),
        "is_one_of": one("is_one_of", "count", "number", value=[1, 2]),
        "is_empty": one("is_empty", "words", "text"),
        "is_not_empty": one("is_not_empty", "words", "text"),
        "contains": one("contains", "words", "text", value="T"),
        "does_not_contain": one("does_not_contain", "words", "text", value="T"),
        "starts_with": one("starts_with", "words", "text", value="É"),
        "is_date": one("is_date", "at", "date", value="2026-04-02"),
        "is_after_date": one("is_after_date", "day", "date", start_date="2026-03-01"),
        "is_before_date": one("is_before_date", "day", "date", end_date="2026-03-01"),
        "is_between_date": one("is_between_date", "at", "date", start_date="2025-01-01", end_date="2026-03-31"),
        "is_in_window": one("is_in_window", "at", "date", window="last_month", timezone="Europe/Amsterdam"),
        "is_in_interval": one("is_in_interval", "at", "date"),
        "relative_less_than": one("relative_less_than", "at", "date", time_factor="month", time_amount=1),
        "relative_more_than": one("relative_more_than", "at", "date", time_factor="year", time_amount=1),
        "is_between_number": one("is_between_number", "amount", "number", min=0, max=1),
        "is_greater_than": one("is_greater_than", "amount", "number", value=0),
        "is_less_than": one("is_less_than", "amount", "number", value=0),
    }
    assert set(taken) == set(OPERATORS)
    for operator, segment in taken.items():
        fetched, copied = table.taken(segment)
        assert fetched == copied
        assert 0 < len(fetched) < len(ROWS) * 9 // 10, operator


def test_every_time_zone_that_a_rule_may_name_is_one_of_the_database_of_zones() -> None:
    for zone in (*ZONES, "America/Havana", "Africa/Cairo"):
        assert is_zone(zone)
    for name in ("localtime", "Factory", "utc", "Europe/amsterdam", "../UTC", "", "UTC\x00", "UTC'"):
        assert not is_zone(name)
