"""Formats lose no row and no value: a value that one cannot hold ends the export with column, row and value."""

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import openpyxl
import pyarrow.parquet as pq
import pytest
from xlsxwriter.worksheet import Worksheet

from longshore.errors import LongshoreError
from longshore.exports import odd_values
from longshore.exports.catalog import Field, FieldType, Index, quoted_identifier
from longshore.exports.columns import Column, choices, columns_of
from longshore.exports.formats import FileSpec, parquet
from longshore.exports.formats.dialect import CsvOptions, check_options
from longshore.exports.formats.format import RowKey
from longshore.exports.formats.records import Records
from longshore.exports.query import row_key
from longshore.exports.row_query import RowQuery
from longshore.exports.segments.rules import Rule, Segment
from longshore.exports.segments.sql import condition
from longshore.tasks.model import Interval
from tests.exports import rfc4180
from tests.exports.engine import CHAIN, export, index_over
from tests.service import Longshore

WORDS = FieldType.TEXT
NUMBER = FieldType.NUMBER
FORMATS = ("csv", "json", "jsonl", "parquet", "xlsx")
ITEMS = Field(
    type=FieldType.NESTED,
    description="",
    fields={
        "sku": Field(type=FieldType.KEYWORD, description=""),
        "price": Field(type=FieldType.NUMBER, description=""),
        "kept": Field(type=FieldType.BOOLEAN, description=""),
    },
)


@pytest.fixture(scope="module")
def url(service: Longshore) -> Iterator[str]:
    """Yield the address of a database with the schema `limits`."""
    asyncio.run(execute(service.url, "create schema limits"))
    yield service.url
    asyncio.run(execute(service.url, "drop schema limits cascade"))


async def execute(url: str, statement: str, *args: Any) -> None:
    connection = await asyncpg.connect(url)
    try:
        if args:
            await connection.executemany(statement, *args)
        else:
            await connection.execute(statement)
    finally:
        await connection.close()


def over(url: str, kind: str, values: list[str | None], field: FieldType | Field = WORDS) -> Index:
    """Return an index of one column `value` of a type, over rows with these values and the ids 0, 1, …"""
    asyncio.run(execute(url, "drop table if exists limits.rows"))
    asyncio.run(
        execute(
            url,
            f"create table limits.rows (id int primary key, chain_id bigint default {CHAIN},"
            f" at timestamptz default '2026-05-26', value {kind})",
        )
    )
    insert = f"insert into limits.rows (id, value) values ($1, $2::text::{kind})"
    asyncio.run(execute(url, insert, list(enumerate(values))))
    return msgspec.structs.replace(index_over("limits.rows", value=field), key="id")


def content(url: str, index: Index, format: str) -> bytes:
    found, copied, _ = asyncio.run(export(url, index, format))
    assert copied.rows == copied.sent
    return found


def parquet_values(data: bytes) -> list[Any]:
    found: list[Any] = pq.read_table(io.BytesIO(data)).column("value").to_pylist()
    return found


def cells(data: bytes) -> list[Any]:
    sheet = openpyxl.load_workbook(io.BytesIO(data))["Export"]
    return [row[0] for row in sheet.iter_rows(min_row=2, values_only=True)]


@pytest.mark.parametrize("format", FORMATS)
def test_rows_of_one_column_that_are_null_are_in_every_format(url: str, format: str) -> None:
    values = [None, "a", None, None]
    data = content(url, over(url, "text", values), format)
    match format:
        case "csv":
            assert [record[0] for record in rfc4180.read(data)] == ["value", *values]
        case "json":
            assert [row["value"] for row in json.loads(data)] == values
        case "jsonl":
            assert [json.loads(line)["value"] for line in data.splitlines()] == values
        case "parquet":
            assert parquet_values(data) == values
        case "xlsx":
            assert cells(data) == values


@pytest.mark.parametrize("format", ["parquet", "xlsx"])
def test_rows_are_counted_in_the_finished_file(url: str, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = over(url, "text", ["a", "b", "c"])
    if format == "parquet":
        write = pq.ParquetWriter.write_table
        monkeypatch.setattr(pq.ParquetWriter, "write_table", lambda self, table, *rest: write(self, table[1:], *rest))
    else:
        monkeypatch.setattr(Worksheet, "write_string", lambda *_: 0)
    with pytest.raises(Exception, match=r"the source sent 3 rows and (2|-1) were written"):
        asyncio.run(export(url, index, format))


@pytest.mark.parametrize(
    "text",
    ["1.00000000000000000000000000000001", "1" * 39, "0." + "0" * 399 + "1", "1" + "0" * 309, "1234567890.123456"],
)
def test_numbers_that_excel_would_round_are_written_as_text(url: str, text: str) -> None:
    assert cells(content(url, over(url, "numeric", [text], NUMBER), "xlsx")) == [text]


def test_numbers_that_excel_keeps_are_written_as_numbers(url: str) -> None:
    values = ["999999999999999", "-0.1", "123456789012345000", "1e-300"]
    found = cells(content(url, over(url, "numeric", list(values), NUMBER), "xlsx"))
    assert found == [float(value) for value in values]
    assert all(isinstance(value, int | float) for value in found)


def test_a_cell_of_more_utf_16_units_than_excel_holds_ends_the_export(url: str) -> None:
    assert cells(content(url, over(url, "text", ["🚢" * 16_383]), "xlsx")) == ["🚢" * 16_383]
    index = over(url, "text", ["short", "🚢" * 20_000])
    with pytest.raises(LongshoreError, match=r'column "value" of the row with id 1 holds .*40,000 characters'):
        asyncio.run(export(url, index, "xlsx"))


def test_markup_of_rich_text_is_plain_text_in_a_workbook(url: str) -> None:
    value = "<r><t>bold</t></r>"
    data = content(url, over(url, "text", [value]), "xlsx")
    assert cells(data) == [value]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert b"<t>bold</t>" not in archive.read("xl/worksheets/sheet1.xml")


def test_a_workbook_keeps_the_line_breaks_of_json_documents(url: str) -> None:
    document = '{"b": 1,\n  "a": [1.10,\r\n 2]}'
    data = content(url, over(url, "json", [document]), "xlsx")
    assert [cell.replace("_x000D_", "\r") for cell in cells(data)] == [document]


def test_an_error_for_too_many_decimals_in_parquet_names_the_remedy(url: str) -> None:
    index = over(url, "integer", ["3", "1"])
    third = Field(type=NUMBER, description="", sql="value / 3.0")
    with pytest.raises(
        LongshoreError, match=r'"value" of the row with id 1 holds .0\.33333.*declare `decimals` in the cat'
    ):
        asyncio.run(export(url, msgspec.structs.replace(index, fields={"value": third}), "parquet"))
    rounded = msgspec.structs.replace(third, sql="round(value / 3.0, 4)")
    data = content(url, msgspec.structs.replace(index, fields={"value": rounded}), "parquet")
    assert parquet_values(data) == [Decimal(1), Decimal("0.3333")]


@pytest.mark.parametrize(("type", "text"), [("numeric", "NaN"), ("timestamptz", "infinity"), ("date", "-infinity")])
def test_value_that_no_rounding_brings_into_parquet_is_not_to_be_rounded(url: str, type: str, text: str) -> None:
    with pytest.raises(LongshoreError, match=r"leave out the row by a rule, or export to csv") as refused:
        content(url, over(url, type, [text], NUMBER if type == "numeric" else FieldType.DATE), "parquet")
    assert "round" not in str(refused.value)


def test_parquet_has_a_cell_of_nine_megabytes(url: str) -> None:
    index = over(url, "text", ["a", None, "b"])
    asyncio.run(execute(url, "update limits.rows set value = repeat(E'x\"\\n', 3000000) where id = 1"))
    assert sorted(parquet_values(content(url, index, "parquet"))) == ["a", "b", 'x"\n' * 3_000_000]


def test_a_value_that_is_refused_late_in_a_large_export_is_named(url: str) -> None:
    index = over(url, "numeric", [], NUMBER)
    fill = "insert into limits.rows select n, 1764, now(), n from generate_series(1, 400000) n"
    asyncio.run(execute(url, f"{fill}; update limits.rows set value = 'NaN' where id = 399999"))
    with pytest.raises(LongshoreError, match="of the row with id 399999 holds 'NaN'"):
        asyncio.run(export(url, index, "parquet"))


def test_row_groups_do_not_depend_on_the_blocks_that_rows_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_BYTES", 1000)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 100)
    field = Field(type=WORDS, description="")
    rows = "".join(f'"line {number}\nof ""two""\n"\n' for number in range(1000)).encode()
    files = set()
    for size in (1, 37, 100_000):
        format = parquet.Parquet(FileSpec([catalog_column(field)]))
        framed = [format.frame(rows[start : start + size]) for start in range(0, len(rows), size)]
        files.add(b"".join([*framed, *format.end()]))
        assert format.rows == 1000
    (one,) = files
    assert pq.read_metadata(io.BytesIO(one)).num_row_groups > 5


def catalog_column(field: Field) -> Any:
    from longshore.exports.columns import Column

    return Column("value", field, "value", "text")


def test_record_that_spans_many_blocks_is_searched_once() -> None:
    records = Records(10)
    blocks = [b'"' + b"\n" * 50_000, *[b"\n" * 50_000] * 200, b'"\nnext\n']
    pieces = [piece for block in blocks for piece in records.add(block)]
    assert [len(piece) for piece in pieces] == [201 * 50_000 + 3]
    assert records.rest() == b"next\n"


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_rows_of_many_sizes_with_line_breaks_and_quotes_are_all_in_the_file(url: str, format: str) -> None:
    data = content(url, of_many_sizes(url), format)
    if format == "csv":
        found = [record[0] for record in rfc4180.read(data)][1:]
    else:
        found = [json.loads(line)["value"] for line in data.splitlines()]
    assert sorted(map(str, found), key=len) == ['"\r\n' * (number * number // 7) for number in range(300)]


def test_postgresql_and_asyncpg_pass_on_whole_rows(url: str) -> None:
    """No block ends inside a row, whatever the size of the rows: the formats rely on that."""
    of_many_sizes(url)
    blocks: list[bytes] = []

    async def take(data: bytes) -> None:
        blocks.append(bytes(data))

    async def copy() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.copy_from_query("select value from limits.rows", output=take, format="csv")
        finally:
            await connection.close()

    asyncio.run(copy())
    assert len(blocks) > 10
    assert all(block.endswith(b"\n") for block in blocks)
    assert sum(len(list(csv.reader(io.StringIO(block.decode(), newline="")))) for block in blocks) == 300


def of_many_sizes(url: str) -> Index:
    """Return an index of 300 rows whose values have 0 to 38,000 characters, all of them quotes and line breaks."""
    index = over(url, "text", [])
    values = "repeat(E'\"\\r\\n', n * n / 7) from generate_series(0, 299) n"
    asyncio.run(execute(url, f"insert into limits.rows select n, {CHAIN}, now(), {values}"))
    return index


ODD = [
    '[{"sku": "a", "price": 1.50, "kept": true, "gift_wrap": "secret"}]',
    '[{"sku": 42, "price": "12.50", "kept": "false"}, {"price": 0.25}]',
    '[{"sku": "c", "price": "n/a", "kept": null}, 5, null]',
    '{"sku": "d"}',
    "[]",
    None,
]
SHOWN = [
    [{"sku": "a", "price": Decimal("1.50"), "kept": True}],
    [{"sku": "42", "price": Decimal("12.50"), "kept": False}, {"sku": None, "price": Decimal("0.25"), "kept": None}],
    [{"sku": "c", "price": None, "kept": None}, None, None],
    None,
    [],
    None,
]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_nested_fields_are_those_that_the_catalog_declares_in_every_format(url: str, kind: str, format: str) -> None:
    data = content(url, over(url, kind, ODD, ITEMS), format)
    assert b"gift_wrap" not in data
    match format:
        case "csv":
            texts = [record[0] for record in rfc4180.read(data)][1:]
        case "xlsx":
            texts = cells(data)
        case "json":
            texts = [json.dumps(row["value"]) for row in json.loads(data)]
        case "jsonl":
            texts = [json.dumps(json.loads(line)["value"]) for line in data.splitlines()]
        case _:
            assert parquet_values(data) == SHOWN
            return
    found = [None if text is None else json.loads(text, parse_float=Decimal) for text in texts]
    assert found == SHOWN


@pytest.mark.parametrize("kind", ["json", "jsonb"])
@pytest.mark.parametrize("name", ["", "n" * 70])
def test_a_field_inside_a_nested_one_has_a_name_that_no_column_can_have(url: str, kind: str, name: str) -> None:
    nested = Field(type=FieldType.NESTED, description="", fields={name: Field(type=WORDS, description="")})
    value = [{name: "a"}, {name: None}]
    assert json.loads(content(url, over(url, kind, [json.dumps(value)], nested), "jsonl")) == {"value": value}


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_odd_values_are_counted_or_named_as_the_catalog_says(url: str, kind: str) -> None:
    index = over(url, kind, ODD, ITEMS)

    async def counted(on_odd: Any, values: str = "true") -> int:
        changed = {"value": msgspec.structs.replace(ITEMS, on_odd=on_odd)}
        of = msgspec.structs.replace(index, fields=changed, filter=values)
        connection = await asyncpg.connect(url)
        try:
            columns = await columns_of(connection, of, choices(None, of))
            return await odd_values.count(connection, RowQuery(of.from_clause, (CHAIN,)), columns, RowKey("id", '"id"'))
        finally:
            await connection.close()

    assert asyncio.run(counted("null")) == 3
    assert asyncio.run(counted("error", "id in (0, 1, 4, 5)")) == 0
    with pytest.raises(LongshoreError, match=r'"value\[0\]\.price" of the row with id 2 holds "n/a"'):
        asyncio.run(counted("error", "id = 2"))
    with pytest.raises(LongshoreError, match=r'"value" of the row with id 3 holds {"sku": "d"}'):
        asyncio.run(counted("error", "id = 3"))


@pytest.mark.parametrize("kind", ["json", "jsonb"])
@pytest.mark.parametrize(("field", "empty"), [("sku", ["1", "4"]), ("price", ["2", "4"])])
def test_a_rule_on_a_nested_field_takes_the_rows_whose_objects_in_the_file_meet_it(
    url: str, kind: str, field: str, empty: list[str]
) -> None:
    values: list[str | None] = [
        '[5, null, "x", [1]]',
        '[{"sku": {"of": 1}, "price": 1}]',
        '[{"sku": "a", "price": "n/a"}, 7]',
        '[{"sku": "b", "price": "1.5"}]',
        "[{}]",
        "[]",
        None,
    ]
    index = over(url, kind, values, ITEMS)
    shown = [json.loads(line)["value"] for line in content(url, index, "jsonl").splitlines()]
    of_file = [str(id) for id, items in enumerate(shown) if any(item and item[field] is None for item in items or ())]
    rule = Rule(field, "nested", "is_empty", nested=True, nesting_path="value")
    segment = Segment("people", "rows", "all", CHAIN, [rule])
    met = condition(segment, index, {}, Interval(None, datetime(2026, 5, 26, tzinfo=UTC)), 1)

    async def taken() -> list[str]:
        connection = await asyncpg.connect(url)
        try:
            query = f"select id::text from limits.rows where {met.sql} order by id"
            return [row["id"] for row in await connection.fetch(query, *met.values)]
        finally:
            await connection.close()

    assert asyncio.run(taken()) == of_file == empty


def test_parquet_names_the_path_of_a_nested_number_that_it_cannot_hold(url: str) -> None:
    index = over(url, "jsonb", ['[{"price": 1}, {"price": 0.30000000000000004}]'], ITEMS)
    with pytest.raises(
        LongshoreError, match=r'"value" of the row with id 0 .*whose \[1\]\.price is 0\.30000000000000004'
    ):
        asyncio.run(export(url, index, "parquet"))


def test_a_nested_field_may_have_any_name(url: str) -> None:
    names = ['a"b', "it's", "$1", "back\\slash", "é🚢", "x" * 80, "Sku"]
    fields = {name: Field(type=WORDS, description="") for name in names}
    items = msgspec.structs.replace(ITEMS, fields=fields)
    value = json.dumps([dict.fromkeys(names, "v")])
    data = content(url, over(url, "jsonb", [value], items), "json")
    assert json.loads(data)[0]["value"] == [dict.fromkeys(names, "v")]


@pytest.mark.parametrize("delimiter", ["\x00", '"', "\n", "a", "é"])
def test_a_delimiter_that_postgresql_refuses_is_a_violation(delimiter: str) -> None:
    assert check_options(CsvOptions(delimiter=delimiter), "/csv")


def test_every_delimiter_that_is_allowed_works(url: str) -> None:
    index = over(url, "text", ["a"])
    for code in range(128):
        options = CsvOptions(delimiter=chr(code), null="null")
        if not check_options(options, "/csv"):
            found, _, _ = asyncio.run(export(url, index, "csv", csv=options))
            assert found.endswith(b"a\r\n")


def test_an_error_names_a_row_by_its_key_only_where_the_export_has_that_column() -> None:
    of = msgspec.structs.replace(index_over("limits.rows", id=FieldType.NUMBER, value=FieldType.TEXT), key="id")

    def key_of(*names: str) -> str | None:
        columns = [Column(name, of.fields[name], f'"{name}"', "text") for name in names]
        key = row_key(of, columns)
        return key.name if key else None

    assert key_of("id", "value") == "id"
    assert key_of("value") is None


@pytest.mark.parametrize("format", ["parquet", "xlsx"])
def test_an_error_names_a_row_by_all_columns_of_its_key(url: str, format: str) -> None:
    index = msgspec.structs.replace(over(url, "text", ["short", "🚢" * 20_000]), key=["chain_id", "id"])
    if format == "parquet":
        index = msgspec.structs.replace(over(url, "numeric", ["1", "NaN"], NUMBER), key=["chain_id", "id"])
    with pytest.raises(LongshoreError, match=rf'column "value" of the row with chain_id {CHAIN}, id 1 holds '):
        asyncio.run(export(url, index, format))


def test_name_of_a_row_by_several_columns_calls_no_function_that_the_source_may_have_too(url: str) -> None:
    index = msgspec.structs.replace(over(url, "numeric", ["1", None], NUMBER), key=["chain_id", "id", "value"])
    volatile = "create or replace function limits.concat(text, text) returns text language sql return $1 || $2"
    asyncio.run(execute(url, volatile))
    try:
        _, copied, plan = asyncio.run(export(url, index, "parquet"))
    finally:
        asyncio.run(execute(url, "drop function limits.concat"))
    assert copied.rows == 2
    assert not plan.one_statement


def test_an_error_names_a_row_by_the_columns_of_its_key_that_the_export_has() -> None:
    types = dict.fromkeys(("store", "number", "dollar$"), FieldType.NUMBER)
    of = msgspec.structs.replace(index_over("limits.rows", **types), key=["store", "number", "dollar$"], time="number")

    def key_of(*names: str) -> RowKey | None:
        return row_key(of, [Column(name, of.fields[name], quoted_identifier(name), "int8") for name in names])

    assert key_of("store") == RowKey("store", '"store"')
    both = """coalesce(("store")::text, '')||E', number '||coalesce(("number")::text, '')"""
    assert key_of("number", "store") == RowKey("store", both)
    last = key_of("dollar$", "number")
    assert last is not None and "$" not in last.expression
    assert key_of() is None


@pytest.mark.parametrize(("text", "decimals"), [("1." + "0" * 42, None), ("0.125" + "0" * 38, 3), ("0e-300", None)])
def test_parquet_holds_a_decimal_whatever_number_of_zeros_ends_it(url: str, text: str, decimals: int | None) -> None:
    field = Field(type=NUMBER, description="", decimals=decimals)
    assert parquet_values(content(url, over(url, "numeric", [text], field), "parquet")) == [Decimal(text)]
    nested = over(url, "jsonb", [f'[{{"price": {text}}}]'], ITEMS)
    assert parquet_values(content(url, nested, "parquet"))[0][0]["price"] == Decimal(text)


def test_parquet_refuses_a_nested_number_that_is_almost_zero(url: str) -> None:
    index = over(url, "json", ['[{"price": 1e-2000000}]'], ITEMS)
    with pytest.raises(LongshoreError, match=r"whose \[0\]\.price is 1E-2000000, which has more decimals"):
        asyncio.run(export(url, index, "parquet"))


def test_parquet_refuses_a_long_nested_number_and_shows_its_beginning(url: str) -> None:
    index = over(url, "jsonb", ['[{"price": 1e400}]'], ITEMS)
    with pytest.raises(LongshoreError, match=r"price is 10{99}…, which"):
        asyncio.run(export(url, index, "parquet"))


ENDLESS = {
    "price": ["1" * 200_000, "0." + "1" * 20_000, "1" * 131_072 + "e999"],
    "at": ["2026-05-26T12:00:00." + "1" * 200 + "Z"],
}


@pytest.mark.parametrize("kind", ["json", "jsonb"])
@pytest.mark.parametrize("name", ENDLESS)
def test_a_string_of_more_digits_than_postgresql_reads_is_no_number_and_no_time(url: str, kind: str, name: str) -> None:
    fields = {"price": ITEMS.fields["price"], "at": Field(type=FieldType.DATE, description="")}
    items = msgspec.structs.replace(ITEMS, fields=fields, on_odd="null")
    index = over(url, kind, [json.dumps([{name: text}]) for text in ENDLESS[name]], items)
    shown = [json.loads(line)["value"][0][name] for line in content(url, index, "jsonl").splitlines()]
    assert shown == ([None] * 3 if name == "price" else ENDLESS[name])
    rule = Rule(name, "nested", "is_not_empty", nested=True, nesting_path="value")
    assert asyncio.run(count_met(url, index, rule)) == 0


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("price", NUMBER, "1e308"),
        ("price", NUMBER, '"1e999"'),
        ("at", FieldType.DATE, '"2026-05-26T12:00:00.' + "1" * 30 + 'Z"'),
    ],
)
def test_numbers_and_times_of_many_digits_inside_json_meet_rules(
    url: str, name: str, kind: FieldType, value: str
) -> None:
    items = msgspec.structs.replace(ITEMS, fields={name: Field(type=kind, description="")})
    index = over(url, "jsonb", [f'[{{"{name}": {value}}}]'], items)
    rule = Rule(name, "nested", "is_not_empty", nested=True, nesting_path="value")
    assert asyncio.run(count_met(url, index, rule)) == 1


async def count_met(url: str, index: Index, rule: Rule) -> int:
    """Return the number of rows that meet a rule."""
    segment = Segment("people", "rows", "all", CHAIN, [rule])
    met = condition(segment, index, {}, Interval(None, datetime(2026, 5, 26, tzinfo=UTC)), 1)
    connection = await asyncpg.connect(url)
    try:
        found: int = await connection.fetchval(f"select count(*) from limits.rows where {met.sql}", *met.values)
        return found
    finally:
        await connection.close()
