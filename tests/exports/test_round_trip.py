"""Unusual values are unchanged in a real export, in every format."""

import asyncio
import csv
import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from longshore.exports import catalog
from longshore.exports.catalog import quoted_identifier
from longshore.exports.columns import columns_of
from longshore.exports.formats.json import object_of
from tests.exports import rfc4180
from tests.odd_values_table import DOCUMENTS, DOUBLES, FIGURES, MOMENTS, ROWS, WORDS
from tests.service import Longshore, ended, export_body, exported

FIELDS = [
    "id", "words", "code", "figure", "double", "flag", "at", "day", "document", "kind", "shouted",
]  # fmt: skip


def body(export_format: str) -> dict[str, Any]:
    found = export_body(export_format)
    found["target"]["export_index"] = "odd"
    return found


@pytest.fixture(scope="module")
def csv_file(odd_values_client: httpx2.Client) -> bytes:
    return exported(odd_values_client, body("csv"))[1]


@pytest.fixture(scope="module")
def json_file(odd_values_client: httpx2.Client) -> bytes:
    return exported(odd_values_client, body("json"))[1]


@pytest.fixture(scope="module")
def csv_rows(csv_file: bytes) -> list[dict[str, str | None]]:
    header, *records = rfc4180.read(csv_file)
    assert header == FIELDS
    rows = [dict(zip(FIELDS, record, strict=True)) for record in records]
    return sorted(rows, key=lambda row: int(row["id"] or ""))


@pytest.fixture(scope="module")
def json_rows(json_file: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(json_file, parse_float=Decimal)
    assert all(list(row) == FIELDS for row in rows)
    return sorted(rows, key=lambda row: int(row["id"]))


def test_csv_and_json_have_every_row(csv_rows: list[dict[str, str | None]], json_rows: list[dict[str, Any]]) -> None:
    assert [row["id"] for row in csv_rows] == [str(number) for number in range(ROWS)]
    assert [row["id"] for row in json_rows] == list(range(ROWS))


def test_texts_are_unchanged_in_csv_and_null_is_not_the_empty_string(csv_rows: list[dict[str, str | None]]) -> None:
    assert [row["words"] for row in csv_rows] == WORDS
    assert [row["code"] for row in csv_rows] == WORDS[::-1]


def test_texts_are_unchanged_in_json_and_null_is_not_the_empty_string(json_rows: list[dict[str, Any]]) -> None:
    assert [row["words"] for row in json_rows] == WORDS
    assert [row["code"] for row in json_rows] == WORDS[::-1]


def test_pythons_csv_module_reads_the_same(csv_file: bytes, csv_rows: list[dict[str, str | None]]) -> None:
    csv.field_size_limit(10_000_000)
    rows = list(csv.reader(io.StringIO(csv_file.decode(), newline=""), strict=True))
    assert rows[0] == FIELDS
    expected = [[value or "" for value in row.values()] for row in csv_rows]
    assert sorted(rows[1:], key=lambda row: int(row[0])) == expected


def test_the_json_command_of_python_reads_an_export(json_file: bytes, tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_bytes(json_file)
    subprocess.run([sys.executable, "-m", "json.tool", file, tmp_path / "out"], check=True)


def test_json_holds_no_constant_that_is_not_json(json_file: bytes) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(json_file, parse_constant=refuse)


def test_numbers_keep_every_digit_in_csv_and_json(
    csv_rows: list[dict[str, str | None]], json_rows: list[dict[str, Any]]
) -> None:
    for number in range(ROWS):
        for name, values in (("figure", FIGURES), ("double", DOUBLES)):
            given = values[number % len(values)]
            in_csv, in_json = csv_rows[number][name], json_rows[number][name]
            if given is None:
                assert (in_csv, in_json) == (None, None)
            elif "N" in given or "I" in given:  # JSON has no number for it, so it is a string there
                assert (in_csv, in_json) == (given, given)
            else:
                assert in_csv is not None
                assert not isinstance(in_json, str)
                assert Decimal(in_csv) == Decimal(given) == Decimal(in_json)
                assert Decimal(in_csv).as_tuple().exponent == Decimal(str(in_json)).as_tuple().exponent


def test_times_are_iso_8601_in_utc_and_other_years_keep_their_spelling(
    csv_rows: list[dict[str, str | None]], json_rows: list[dict[str, Any]]
) -> None:
    for number in range(ROWS):
        shown = MOMENTS[number % len(MOMENTS)][1]
        assert csv_rows[number]["at"] == json_rows[number]["at"] == shown
        day = None if number % 5 == 0 else f"20{number:02}-02-28"
        assert csv_rows[number]["day"] == json_rows[number]["day"] == day


def test_booleans_are_words_in_csv_and_literals_in_json(
    csv_rows: list[dict[str, str | None]], json_rows: list[dict[str, Any]]
) -> None:
    for number in range(ROWS):
        assert csv_rows[number]["flag"] == (None, "true", "false")[number % 3]
        assert json_rows[number]["flag"] == (None, True, False)[number % 3]


def test_json_documents_are_unchanged_in_csv_and_json(
    csv_rows: list[dict[str, str | None]], json_rows: list[dict[str, Any]]
) -> None:
    for number in range(ROWS):
        given = DOCUMENTS[number % len(DOCUMENTS)]
        assert csv_rows[number]["document"] == given
        assert json_rows[number]["document"] == (None if given is None else json.loads(given))


def test_values_of_sql_expressions_and_enums_are_exported(csv_rows: list[dict[str, str | None]]) -> None:
    assert [row["kind"] for row in csv_rows[:3]] == [None, "first", "second"]
    plain = WORDS.index("plain")
    assert csv_rows[plain]["shouted"] == "PLAIN"


def test_numeric_12_2_takes_nan_and_keeps_two_places(
    odd_values_service: Longshore, odd_values_client: httpx2.Client
) -> None:
    odd_values_service.sql(
        "create table odd.missing as select n::bigint id, 1764::bigint chain_id from generate_series(1, 3) n"
    )
    try:
        odd_values_service.sql("alter table odd.missing alter id type numeric(12, 2)")
        odd_values_service.sql("update odd.missing set id = 'NaN' where id = 2")
        odd_values_service.sql("update odd.missing set id = 9999999999.99 where id = 3")
        wanted = body("csv")
        wanted["target"]["export_index"] = "missing"
        content = exported(odd_values_client, wanted)[1]
        assert sorted(content.split(b"\r\n")) == sorted([b"id", b"1.00", b"NaN", b"9999999999.99", b""])
    finally:
        odd_values_service.sql("drop table odd.missing")


def test_objects_are_what_row_to_json_makes_of_the_same_values(odd_values_service: Longshore) -> None:
    index = catalog.load(str(odd_values_service.data / "catalog.toml"))["odd"]
    names = [(name, "a \"b\\' $1\n" + name) for name in index.fields]

    async def compare() -> list[tuple[str, str]]:
        connection = await asyncpg.connect(odd_values_service.url)
        try:
            columns = await columns_of(connection, index, names)
            texts = [column.copy_sql if "timestamp" in column.pg_type else column.expression for column in columns]
            named = (f"{text} as {quoted_identifier(column.name)}" for column, text in zip(columns, texts, strict=True))
            plain = f"select {', '.join(named)} from odd.values order by id"
            theirs = f"select row_to_json(line)::text from ({plain}) line"
            made = await connection.fetch(f"select {object_of(columns)} from odd.values order by id")
            return [(a[0], b[0]) for a, b in zip(made, await connection.fetch(theirs), strict=True)]
        finally:
            await connection.close()

    found = asyncio.run(compare())
    assert len(found) == ROWS
    assert all(made == theirs for made, theirs in found)


@pytest.mark.parametrize("export_format", ["csv", "jsonl", "parquet", "xlsx"])
def test_odd_values_are_null_and_counted_in_skips_or_end_the_run(
    odd_values_service: Longshore, odd_values_client: httpx2.Client, export_format: str
) -> None:
    odd_values_service.sql("drop table if exists odd.baskets")
    odd_values_service.sql(
        "create table odd.baskets as select 7::bigint id, 1764::bigint chain_id, now() as at,"
        """ '[{"price": "n/a"}, {"price": {}}, {"price": 1.5}]'::jsonb items"""
    )
    wanted = body(export_format)
    wanted["target"] |= {"export_index": "baskets", "fields": ["id", "lenient"]}
    task = ended(odd_values_client, odd_values_client.post("/tasks", json=wanted).json()["id"])
    assert task["state"]["code"] == "DONE", task
    assert [(entry["total"], entry["success"], entry["skips"]) for entry in task["logs"] if "skips" in entry] == [
        (1, 1, 2)
    ]
    wanted["target"]["fields"] = ["id", "strict"]
    task = ended(odd_values_client, odd_values_client.post("/tasks", json=wanted).json()["id"])
    assert task["state"]["code"] == "ERROR"
    assert any('column "strict[0].price" of the row with id 7 holds "n/a"' in entry["msg"] for entry in task["logs"])


@pytest.mark.parametrize(("export_format", "empty"), [("csv", b"id\r\n"), ("json", b"[]\n")])
def test_an_export_without_rows_is_a_complete_file(
    odd_values_service: Longshore, odd_values_client: httpx2.Client, export_format: str, empty: bytes
) -> None:
    odd_values_service.sql("create table odd.missing (id bigint, chain_id bigint)")
    try:
        wanted = body(export_format)
        wanted["target"]["export_index"] = "missing"
        task, content = exported(odd_values_client, wanted)
        assert content == empty
        assert (task["logs"][1]["total"], task["logs"][1]["success"]) == (0, 0)
    finally:
        odd_values_service.sql("drop table odd.missing")
