"""A table of values that break things, with the catalog that describes it, for the tests of formats and segments."""

from pathlib import Path
from typing import Any

CHAIN = 1764

CATALOG = """
[odd]
description = "Every nasty value."
relation = "odd.values"
chain = "chain_id"
time = "at"
prefix = "Odd"

[odd.fields]
id = { type = "number", description = "Number of the row." }
words = { type = "text", description = "Text." }
code = { type = "keyword", description = "A code.", column = "odd \\"code\\", really" }
figure = { type = "number", description = "A decimal number without limits." }
double = { type = "number", description = "A floating-point number." }
flag = { type = "boolean", description = "Yes or no." }
at = { type = "date", description = "A moment." }
day = { type = "date", description = "A day." }
document = { type = "text", description = "A JSON document as it was stored." }
kind = { type = "keyword", description = "One of a few." }
shouted = { type = "text", description = "The words, upper case.", sql = "upper(words)" }

[renamed]
description = "The moments, by another name than their column's."
relation = "odd.values"
chain = "chain_id"
time = "at"
prefix = "Renamed"

[renamed.fields]
at = { type = "number", description = "Not the time, but the number.", column = "id" }
as_text = { type = "keyword", description = "The moment as a text.", column = "at" }
when = { type = "date", description = "A moment.", column = "at" }

[missing]
description = "A relation that is not there."
relation = "odd.missing"
chain = "chain_id"
time = "id"
prefix = "Missing"

[missing.fields]
id = { type = "number", description = "Number of the row." }

[baskets]
description = "Items of which some are odd."
relation = "odd.baskets"
chain = "chain_id"
time = "at"
key = "id"
prefix = "Basket"
fields.id = { type = "number", description = "Number." }

[baskets.fields.lenient]
type = "nested"
column = "items"
description = "Items."
on_odd = "null"
fields.price = { type = "number", description = "Price." }

[baskets.fields.strict]
type = "nested"
column = "items"
description = "Items."
fields.price = { type = "number", description = "Price." }
"""

SCHEMA = """
create schema odd;
create type odd.kind as enum ('first', 'second');
create table odd.values (
    id bigint primary key, chain_id bigint not null, words text, "odd ""code"", really" varchar, figure numeric,
    double double precision, flag boolean, at timestamptz, day date, document json, kind odd.kind
);
"""

WORDS: list[str | None] = [
    None, "", " ", "  leading and trailing  ", "\t", "plain", '"', '""', '"quoted"', "a,b", ",",
    "a;b", "'",
    "\\", "\\.", "\\N", "\\n", "a\rb", "a\nb", "a\r\nb", "\r", "\n", "\r\n", "\n\n\n", '"\n"',
    '\n",\n"', "NULL", "null",
    "N/A", "=1+1", "-1", "+1", "@x", "0010", "1e5", "true",
    "\x01", "\x02", "a\x01b\x02c", "".join(map(chr, range(1, 32))),
    "\x7f", "\x80", "\u2028\u2029", "\ufeffbom", "é", "e\u0301", "日本語", "🚢", "👨‍👩‍👧‍👦", "\U0010ffff", "ﬀ ß İ Σς",
    "x" * 200_000, '",\r\n' * 30_000, "🚢" * 50_000, "</script>", "{}", "[1]", "%s $1 {0}", "--", "'; drop table x; --",
    "\x01\n\x01", "END\n\\.\n", "\ufffd",
]  # fmt: skip

FIGURES = [
    "NaN", "Infinity", "-Infinity", "0", "-0.00", "1.10", "1e-30", "-" + "9" * 100 + ".5",
    "123456789012345678901234567890", "0.1", "9007199254740993", "1e50", None,
]  # fmt: skip

DOUBLES = ["NaN", "Infinity", "-Infinity", "0", "-0", "0.1", "1e308", "5e-324", "-1.7976931348623157e308", None]

# A value as PostgreSQL takes it, and as a file must show it.
MOMENTS: list[tuple[str | None, str | None]] = [
    ("2026-05-26 12:00:00+00", "2026-05-26T12:00:00.000000Z"),
    ("2026-05-26 12:00:00.123456+02", "2026-05-26T10:00:00.123456Z"),
    ("2026-05-26 00:30:00.000001-13:30", "2026-05-26T14:00:00.000001Z"),
    ("1883-11-18 12:03:57-04:56:02", "1883-11-18T16:59:59.000000Z"),
    ("0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000000Z"),
    ("9999-12-31 23:59:59+00", "9999-12-31T23:59:59.000000Z"),
    ("infinity", "infinity"),
    ("-infinity", "-infinity"),
    ("0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"),
    ("10000-01-01 00:00:00+00", "10000-01-01 00:00:00+00"),
    ("294276-12-31 23:59:59.999999+00", "294276-12-31 23:59:59.999999+00"),
    (None, None),
]

DOCUMENTS = [None, '{"b": 1,\n  "a": [1,\r\n 2]}', '"text"', "[]", '{"a": "\\u0001\\n"}', "\n\n1\n", '{"a":1, "a":2}']

ROWS = max(len(WORDS), len(FIGURES), len(DOUBLES), len(MOMENTS), len(DOCUMENTS))

INSERT = """
insert into odd.values (id, chain_id, words, "odd ""code"", really", figure, double, flag, at, day, document, kind)
values ($1, 1764, $2, $3, $4::text::numeric, $5::text::double precision, $6, $7::text::timestamptz, $8::text::date,
        $9::text::json, $10::text::odd.kind)
"""


def rows() -> list[tuple[Any, ...]]:
    """The rows, in the order of INSERT's parameters."""

    def nth(values: list[Any], number: int) -> Any:
        return values[number] if number < len(values) else values[number % len(values)]

    return [
        (
            number,
            WORDS[number],
            WORDS[-number - 1],
            nth(FIGURES, number),
            nth(DOUBLES, number),
            (None, True, False)[number % 3],
            nth(MOMENTS, number)[0],
            None if number % 5 == 0 else f"20{number:02}-02-28",
            nth(DOCUMENTS, number),
            (None, "first", "second")[number % 3],
        )
        for number in range(ROWS)
    ]


def write_catalog(folder: Path) -> Path:
    """Write the catalog to a file."""
    path = folder / "catalog.toml"
    path.write_text(CATALOG, encoding="utf-8")
    return path
