# names of the test's own tables
"""Every PostgreSQL type with its extreme values, through every format and back by third-party readers."""

import asyncio
import csv
import datetime as dt
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import msgspec
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longshore.errors import LongshoreError
from longshore.exports.catalog import FieldType, Index
from longshore.exports.formats.dialect import CsvOptions
from tests.debian_postgres import debian_postgres
from tests.exports import rfc4180
from tests.exports.engine import CHAIN, export, index_over
from tests.exports.type_zoo import KINDS, SCHEMA, Kind, table
from tests.service import Longshore

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
ROWS = max(len(kind.values) for kind in KINDS) + 1  # the last row is NULL throughout
NAMES = [f"c{number}" for number in range(len(KINDS))]
REFUSED = [(number, value) for number, kind in enumerate(KINDS) for value in kind.not_parquet]

MOMENT = re.compile(r"(\d+)-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(\.\d+)?(?:\+00)?)?( BC)?")


@pytest.fixture(scope="module", params=["PostgreSQL 18", "PostgreSQL 15"])
def zoo(request: pytest.FixtureRequest, service: Longshore) -> Iterator[str]:
    """Yield the address of a database with `zoo.animals`, and `zoo.refused` for values that Parquet lacks."""
    if request.param == "PostgreSQL 18":
        asyncio.run(fill(service.url))
        yield service.url
        asyncio.run(execute(service.url, "drop schema zoo cascade"))
        return
    with debian_postgres() as server:
        asyncio.run(fill(server.url()))
        yield server.url()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    columns = ", ".join(f"{name} {kind.sql}" for name, kind in zip(NAMES, KINDS, strict=True))
    inputs = ", ".join(f"${number + 2}::text::{kind.sql}" for number, kind in enumerate(KINDS))
    try:
        await connection.execute("set timezone = 'UTC'; set lc_monetary = 'C'")
        await connection.execute(SCHEMA)
        for name in ("animals", "refused"):
            await connection.execute(
                f"create table zoo.{name} (id bigint primary key, chain_id bigint default {CHAIN},"
                f" at timestamptz default '2026-05-26', {columns})"
            )
        for row in range(ROWS):
            values = [kind.values[row] if row < len(kind.values) else None for kind in KINDS]
            await connection.execute(
                f"insert into zoo.animals (id, {', '.join(NAMES)}) values ($1, {inputs})", row, *values
            )
        for row, (number, value) in enumerate(REFUSED):
            sql = f"insert into zoo.refused (id, c{number}) values ($1, $2::text::{KINDS[number].sql})"
            await connection.execute(sql, row, value)
    finally:
        await connection.close()


def animals(**fields: FieldType) -> Index:
    chosen = fields or {name: kind.field for name, kind in zip(NAMES, KINDS, strict=True)}
    return index_over("zoo.animals", **chosen)


def exported(url: str, format: str) -> bytes:
    content, copied, _ = asyncio.run(export(url, animals(), format))
    assert copied.rows == copied.sent == ROWS
    return content


async def fetched(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def values_of(kind: Kind) -> list[str | None]:
    return [kind.values[row] if row < len(kind.values) else None for row in range(ROWS)]


def moment(text: str) -> tuple[int, ...] | None:
    """Return year, month, day, hour, minute, second, microsecond of a value; None for infinity."""
    found = MOMENT.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[number] or 0) for number in range(1, 7))
    micros = round(Decimal(found[7] or 0) * 1_000_000)
    return (1 - year if found[8] else year, month, day, hour, minute, second, micros)


def in_text(kind: Kind, value: str) -> str:
    """Return the value as CSV has it."""
    found = moment(value)
    if kind.reads_as != "time" or found is None or not 1 <= found[0] <= 9999:
        return value
    return dt.datetime(*found).isoformat(timespec="microseconds") + "Z"  # type: ignore[arg-type]


def test_csv_has_the_text_of_every_type(zoo: str) -> None:
    header, *records = rfc4180.read(exported(zoo, "csv"))
    assert header == NAMES
    for number, kind in enumerate(KINDS):
        found = [record[number] for record in records]
        assert found == [None if value is None else in_text(kind, value) for value in values_of(kind)], kind.sql


def test_csv_for_spreadsheets_has_the_same_nulls_and_words_as_csv(zoo: str) -> None:
    content, _, _ = asyncio.run(export(zoo, animals(), "csv", csv=CsvOptions(profile="excel")))
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))[1:]
    for number, kind in enumerate(KINDS):
        for row, value in zip(rows, values_of(kind), strict=True):
            shown = re.sub(r'^="(.*)"$', r"\1", row[number], flags=re.DOTALL).removeprefix("'")
            assert shown == ("" if value is None else in_text(kind, value)), (kind.sql, value)


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_json_has_numbers_strings_and_documents_of_every_type(zoo: str, format: str) -> None:
    content = exported(zoo, format)
    text = content.decode() if format == "json" else "[" + ",".join(content.decode().split("\n")[:-1]) + "]"
    rows = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    for name, kind in zip(NAMES, KINDS, strict=True):
        for row, value in zip(rows, values_of(kind), strict=True):
            found = row[name]
            if value is None:
                assert found is None
            elif kind.reads_as == "document":
                assert found == json.loads(value, parse_float=Decimal, parse_int=Decimal)
            elif kind.reads_as == "boolean":
                assert found is (value == "true")
            elif kind.reads_as == "number" and value.lstrip("-")[0].isdigit():
                assert isinstance(found, Decimal) and found.compare_total(Decimal(value)) == 0, (kind.sql, value)
            elif kind.reads_as != "structure":
                assert found == in_text(kind, value), kind.sql
    at = KINDS.index(next(kind for kind in KINDS if kind.sql == "numeric[]"))
    assert [row[f"c{at}"] for row in rows[:3]] == [[], [Decimal("1.10"), None, "NaN"], [[1, 2], [3, 4]]]
    at = KINDS.index(next(kind for kind in KINDS if kind.sql == "zoo.pair"))
    assert [row[f"c{at}"] for row in rows[:2]] == [{"number": 1, "word": "a,b"}, {"number": None, "word": None}]


def test_parquet_has_every_value_with_its_type(zoo: str) -> None:
    found = pq.read_table(io.BytesIO(exported(zoo, "parquet")))
    for number, kind in enumerate(KINDS):
        column, values = found.column(number), values_of(kind)
        assert column.null_count == values.count(None)
        if pa.types.is_temporal(column.type):
            stored = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64()).to_pylist()
            expected = [None if value is None else units_since_1970(value, column.type) for value in values]
            assert stored == expected, kind.sql
        elif kind.reads_as == "number" and pa.types.is_decimal(column.type):
            assert column.to_pylist() == [None if value is None else Decimal(value) for value in values]
        elif kind.reads_as == "number" and pa.types.is_floating(column.type):
            as_single = pa.array([None if value is None else float(value) for value in values]).cast(column.type)
            assert repr(column.to_pylist()) == repr(as_single.to_pylist())
        elif kind.reads_as == "number" and pa.types.is_integer(column.type):
            assert column.to_pylist() == [None if value is None else int(value) for value in values]
        elif kind.reads_as == "boolean":
            assert column.to_pylist() == [None if value is None else value == "true" for value in values]
        else:
            assert column.to_pylist() == values, kind.sql


def units_since_1970(value: str, kind: pa.DataType) -> int:
    year, month, day, hour, minute, second, micros = moment(value) or ()
    # 400 years have 146,097 days, so any year has an equal one within Python's calendar.
    cycles, twin = divmod(year - 1, 400)
    days = (dt.date(twin + 1, month, day) - dt.date(1970, 1, 1)).days + cycles * 146_097
    return (
        days
        if pa.types.is_date32(kind)
        else ((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + micros
    )


def test_parquet_has_the_documented_types(zoo: str) -> None:
    found = pq.read_schema(io.BytesIO(exported(zoo, "parquet")))
    types = {kind.sql: str(field.type) for kind, field in zip(KINDS, found, strict=True)}
    assert types["numeric(38,10)"] == types["numeric"] == "decimal128(38, 10)"
    assert types["numeric(76,3)"] == "decimal256(76, 3)"
    assert types["numeric(1000,500)"] == "string"
    assert types["numeric(5,-2)"] == "decimal128(7, 0)"
    assert types["numeric(3,5)"] == "decimal128(5, 5)"
    assert types["zoo.price"] == "decimal128(12, 2)"
    assert types["timestamp"] == types["timestamptz"] == "timestamp[us, tz=UTC]"
    assert (types["date"], types["real"], types["smallint"]) == ("date32[day]", "float", "int16")


def test_duckdb_reads_the_same_from_parquet(zoo: str, tmp_path: Path) -> None:
    file = tmp_path / "zoo.parquet"
    file.write_bytes(exported(zoo, "parquet"))
    with duckdb.connect() as database:
        for number, kind in enumerate(KINDS):
            if "decimal256" in kind.parquet:
                continue
            shown = "epoch_us" if kind.reads_as == "time" else ""
            rows = database.execute(f"select {shown}(c{number})::varchar from '{file}'").fetchall()
            for (found,), value in zip(rows, values_of(kind), strict=True):
                if value is None:
                    assert found is None
                elif kind.reads_as == "time":
                    assert int(found) == units_since_1970(value, pa.timestamp("us"))
                elif kind.reads_as == "date":
                    assert moment(found.replace(" (BC)", " BC")) == moment(value)
                elif kind.reads_as == "number" and found.lstrip("-")[0].isdigit():
                    assert Decimal(found) == Decimal(value) or float(found) == float(value)
                elif kind.reads_as == "number":
                    assert float(found) == float(value) or value == "NaN" == found.replace("nan", "NaN")
                else:
                    assert found == value, kind.sql


@pytest.mark.parametrize(
    "row", range(len(REFUSED)), ids=lambda row: f"{KINDS[REFUSED[row][0]].sql} {REFUSED[row][1]}"[:40]
)
def test_parquet_names_the_value_that_it_cannot_hold(zoo: str, row: int) -> None:
    number, _ = REFUSED[row]
    index = msgspec.structs.replace(
        index_over("zoo.refused", **{f"c{number}": KINDS[number].field}), key="id", filter=f"id = {row}"
    )
    with pytest.raises(LongshoreError) as caught:
        asyncio.run(export(zoo, index, "parquet"))
    (shown,) = asyncio.run(fetched(zoo, f"select c{number}::text from zoo.refused where id = {row}"))[0]
    assert str(caught.value).startswith(f'column "c{number}" of the row with id {row} holds \'{shown[:100]}')


def test_a_workbook_has_every_value_as_a_cell_of_its_type_or_as_text(zoo: str) -> None:
    sheet = openpyxl.load_workbook(io.BytesIO(exported(zoo, "xlsx")))["Export"]
    _, *rows = sheet.iter_rows()
    assert len(rows) == ROWS
    for number, kind in enumerate(KINDS):
        for row, value in zip(rows, values_of(kind), strict=True):
            found = row[number].value
            if value is None:
                assert found is None
            elif isinstance(found, bool):
                assert found is (value == "true") and kind.reads_as == "boolean"
            elif isinstance(found, int | float):
                assert kind.reads_as == "number" and Decimal(repr(found)) == Decimal(value)
                assert len(Decimal(value).normalize().as_tuple().digits) <= 15
            elif isinstance(found, dt.datetime):
                assert (*found.timetuple()[:6], found.microsecond) == moment(value)
            else:
                assert unescaped(str(found)) == in_text(kind, value) or found == in_text(kind, value), kind.sql


def unescaped(text: str) -> str:
    """Return a string of Office Open XML, in which `_x000D_` is a character: ECMA-376, 22.9.2.19 (ST_Xstring)."""
    return re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), text)


def test_docs_have_the_table_of_types() -> None:
    assert table() in DOCS.read_text(encoding="utf-8")
