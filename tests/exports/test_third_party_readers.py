"""Any table content comes back through third-party readers: Python's csv, duckdb, pyarrow, openpyxl."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from longshore.exports.formats.dialect import PROFILES, CsvOptions
from tests.exports import test_formats
from tests.exports.test_formats import INDEX, ROWS, WIDEST, Row, from_json, from_text, quick, run

things = test_formats.things

NAMES = list(INDEX.fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("readers")


def unpacked(content: bytes, compression: str | None) -> bytes:
    if compression == "gzip":
        return gzip.decompress(content)
    return zstandard.ZstdDecompressor().decompressobj().decompress(content) if compression else content


@quick
@given(rows=ROWS, compression=st.sampled_from([None, "gzip", "zstd"]))
def test_arrow_distinguishes_null_from_empty_strings_in_csv(
    things: str, rows: list[Row], compression: str | None
) -> None:
    content = unpacked(run(things, rows, "csv", compression=compression), compression)
    options = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in NAMES},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = pa_csv.read_csv(
        pa.BufferReader(content), parse_options=pa_csv.ParseOptions(newlines_in_values=True), convert_options=options
    )
    assert [from_text(list(record.values())) for record in table.to_pylist()] == rows


@quick
@given(rows=ROWS, profile=st.sampled_from(sorted(PROFILES)), quote_all=st.booleans())
def test_pythons_csv_module_reads_every_profile(things: str, rows: list[Row], profile: Any, quote_all: bool) -> None:
    """Python's reader cannot distinguish NULL from the empty string, unless the profile spells NULL."""
    asked = PROFILES[profile]
    options = CsvOptions(profile=profile, quote_all=quote_all or None, escape_formulas=False)
    content = run(things, rows, "csv", csv=options).decode("utf-8-sig" if asked.bom else "utf-8")
    header, *records = csv.reader(io.StringIO(content, newline=""), delimiter=asked.delimiter, strict=True)
    assert header == NAMES
    assert len(records) == len(rows)
    for record, row in zip(records, rows, strict=True):
        words, code, amount, count = record[1:5]
        assert words == (asked.null if row["words"] is None else row["words"])
        if not asked.words_as_formulas:
            assert code == (asked.null if row["code"] is None else row["code"])
        if row["amount"] is not None:
            assert Decimal(amount.replace(",", ".") if asked.decimal_comma else amount) == row["amount"]
        assert count == (asked.null if row["count"] is None else str(row["count"]))


@quick
@given(rows=ROWS, compression=st.sampled_from([None, "gzip", "zstd"]), format=st.sampled_from(["json", "jsonl"]))
def test_duckdb_reads_json(things: str, folder: Path, rows: list[Row], compression: str | None, format: str) -> None:
    for item in (item for row in rows for item in row["items"] or []):
        item["price"] = None if item["price"] == WIDEST else item["price"]  # numbers of DuckDB's json are doubles
    path = folder / f"file.{format}"
    path.write_bytes(unpacked(run(things, rows, format, compression=compression), compression))
    kinds = "{number: 'integer', words: 'varchar', code: 'varchar', amount: 'decimal(14,4)', count: 'bigint',"
    kinds += " yes: 'boolean', day: 'varchar', moment: 'varchar', items: 'json'}"
    layout = "array" if format == "json" else "newline_delimited"
    with duckdb.connect() as database:
        found = database.execute(
            f"select * from read_json('{path}', columns={kinds}, format='{layout}') order by number"
        ).fetchall()
    shown = [dict(zip(NAMES, row, strict=True)) for row in found]
    for row in shown:
        row["items"] = None if row["items"] is None else json.loads(row["items"], parse_float=Decimal)
    assert [from_json(row) for row in shown] == rows


@quick
@given(rows=ROWS, compression=st.sampled_from([None, "gzip", "zstd"]))
def test_duckdb_and_arrow_read_the_same_from_parquet(
    things: str, folder: Path, rows: list[Row], compression: str | None
) -> None:
    path = folder / "file.parquet"
    path.write_bytes(run(things, rows, "parquet", compression=compression))
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        names = ", ".join(name if name != "moment" else "moment at time zone 'UTC' as moment" for name in NAMES[1:])
        found = database.execute(f"select {names} from '{path}' order by number").fetchall()
    shown = [dict(zip(NAMES[1:], row, strict=True)) for row in found]
    for row in shown:
        row["moment"] = row["moment"] and row["moment"].replace(tzinfo=UTC)
    assert shown == rows
    assert [{name: row[name] for name in NAMES[1:]} for row in pq.read_table(path).to_pylist()] == rows


def unescaped(cell: Any) -> str:
    """Return a cell with _xHHHH_ replaced (ECMA-376, ST_Xstring), as Excel does and openpyxl does not."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), cell or "")


# Without shrinking: an example takes long, and its rows are few.
@settings(quick, max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(rows=ROWS)
def test_openpyxl_reads_every_value_from_a_workbook(things: str, rows: list[Row]) -> None:
    book = openpyxl.load_workbook(io.BytesIO(run(things, rows, "xlsx")))
    header, *found = book["Export"].iter_rows(values_only=True, max_col=len(NAMES))
    assert list(header) == NAMES
    assert len(found) == len(rows)
    for record, row in zip(found, rows, strict=True):
        words, code, amount, count, yes, day, moment, items = record[1:]
        # A workbook does not distinguish NULL from the empty string.
        assert (unescaped(words), unescaped(code)) == (row["words"] or "", row["code"] or "")
        for shown, value in ((amount, row["amount"]), (count, row["count"])):
            assert (None if shown is None else Decimal(str(shown))) == value
        assert yes is row["yes"]
        # Excel's calendar begins in 1900; earlier times are text.
        if row["day"] is not None:
            assert str(day).startswith(row["day"].isoformat())
        if row["moment"] is not None:
            at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
            assert isinstance(at, datetime)
            assert abs(at.replace(tzinfo=UTC) - row["moment"]).total_seconds() < 0.001
        shown = None if items is None else json.loads(unescaped(items), parse_float=Decimal, parse_int=Decimal)
        assert shown == row["items"]
