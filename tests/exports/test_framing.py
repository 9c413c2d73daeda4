"""The framing of PostgreSQL's output: the same bytes however its rows come in blocks, and every row is counted."""

import json
from decimal import Decimal
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.exports import readback
from longshore.exports.catalog import Field, FieldType
from longshore.exports.columns import Column
from longshore.exports.formats import FileSpec
from longshore.exports.formats.csv import Csv
from longshore.exports.formats.csv_reader import CsvReader
from longshore.exports.formats.dialect import Dialect
from longshore.exports.formats.format import Format
from longshore.exports.formats.json import Json
from longshore.exports.formats.reader import Layout
from longshore.exports.readback import RunningTextSums
from longshore.exports.totals import TotalColumns
from tests.exports import rfc4180

VALUES = st.none() | st.text(st.sampled_from('a,"\r\n\\.é🚢 \x01'), max_size=6) | st.text(max_size=4)
RECORDS = st.lists(st.lists(VALUES, min_size=2, max_size=3), max_size=6)
Form = TypeVar("Form", Csv, Json)

NAMES = ("first", 'odd "\n" name')
CUTS = st.lists(st.integers(0, 10**6), max_size=12)


def copied(records: list[list[str | None]]) -> list[bytes]:
    """Return the rows of COPY … (format csv): quotes where they are needed, LF after each record."""

    def field(value: str | None) -> str:
        if value is None:
            return ""
        plain = value and value != "\\." and not any(mark in value for mark in ',"\r\n')
        return value if plain else '"' + value.replace('"', '""') + '"'

    return [(",".join(map(field, record)) + "\n").encode("utf-8", "replace") for record in records]


def blocks(rows: list[bytes], cuts: list[int]) -> list[bytes]:
    """Return the rows in blocks, cut at these places."""
    places = sorted({cut % (len(rows) + 1) for cut in cuts} - {0, len(rows)})
    return [b"".join(rows[start:end]) for start, end in zip([0, *places], [*places, len(rows)], strict=True) if rows]


def make(kind: type[Form]) -> Form:
    """Return the format for two columns."""
    columns = [Column(name, Field(FieldType.TEXT, "Words."), "words", "text") for name in NAMES]
    return kind(FileSpec(columns))


def framed(format: Format, parts: list[bytes]) -> bytes:
    """Return the file of these blocks of rows."""
    return format.begin() + b"".join(format.frame(part) for part in parts) + b"".join(format.end())


@given(RECORDS, CUTS)
def test_csv_is_the_same_however_its_rows_arrive(records: list[list[str | None]], cuts: list[int]) -> None:
    data = copied(records)
    whole, cut = make(Csv), make(Csv)
    content = framed(whole, blocks(data, []))
    assert framed(cut, blocks(data, cuts)) == content
    assert whole.rows == cut.rows == len(records)
    expected = [[value and value.encode("utf-8", "replace").decode() for value in record] for record in records]
    assert rfc4180.read(content) == [list(NAMES), *expected]


@given(RECORDS)
def test_csv_that_arrives_row_by_row_is_the_same(records: list[list[str | None]]) -> None:
    data = copied(records)
    format = make(Csv)
    assert framed(format, data) == framed(make(Csv), blocks(data, []))
    assert format.rows == len(records)


@given(st.lists(st.tuples(VALUES, st.integers(-(10**6), 10**6)), max_size=6), CUTS)
def test_amounts_add_up_however_the_rows_arrive(records: list[tuple[str | None, int]], cuts: list[int]) -> None:
    format, expected = make(Csv), dict[str | None, tuple[int, Decimal]]()
    for word, amount in records:
        key = word and word.encode("utf-8", "replace").decode().rstrip(" ")
        rows, total = expected.get(key, (0, Decimal(0)))
        expected[key] = rows + 1, total + amount
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readback, "BATCH_BYTES", 1)  # so that each block is added up by itself
        layout, columns = Layout("csv", NAMES, Dialect()), TotalColumns(amount=NAMES[1], per=NAMES[0], scale=0)
        text = RunningTextSums(CsvReader(), layout, columns)
        for block in blocks(copied([[word, str(amount)] for word, amount in records]), cuts):
            text.add(format.frame(block))
        assert text.end() == expected


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES | st.integers() | st.booleans(), max_size=3)), CUTS)
def test_json_is_the_same_however_its_rows_arrive(records: list[dict[str, object]], cuts: list[int]) -> None:
    data = [(json.dumps(record) + "\n").encode() for record in records]
    whole, cut = make(Json), make(Json)
    content = framed(whole, blocks(data, []))
    assert framed(cut, blocks(data, cuts)) == content
    assert whole.rows == cut.rows == len(records)
    assert json.loads(content) == records


# A line break between the tokens of a stored document makes PostgreSQL quote the row, with the format's quote U+0001.
INDENTED = st.lists(st.tuples(st.dictionaries(st.text(max_size=2), VALUES, max_size=3), st.booleans()), max_size=6)


@given(INDENTED, CUTS)
def test_json_with_line_breaks_inside_is_the_same_however_its_rows_arrive(
    records: list[tuple[dict[str, object], bool]], cuts: list[int]
) -> None:
    lines = []
    for record, indented in records:
        text = json.dumps(record, indent="\r\n" if indented else None)
        lines.append(f"\x01{text}\x01" if "\n" in text or "\r" in text else text)
    data = [(line + "\n").encode() for line in lines]
    whole, cut = make(Json), make(Json)
    content = framed(whole, blocks(data, []))
    assert framed(cut, blocks(data, cuts)) == content
    assert whole.rows == cut.rows == len(records)
    assert json.loads(content) == [record for record, _ in records]
    assert content.count(b"\n") == len(records) + 2 - (not records)
