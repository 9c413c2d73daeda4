"""The schema and the statistics of a table's files."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longshore.exports.catalog import Field, FieldType
from longshore.exports.columns import Column
from longshore.exports.delta_schema import UnsuitedColumnError, statistics, table_schema


def stats_of(values: dict[str, pa.Array], group_rows: int = 2) -> dict[str, Any]:
    """Return the statistics of a Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(values), file, row_group_size=group_rows)
    found: dict[str, Any] = json.loads(statistics(pq.read_metadata(file)), parse_float=Decimal)
    return found


def column(name: str, pg_type: str, kind: FieldType = FieldType.NUMBER, **more: Any) -> Column:
    """Return a column of an export."""
    return Column(name, Field(kind, "x"), name, pg_type, **more)


def test_statistics_span_all_row_groups() -> None:
    amounts = pa.array([Decimal("1.50"), None, Decimal("-2.25"), None, Decimal("9.00")], pa.decimal128(12, 2))
    found = stats_of({"amount": amounts, "id": pa.array([5, 4, 3, 2, 1])})
    assert found == {
        "numRecords": 5,
        "minValues": {"amount": Decimal("-2.25"), "id": 1},
        "maxValues": {"amount": Decimal("9.00"), "id": 5},
        "nullCount": {"amount": 2, "id": 0},
    }


def test_statistics_write_decimals_with_all_their_digits() -> None:
    wide = Decimal("-12345678901234567890123456.7890123456")
    file = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array([wide, Decimal(0)], pa.decimal128(36, 10))}), file)
    text = statistics(pq.read_metadata(file))
    assert f'"minValues":{{"a":{wide}}}' in text
    assert '"maxValues":{"a":0.0000000000}' in text


def test_statistics_round_times_away_from_the_values() -> None:
    moments = [datetime(2026, 5, 26, 12, 0, 0, micros, UTC) for micros in (1_999, 2_001)]
    found = stats_of({"at": pa.array(moments, pa.timestamp("us", "UTC")), "day": pa.array([date(2026, 5, 26)] * 2)})
    assert found["minValues"] == {"at": "2026-05-26T12:00:00.001Z", "day": "2026-05-26"}
    assert found["maxValues"] == {"at": "2026-05-26T12:00:00.003Z", "day": "2026-05-26"}


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.0, float("nan")]),
        pa.array([None, None], pa.string()),
        pa.array(["a", "b" * 65]),
        pa.array([0, -(10**7)], pa.date32()),
        pa.array(["a", "b" * 100_000]),
    ],
    ids=["with NaN", "without values", "with a long word", "beyond the years of Python", "beyond Parquet's statistics"],
)
def test_column_without_exact_extremes_has_its_nulls_alone(values: pa.Array) -> None:
    found = stats_of({"x": values})
    assert (found["minValues"], found["maxValues"]) == ({}, {})
    assert found["nullCount"] == {"x": values.null_count}


def test_group_without_values_hides_no_extreme_of_the_others() -> None:
    found = stats_of({"x": pa.array([None, None, "b", "a", "ä"], pa.string())})
    assert (found["minValues"], found["maxValues"], found["nullCount"]) == ({"x": "a"}, {"x": "ä"}, {"x": 2})


def test_empty_file_has_no_rows_in_its_statistics() -> None:
    found = stats_of({"x": pa.array([], pa.int32())})
    assert found == {"numRecords": 0, "minValues": {}, "maxValues": {}, "nullCount": {"x": 0}}


def test_nested_columns_have_no_statistics() -> None:
    items = pa.array([[{"x": 1}], None], pa.list_(pa.struct([("x", pa.int32())])))
    found = stats_of({"x": pa.array([7, 8]), "items": items})
    assert found["nullCount"] == {"x": 0}


def test_schema_has_a_type_for_each_type_that_exports_write() -> None:
    nested = Field(
        FieldType.NESTED, "x", fields={"price": Field(FieldType.NUMBER, "x"), "sku": Field(FieldType.KEYWORD, "x")}
    )
    columns = [
        column("a", "int2"), column("b", "int4"), column("c", "int8"), column("d", "float4"), column("e", "float8"),
        column("f", "bool"), column("g", "date"), column("h", "timestamp"), column("i", "timestamptz"),
        column("j", "numeric", limits=(12, 2)), column("k", "numeric"), column("l", "uuid"),
        Column("m", nested, "m", "jsonb"),
    ]  # fmt: skip
    fields = json.loads(table_schema(columns))["fields"]
    assert all(field["nullable"] and field["metadata"] == {} for field in fields)
    types = {field["name"]: field["type"] for field in fields}
    items = types.pop("m")
    assert types == {
        "a": "short", "b": "integer", "c": "long", "d": "float", "e": "double", "f": "boolean", "g": "date",
        "h": "timestamp", "i": "timestamp", "j": "decimal(12,2)", "k": "decimal(38,10)", "l": "string",
    }  # fmt: skip
    assert (items["type"], items["containsNull"], items["elementType"]["type"]) == ("array", True, "struct")
    inner = {field["name"]: field["type"] for field in items["elementType"]["fields"]}
    assert inner == {"price": "decimal(38,10)", "sku": "string"}


def test_decimal_of_more_digits_than_a_table_has_is_refused_with_its_column() -> None:
    with pytest.raises(UnsuitedColumnError, match=r'the column "amount" is decimal256.50, 2., .* at most 38 digits'):
        table_schema([column("id", "int8"), column("amount", "numeric", limits=(50, 2))])
