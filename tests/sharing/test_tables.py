"""A table: its version, schema and files, as any client of the protocol reads them."""

import io
import json
from decimal import Decimal

import httpx2
import pyarrow.parquet as pq

from tests.sharing.conftest import Reader


def test_files_of_a_table_hold_the_rows_of_the_newest_run(reader: Reader, ledger: tuple[int, str]) -> None:
    answer = reader.query(ledger[1])
    assert answer.headers["delta-table-version"] == "1"
    assert answer.headers["delta-sharing-capabilities"] == "responseformat=parquet"
    assert answer.lines[0] == {"protocol": {"minReaderVersion": 1}}
    about = answer.lines[1]["metaData"]
    assert (about["name"], about["format"], about["partitionColumns"]) == (ledger[1], {"provider": "parquet"}, [])
    (file,) = answer.files
    found = pq.read_table(io.BytesIO(httpx2.get(file["url"]).content))
    stats = json.loads(file["stats"])
    assert stats["numRecords"] == found.num_rows == 20_000
    assert list(answer.schema) == found.column_names
    assert file["size"] == len(httpx2.get(file["url"]).content)


def test_schema_and_statistics_are_those_of_the_values(reader: Reader, ledger: tuple[int, str]) -> None:
    answer = reader.query(ledger[1])
    (file,) = answer.files
    found = pq.read_table(io.BytesIO(httpx2.get(file["url"]).content))
    stats = json.loads(file["stats"], parse_float=Decimal)
    print(answer.schema, stats, found.schema)
    amounts = found.column("amount").drop_null().to_pylist()
    assert answer.schema["amount"] == f"decimal({found.schema.field('amount').type.precision},2)"
    assert (stats["minValues"]["amount"], stats["maxValues"]["amount"]) == (min(amounts), max(amounts))
    for name in stats["nullCount"]:
        assert stats["nullCount"][name] == found.column(name).null_count, name
