"""A small table with everything that is awkward to filter: nulls, cases, alphabets, exact decimals, odd JSON."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from longshore.exports.catalog import Index

CHAIN = 7
OTHER_CHAIN = 8

CREATE = """
create table public.awkward (
    id bigint primary key, chain_id bigint not null, at timestamptz, day date, "Key" text, words text,
    amount numeric(12, 4), count integer, flag boolean, items jsonb
)
"""

FIELDS: dict[str, Any] = {
    "id": {"type": "number", "description": "-"},
    "at": {"type": "date", "description": "-"},
    "day": {"type": "date", "description": "-"},
    "key": {"type": "keyword", "column": "Key", "description": "-"},
    "words": {"type": "text", "description": "-"},
    "amount": {"type": "number", "description": "-"},
    "count": {"type": "number", "description": "-"},
    "flag": {"type": "boolean", "description": "-"},
    "shouted": {"type": "keyword", "sql": "words || '!'", "description": "-"},
    "items": {
        "type": "nested",
        "description": "-",
        "fields": {
            "sku": {"type": "keyword", "description": "-"},
            "Full name": {"type": "text", "description": "-"},
            "price": {"type": "number", "description": "-"},
            "gift": {"type": "boolean", "description": "-"},
            "sent": {"type": "date", "description": "-"},
        },
    },
}

INDEX = msgspec.convert(
    {
        "description": "-",
        "relation": "public.awkward",
        "chain": "chain_id",
        "time": "at",
        "prefix": "Awkward",
        "fields": FIELDS,
    },
    Index,
)

BEGAN = datetime(2026, 4, 2, 3, 4, 5, 678901, UTC)

WORDS = [
    "",
    " ",
    "a",
    "A",
    "Été",
    "ÉTÉ",
    "été",
    "ß",
    "ZOË zoë",
    "Ω",
    "ω",
    "x'y",
    'x"y',
    "100%",
    "10_0",
    "\\",
    "日本",
    "🙂",
    "$1",
]
NUMBERS = [Decimal(text) for text in ("0", "-0.0001", "0.1", "0.10", "1", "1.5", "-7", "99999999.9999", "3")]
MOMENTS = [
    datetime(2026, 4, 2, 3, 4, 5, 678900, UTC),
    BEGAN,
    datetime(2026, 4, 1, 22, 0, tzinfo=UTC),
    datetime(2026, 4, 1, tzinfo=UTC),
    datetime(2026, 3, 31, 23, 59, 59, 999999, UTC),
    datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
    datetime(2026, 3, 28, 23, 30, tzinfo=UTC),
    datetime(2026, 3, 2, 3, 4, 5, 678901, UTC),
    datetime(2025, 10, 26, 0, 30, tzinfo=UTC),
    datetime(2025, 12, 31, 23, 0, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
    datetime(1950, 1, 1, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
]
ITEMS: list[Any] = [
    None,
    [],
    {"sku": "a"},
    "a",
    [None, 1, "a", [], {}],
    [{"sku": "a", "price": 0.1, "gift": True, "Full name": "Été"}],
    [{"sku": None, "price": None, "gift": None, "sent": None}, {"sku": "", "Full name": ""}],
    [{"sku": "A", "price": "1.5", "gift": "false", "sent": "2026-04-01T22:00:00Z"}, {"sku": "x'y", "price": -7}],
    [
        {"sku": 12, "price": "no", "gift": 1, "sent": "no"},
        {"price": 99999999.9999, "gift": False, "sent": "2026-04-01"},
    ],
    [{"sent": sent} for sent in ("2026-02-30", "2026-04-01T25:00:00Z", "0000-01-01", "2026-04-01T22:00:00Z\n")],
    [{"sent": "2026-02-30"}, {"price": "1e9999"}, {"price": "NaN"}, {"gift": "yes"}],
    [{"sku": "100%", "Full name": "ZOË zoë"}, {"sku": "日本", "price": 3, "sent": "2026-03-29T03:00:00+02:00"}],
]

Row = dict[str, Any]


def rows() -> list[Row]:
    """The rows: each list is walked in a step of its own, and every fifth value or so is missing."""
    found = []
    for n in range(80):
        found.append(
            {
                "id": n,
                "chain_id": OTHER_CHAIN if n % 10 == 9 else CHAIN,
                "at": None if n % 7 == 3 else MOMENTS[n % len(MOMENTS)],
                "day": None if n % 6 == 1 else MOMENTS[n * 5 % len(MOMENTS)].date(),
                "Key": None if n % 5 == 2 else WORDS[n % len(WORDS)],
                "words": None if n % 8 == 5 else WORDS[n * 3 % len(WORDS)],
                "amount": None if n % 5 == 4 else NUMBERS[n % len(NUMBERS)],
                "count": None if n % 4 == 2 else n % 5 - 1,
                "flag": (True, False, None)[n % 3],
                "items": ITEMS[n % len(ITEMS)],
            }
        )
    return found


def values(row: Row) -> tuple[Any, ...]:
    """A row as the parameters of an insert."""
    items = row["items"]
    return (*list(row.values())[:-1], None if items is None else json.dumps(items))


def midnight(day: date) -> datetime:
    """The first moment of a day in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
