"""Any content of a table round-trips through every format, read by a reader that shares no code with the writer."""

import asyncio
import csv
import gzip
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import duckdb
import msgspec
import openpyxl
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longshore.exports.catalog import Field, FieldType, Index, load
from longshore.exports.formats.dialect import PROFILES, CsvOptions
from tests.exports.engine import CHAIN, export, index_over
from tests.service import Longshore

TABLE = """
drop schema if exists things cascade;
create schema things;
create table things.things (
    chain_id bigint not null,
    at timestamptz not null default '2026-05-26 12:00:00.123456+00',
    number integer primary key,
    words text,
    code text,
    amount numeric(14, 4),
    count bigint,
    yes boolean,
    day date,
    moment timestamptz,
    items jsonb
)
"""

ITEMS = Field(
    type=FieldType.NESTED,
    description="",
    fields={
        "sku": Field(type=FieldType.KEYWORD, description=""),
        "price": Field(type=FieldType.NUMBER, description="", decimals=4),
        "kept": Field(type=FieldType.BOOLEAN, description=""),
    },
)
INDEX = index_over(
    "things.things",
    number=FieldType.NUMBER,
    words=FieldType.TEXT,
    code=FieldType.KEYWORD,
    amount=FieldType.NUMBER,
    count=FieldType.NUMBER,
    yes=FieldType.BOOLEAN,
    day=FieldType.DATE,
    moment=FieldType.DATE,
    items=ITEMS,
)

Row = dict[str, Any]

JSON = msgspec.json.Encoder(decimal_format="number")

WORDS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        ",",
        '"',
        '""',
        "\n",
        "\r\n",
        "\r",
        "\\",
        "\\.",
        "\\N",
        "NULL",
        "=1+1",
        "-12.50",
        "@x",
        "'=1",
        "0042",
        "😀",
    ]
)
AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=4, allow_nan=False, allow_infinity=False)
WIDEST = Decimal("9" * 34 + ".9999")  # the 38 digits of an item's price in Parquet
ITEM = st.fixed_dictionaries(
    {"sku": st.none() | WORDS, "price": st.none() | AMOUNTS | st.just(WIDEST), "kept": st.none() | st.booleans()}
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "words": st.none() | WORDS,
            "code": st.none() | WORDS,
            "amount": st.none() | AMOUNTS,
            "count": st.none() | st.integers(-(2**63), 2**63 - 1),
            "yes": st.none() | st.booleans(),
            "day": st.none() | st.dates(date(1, 1, 2), date(9999, 12, 30)),  # asyncpg makes infinities of the ends
            "moment": st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
            "items": st.none() | st.lists(ITEM, max_size=3),
        }
    ),
    max_size=12,
)

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def things(service: Longshore) -> Iterator[str]:
    """Yield the address of a database with an empty table `things.things`."""
    asyncio.run(execute(service.url, TABLE))
    yield service.url
    asyncio.run(execute(service.url, "drop schema things cascade"))


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def fill(url: str, rows: list[Row]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("truncate things.things")
        await connection.executemany(
            "insert into things.things (chain_id, number, words, code, amount, count, yes, day, moment, items)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            [(CHAIN, number, *_stored(row)) for number, row in enumerate(rows)],
        )
    finally:
        await connection.close()


def _stored(row: Row) -> list[Any]:
    text = None if row["items"] is None else JSON.encode(row["items"]).decode()
    return [*(row[name] for name in ("words", "code", "amount", "count", "yes", "day", "moment")), text]


def run(url: str, rows: list[Row], name: str, **options: Any) -> bytes:
    """Return the file of these rows."""
    asyncio.run(fill(url, rows))
    content, copied, _ = asyncio.run(export(url, INDEX, name, **options))
    assert copied.rows == copied.sent == len(rows)
    return content


def csv_records(content: bytes, delimiter: str = ",", line_end: str = "\r\n", null: str = "") -> list[list[str | None]]:
    """Return the records of a file; a field that is `null` without quotes is NULL."""
    text, position = content.decode(), 0
    records: list[list[str | None]] = []
    record: list[str | None] = []
    while position < len(text):
        if text[position] == '"':
            field, position = "", position + 1
            while True:
                quote = text.index('"', position)
                field += text[position:quote]
                position = quote + 1
                if text[position : position + 1] != '"':
                    break
                field, position = field + '"', position + 1
            record.append(field)
        else:
            ends = [end for mark in (delimiter, line_end) if (end := text.find(mark, position)) >= 0]
            bare = text[position : min(ends)]
            assert '"' not in bare and "\n" not in bare and "\r" not in bare
            record.append(None if bare == null else bare)
            position = min(ends)
        if text.startswith(line_end, position):
            records.append(record)
            record, position = [], position + len(line_end)
        else:
            assert text[position] == delimiter
            position += 1
            if text.startswith(line_end, position):
                record.append("" if null else None)
                records.append(record)
                record, position = [], position + len(line_end)
    assert not record
    return records


def from_text(record: list[str | None]) -> Row:
    """Return a record of a text format as values."""
    words, code, amount, count, yes, day, moment, items = record[1:]
    return {
        "words": words,
        "code": code,
        "amount": None if amount is None else Decimal(amount),
        "count": None if count is None else int(count),
        "yes": None if yes is None else {"true": True, "false": False}[yes],
        "day": None if day is None else date.fromisoformat(day),
        "moment": None if moment is None else datetime.fromisoformat(moment),
        "items": None if items is None else json.loads(items, parse_float=Decimal, parse_int=Decimal),
    }


def from_json(row: Row) -> Row:
    found = {name: row[name] for name in ("words", "code", "amount", "count", "yes", "day", "moment", "items")}
    found["day"] = None if row["day"] is None else date.fromisoformat(row["day"])
    found["moment"] = None if row["moment"] is None else datetime.fromisoformat(row["moment"])
    return found


@quick
@given(rows=ROWS)
def test_csv_round_trips_every_value(things: str, rows: list[Row]) -> None:
    content = run(things, rows, "csv")
    header, *records = csv_records(content)
    assert header == list(INDEX.fields)
    assert [from_text(record) for record in records] == rows
    assert len(list(csv.reader(io.StringIO(content.decode(), newline="")))) == len(rows) + 1


@quick
@given(rows=ROWS)
def test_json_and_json_lines_round_trip_every_value(things: str, rows: list[Row]) -> None:
    array = json.loads(run(things, rows, "json"), parse_float=Decimal)
    assert [from_json(row) for row in array] == rows
    lines = run(things, rows, "jsonl").split(b"\n")
    assert lines.pop() == b""
    assert [from_json(json.loads(line, parse_float=Decimal)) for line in lines] == rows


@quick
@given(rows=ROWS)
def test_parquet_round_trips_every_value_with_its_type(things: str, rows: list[Row]) -> None:
    table = pq.read_table(io.BytesIO(run(things, rows, "parquet")))
    assert str(table.schema.field("amount").type) == "decimal128(14, 4)"
    assert str(table.schema.field("moment").type) == "timestamp[us, tz=UTC]"
    found = [{name: value for name, value in row.items() if name != "number"} for row in table.to_pylist()]
    assert found == rows


def test_duckdb_reads_the_same_from_csv_and_from_parquet(things: str, tmp_path: Any) -> None:
    rows: list[Row] = [
        {
            "words": f"w{number}",
            "code": f"{number:06}",
            "amount": Decimal(number) / 8,
            "count": number,
            "yes": number % 2 == 0,
            "day": date(2026, 5, 26),
            "moment": datetime(2026, 5, 26, 12, tzinfo=UTC) + timedelta(seconds=number),
            "items": [],
        }
        for number in range(1000)
    ]
    (tmp_path / "f.csv").write_bytes(run(things, rows, "csv"))
    (tmp_path / "f.parquet").write_bytes(run(things, rows, "parquet"))
    sums = "count(*), sum(amount), max(moment::timestamp), min(code)"
    with duckdb.connect() as database:
        one = database.execute(
            f"select {sums} from read_csv('{tmp_path}/f.csv', types={{'code': 'varchar', 'amount': 'decimal(14,4)'}})"
        ).fetchone()
        other = database.execute(f"select {sums} from '{tmp_path}/f.parquet'").fetchone()
    assert one is not None and other is not None
    assert one[0] == other[0] == 1000
    assert one[1] == other[1] == sum(row["amount"] for row in rows)
    assert one[3] == other[3] == "000000"


@quick
@given(rows=ROWS, profile=st.sampled_from(sorted(PROFILES)))
def test_every_csv_profile_round_trips_text_and_numbers(things: str, rows: list[Row], profile: Any) -> None:
    content = run(things, rows, "csv", csv=CsvOptions(profile=profile))
    asked = PROFILES[profile]
    if asked.bom:
        assert content.startswith(b"\xef\xbb\xbf")
        content = content.removeprefix(b"\xef\xbb\xbf")
    _, *records = csv_records(content, asked.delimiter, asked.line_end.decode(), asked.null)
    found = []
    for record in records:
        plain = [_undo(value, number in (1, 2), asked.words_as_formulas) for number, value in enumerate(record)]
        if asked.decimal_comma and plain[3] is not None:
            plain[3] = plain[3].replace(",", ".")
        found.append(from_text(plain))
    assert found == rows


def _undo(value: str | None, words: bool, formulas: bool) -> str | None:
    if value is None or not words or not formulas:
        return value
    if value.startswith('="') and value.endswith('"'):
        return value[2:-1]
    return value.removeprefix("'")


def test_csv_for_excel_escapes_formulas_and_keeps_numbers(things: str) -> None:
    base = {"count": None, "yes": None, "day": None, "moment": None, "items": None}
    rows = [{"words": "=cmd()", "code": "0042", "amount": Decimal("-12.5000"), **base}]
    record = csv_records(run(things, rows, "csv", csv=CsvOptions(profile="excel")).removeprefix(b"\xef\xbb\xbf"))[1]
    assert record[1:4] == ["'=cmd()", '="0042"', "-12.5000"]


FIGURES = ["0042", ".5", "5%", "(5)", "€5", "5 kr", "MAR1", "Dez 1", "1-2", "1/2", "1e5", " 5", "TRUE", "false", "#N/A",
           "12:30", "5,0", "٣ of 5"]  # fmt: skip
PLAIN = ["", "EUR", "truest", "true north", 'five "5"', "A5" + "x" * 300]


@pytest.mark.parametrize("profile", ["excel", "excel-eu"])
def test_keywords_that_a_spreadsheet_would_change_are_formulas_of_their_text(things: str, profile: Any) -> None:
    base = {"words": "5%", "amount": None, "count": None, "yes": None, "day": None, "moment": None, "items": None}
    rows = [{"code": code, **base} for code in [*FIGURES, *PLAIN]]
    content = run(things, rows, "csv", csv=CsvOptions(profile=profile)).removeprefix(b"\xef\xbb\xbf")
    records = csv_records(content, PROFILES[profile].delimiter)[1:]
    assert [record[2] for record in records] == [*(f'="{code}"' for code in FIGURES), *PLAIN]
    assert {record[1] for record in records} == {"5%"}  # text that is no keyword is unchanged


def test_xlsx_writes_text_as_text_and_numbers_as_numbers(things: str) -> None:
    moment = datetime(2026, 5, 26, 12, 0, 1, tzinfo=UTC)
    row = {
        "words": "=1+1",
        "code": "0042",
        "amount": Decimal("-12.5"),
        "count": 2**53 + 1,
        "yes": True,
        "day": date(2026, 5, 26),
        "moment": moment,
        "items": [{"sku": "007", "price": Decimal(1), "kept": None}],
    }
    book = openpyxl.load_workbook(io.BytesIO(run(things, [row], "xlsx")))
    sheet = book["Export"]
    header, found = sheet.iter_rows(values_only=True)
    assert header == tuple(INDEX.fields)
    assert found[1:6] == ("=1+1", "0042", -12.5, str(2**53 + 1), True)
    assert found[7] == moment.replace(tzinfo=None)
    assert json.loads(str(found[8]))[0]["sku"] == "007"
    assert sheet.cell(2, 2).data_type == "s"


@pytest.mark.parametrize("name", ["csv", "json", "jsonl"])
def test_compressed_files_are_the_same_files_compressed(service: Longshore, name: str) -> None:
    index = load()["transactions"]
    plain, _, _ = asyncio.run(export(service.url, index, name))
    gzipped, _, _ = asyncio.run(export(service.url, index, name, compression="gzip"))
    zstandarded, _, _ = asyncio.run(export(service.url, index, name, compression="zstd"))
    assert gzip.decompress(gzipped) == plain
    assert zstandard.ZstdDecompressor().decompressobj().decompress(zstandarded) == plain


@pytest.mark.parametrize("name", ["csv", "json", "jsonl", "parquet", "xlsx"])
def test_file_of_an_export_does_not_depend_on_the_number_of_connections(service: Longshore, name: str) -> None:
    index: Index = load()["transactions"]
    files = {asyncio.run(export(service.url, index, name, connections=count))[0] for count in (1, 2, 4)}
    assert len(files) == 1


def test_a_large_table_is_cut_into_ranges_of_blocks_and_each_row_comes_once(service: Longshore) -> None:
    index = load()["wallet-ledger"]
    content, copied, cut = asyncio.run(export(service.url, index, "csv", connections=3))
    assert len(cut.ranges) > 1
    assert all(part.kind == "blocks" for part in cut.ranges)
    ids = [int(line.split(",", 1)[0]) for line in content.decode().split("\r\n") if line[:1].isdigit() and "," in line]
    assert copied.rows == 20_000
    assert len(set(ids)) == len(ids) >= 20_000
