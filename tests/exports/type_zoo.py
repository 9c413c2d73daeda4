# ruff: noqa: E501  # a table reads best with a line for each type
"""Every kind of PostgreSQL type with its extreme values, and their text in each format.

`tests.exports.test_type_zoo` exports the values and reads them back; `docs/formats.md` has the table, which
`python -m tests.exports.type_zoo` prints.
"""

from collections.abc import Sequence

import msgspec

from longshore.exports.catalog import FieldType

TEXT = "its text"
STRING = "string"


class Kind(msgspec.Struct, frozen=True):
    """A type, values of it in PostgreSQL's spelling, and their texts in each format."""

    name: str
    sql: str
    values: Sequence[str]
    csv: str
    json: str
    parquet: str
    xlsx: str
    reads_as: str = "words"
    """The reader of `test_type_zoo` for its values."""
    field: FieldType = FieldType.KEYWORD
    not_parquet: Sequence[str] = ()
    """Values that Parquet cannot hold, so that the run ends with an error."""
    listed: bool = True
    """Whether the docs have a line for it; else it is one more case of another."""


def words(name: str, sql: str, *values: str, json: str = STRING, reads_as: str = "words") -> Kind:
    """Return a type whose text is the same in every format."""
    return Kind(name, sql, values, TEXT, json, STRING, "text", reads_as)


FIGURE = "number up to 15 digits, else text"
TIME = "time; text before March 1900, after 9999, `infinity` or finer than a millisecond"
ISO = "ISO 8601 in UTC, six decimals, `Z`; PostgreSQL's text before year 1, after 9999 and for `infinity`"
LONG = "9" * 131_072

KINDS: list[Kind] = [
    Kind("`smallint`", "smallint", ["-32768", "0", "32767"], TEXT, "number", "int16", FIGURE, "number", FieldType.NUMBER),
    Kind("`integer`", "integer", ["-2147483648", "2147483647"], TEXT, "number", "int32", FIGURE, "number", FieldType.NUMBER),
    Kind("`bigint`", "bigint", ["-9223372036854775808", "9223372036854775807", "999999999999999", "1234567890123456"],
         TEXT, "number", "int64", FIGURE, "number", FieldType.NUMBER),
    Kind("`numeric(p,s)` up to 38 digits", "numeric(38,10)", ["9999999999999999999999999999.9999999999", "-0.0000000001", "1.1000000000"],
         TEXT, "number", "decimal128(p,s); not `NaN`", FIGURE, "number", FieldType.NUMBER, ["NaN"]),
    Kind("`numeric(p,s)`, 39 to 76 digits", "numeric(76,3)", ["9" * 73 + ".999", "-0.001", "1.000"],
         TEXT, "number", "decimal256(p,s), which DuckDB reads as a double; not `NaN`", FIGURE, "number", FieldType.NUMBER, ["NaN"]),
    Kind("`numeric(p,s)`, more than 76 digits", "numeric(1000,500)", ["9" * 500 + "." + "9" * 500, "-0." + "0" * 499 + "1", "NaN"],
         TEXT, "number; `NaN` a string", "string", FIGURE, "number", FieldType.NUMBER),
    Kind("`numeric(p,s)`, s below 0 or above p", "numeric(5,-2)", ["9999900", "-100", "0"],
         TEXT, "number", "decimal128(p-s,0), decimal128(s,s)", FIGURE, "number", FieldType.NUMBER, ["NaN"]),
    Kind("", "numeric(3,5)", ["0.00999", "-0.00001"], "", "", "", "", "number", FieldType.NUMBER, ["NaN"], listed=False),
    Kind("`numeric`", "numeric", ["1.10", "-0.5", "9999999999999999999999999999.9999999999", "0.0000000001"],
         TEXT, "number; `NaN` and `Infinity` strings",
         "decimal128(38,10), or of the catalog's `decimals`; not more digits or decimals, `NaN`, `Infinity`", FIGURE, "number",
         FieldType.NUMBER, ["NaN", "Infinity", "-Infinity", "0.30000000000000004", "10000000000000000000000000000", "1e-400", LONG]),
    Kind("`real`", "real", ["3.4028235e+38", "-1e-45", "0.1", "-0", "NaN", "Infinity", "-Infinity"],
         TEXT + ", shortest exact", "number; `NaN` and `Infinity` strings", "float", FIGURE + "; -0 is text", "number", FieldType.NUMBER),
    Kind("`double precision`", "double precision", ["1.7976931348623157e+308", "5e-324", "0.1", "0.30000000000000004", "-0", "NaN", "-Infinity"],
         TEXT + ", shortest exact", "number; `NaN` and `Infinity` strings", "double", FIGURE + "; -0 is text", "number", FieldType.NUMBER),
    Kind("`boolean`", "boolean", ["true", "false"], "`true`, `false`", "`true`, `false`", "boolean", "boolean", "boolean", FieldType.BOOLEAN),
    Kind("`date`", "date", ["0001-01-01", "2024-02-29", "9999-12-31", "0044-03-15 BC", "20231-06-01", "5874897-12-31", "4713-01-01 BC"],
         TEXT, STRING, "date32; not `infinity`", "date; text before March 1900, after 9999 and `infinity`", "date", FieldType.DATE, ["infinity", "-infinity"]),
    Kind("`timestamptz`", "timestamptz", ["0001-01-01 00:00:00+00", "2026-05-26 12:00:00.123456+00", "2026-05-26 12:00:00.123+00", "9999-12-31 23:59:59.999999+00", "0044-03-15 12:00:00+00 BC", "20231-06-01 00:00:00.5+00", "294246-12-31 23:59:59.999999+00"],
         ISO, "string, as CSV", "timestamp[us, UTC]; not `infinity` nor after the year 294246", TIME, "time", FieldType.DATE, ["infinity", "-infinity", "294276-12-31 23:59:59.999999+00"]),
    Kind("`timestamp`, taken as UTC", "timestamp", ["0001-01-01 00:00:00", "1900-03-01 00:00:00", "2026-05-26 12:00:00.123456", "9999-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC"],
         ISO, "string, as CSV", "timestamp[us, UTC]; not `infinity` nor after the year 294246", TIME, "time", FieldType.DATE, ["infinity"]),
    words("`time`", "time", "00:00:00", "24:00:00", "23:59:59.999999"),
    words("`timetz`", "timetz", "23:59:59.999999+15:59:59"),
    words("`interval`, ISO 8601", "interval", "P1Y2M3DT4H5M6.789S", "P-1D", "PT0S"),
    words("`text`, `varchar`, any collation", "text", "", " ", "a\tb", "\r\n", "\\N", "\\.", "=1+1", "0042", "<r>&</r>", "_x0041_", "\x01\x02", "é🚢\U0010ffff", "NULL"),
    words("`char(n)`, padded", "char(3)", "ab ", "   "),
    words("domains, as their base type", "zoo.code", "00042", ""),
    Kind("", "zoo.price", ["9999999999.99", "0.10"], "", "", "", "", "number", FieldType.NUMBER, ["NaN"], listed=False),
    words("enums", "zoo.mood", "sad", "so, so"),
    words("`uuid`", "uuid", "00000000-0000-0000-0000-000000000000"),
    words("`bytea`, hexadecimal", "bytea", "\\x", "\\x00ff5c"),
    words("`inet`, `cidr`, `macaddr`", "inet", "10.0.0.1", "::1", "192.168.0.0/16"),
    words("`bit`, `varbit`", "varbit", "", "0101"),
    words("`money`, in the pinned locale C", "money", "-$92,233,720,368,547,758.08"),
    words("ranges, multiranges", "numrange", "empty", "[1.10,2)", "(,)"),
    words("`tsvector`", "tsvector", "'a':1 'b':2"),
    words("`point` and other geometry", "point", "(0.1,-5)"),
    words("`pg_lsn`", "pg_lsn", "FFFFFFFF/FFFFFFFF"),
    words("arrays", "numeric[]", "{}", "{1.10,NULL,NaN}", "{{1,2},{3,4}}", json="array", reads_as="structure"),
    words("composites", "zoo.pair", "(1,\"a,b\")", "(,)", json="object", reads_as="structure"),
    words("all other types", "int4range", "[1,5)"),
    words("`json`", "json", "{\"b\": 1,\n \"a\": [1.10,\r\n 2]}", "\"text\"", "null", "{\"a\":1, \"a\":2}", json="the document", reads_as="document"),
    words("`jsonb`", "jsonb", "{\"a\": [1.10, 1" + "0" * 400 + "]}", "null", "\"text\"", json="the document", reads_as="document"),
]  # fmt: skip

SCHEMA = """
drop schema if exists zoo cascade;
create schema zoo;
create domain zoo.code as text;
create domain zoo.price as numeric(12,2);
create type zoo.mood as enum ('sad', 'so, so');
create type zoo.pair as (number integer, word text);
"""


def table() -> str:
    """Return the table of `docs/formats.md`."""
    lines = ["| PostgreSQL | CSV | JSON | Parquet | workbook |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {k.name} | {k.csv} | {k.json} | {k.parquet} | {k.xlsx} |" for k in KINDS if k.listed]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
