"""A small table of values that are difficult to filter: nulls, cases, alphabets, collations, floats, odd JSON.

Of each column the test reads what an exported CSV file shows; see `plain_reading`.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from longshore.exports.catalog import Index
from longshore.tasks.model import Interval

CHAIN = 1764
OTHER_CHAIN = 8

CREATE = """
create extension if not exists citext;
create collation public.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create collation public.turkish (provider = icu, locale = 'tr');
create type public.mood as enum ('a', 'A', '10_0');
create domain public.code as varchar(20) collate public.nocase;
create table public.awkward (
    id bigint primary key, chain_id bigint not null, at timestamptz, day date, "Key" text, words text,
    amount numeric(12, 4), count integer, flag boolean, items jsonb
);
"""

# The same values in columns of other types and collations, which COPY does not write.
OTHERS = """
alter table public.awkward
    add column bytewise text collate "C", add column nocase text collate public.nocase,
    add column turkish text collate public.turkish, add column cit public.citext, add column code public.code,
    add column padded char(6), add column mood public.mood, add column net inet, add column block cidr,
    add column single real, add column double double precision, add column small smallint, add column wide numeric,
    add column local timestamp, add column price money, add column span interval, add column bits bit(3),
    add column "a.b" text, add column born date;
update public.awkward set
    bytewise = words, nocase = "Key", turkish = words, cit = "Key", code = words, "a.b" = words,
    padded = left("Key", 6),
    mood = case when words in ('a', 'A', '10_0') then words::public.mood end,
    net = (array['10.0.0.1', '10.0.0.1/24', '::1', null, '10.0.0.0/8']::inet[])[id % 5 + 1],
    block = (array['10.0.0.1', null, '10.0.0.0/8']::cidr[])[id % 3 + 1],
    single = (array['0.1', '1.5', '-7', '16777217', 'NaN', '1e-10', '3e38', null]::real[])[id % 8 + 1],
    double = (array['0.1', '0.30000000000000004', '1', 'Infinity', '-Infinity', '5e-324', null]::float8[])[id % 7 + 1],
    small = count, wide = (array['NaN', '0.1', '1e40', 'Infinity', null]::numeric[])[id % 5 + 1],
    local = at at time zone 'UTC', price = amount::text::money,
    span = (array['1 day', '24 hours', '-1 mon', null]::interval[])[id % 4 + 1],
    bits = (array[b'101', b'000', null])[id % 3 + 1],
    born = (array['infinity', '-infinity', '0044-03-15 BC', '20231-01-01', '0001-01-01', '9999-12-31', null]::date[])
        [id % 7 + 1];
update public.awkward set
    at = (array['infinity', '-infinity', '0044-03-15 12:00:00+00 BC', '20231-01-01 00:00:00+00',
        '0001-01-01 00:00:00+00', '9999-12-31 23:59:59.999999+00', '10000-01-01 00:00:00+00']::timestamptz[])
        [id / 10 % 7 + 1]
where id % 10 = 6;
update public.awkward set local = at at time zone 'UTC' where id % 10 = 6;
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
    "bytewise": {"type": "text", "description": "-"},
    "nocase": {"type": "keyword", "description": "-"},
    "nocase_text": {"type": "text", "column": "nocase", "description": "-"},
    "turkish": {"type": "text", "description": "-"},
    "cit": {"type": "keyword", "description": "-"},
    "cit_text": {"type": "text", "column": "cit", "description": "-"},
    "code": {"type": "keyword", "description": "-"},
    "padded": {"type": "keyword", "description": "-"},
    "mood": {"type": "keyword", "description": "-"},
    "net": {"type": "keyword", "description": "-"},
    "block": {"type": "text", "description": "-"},
    "single": {"type": "number", "description": "-"},
    "single_word": {"type": "keyword", "column": "single", "description": "-"},
    "double": {"type": "number", "description": "-"},
    "small": {"type": "number", "description": "-"},
    "wide": {"type": "number", "description": "-"},
    "price": {"type": "keyword", "description": "-"},
    "span": {"type": "keyword", "description": "-"},
    "bits": {"type": "keyword", "description": "-"},
    "yes": {"type": "keyword", "column": "flag", "description": "-"},
    "moment": {"type": "keyword", "column": "at", "description": "-"},
    "local": {"type": "date", "description": "-"},
    "born": {"type": "date", "description": "-"},
    "noon": {"type": "date", "sql": "day + time '12:00'", "description": "-"},
    "a.b": {"type": "keyword", "description": "-"},
    "mixed": {"type": "keyword", "sql": "nocase || turkish", "description": "-"},
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

SINCE = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
BEGAN = datetime(2026, 4, 2, 3, 4, 5, 678901, UTC)
INTERVAL = Interval(SINCE, BEGAN)

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
    SINCE,
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
    """Return the rows: each list is read in steps of its own, and about every fifth value is missing."""
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
    """Return a row as the parameters of an insert."""
    items = row["items"]
    return (*list(row.values())[:-1], None if items is None else json.dumps(items))
