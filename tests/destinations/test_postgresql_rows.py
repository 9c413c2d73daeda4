"""Rows of a Parquet file as CSV for COPY."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longshore.destinations.kind import BytesFile, DestinationError
from longshore.destinations.postgresql.rows import csv_chunks, parquet_chunks


def test_null_and_the_empty_string_are_distinguished() -> None:
    table = pa.table({"a": [None, "", 'x"y\n', "NULL"], "b": [1.5, None, float("nan"), -0.0]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    assert b"".join(parquet_chunks(BytesFile(sink.getvalue().to_pybytes()), ["a", "b"])) == (
        b',1.5\n"",\n"x""y\n",nan\n"NULL",-0\n'
    )


def test_file_with_other_columns_is_refused() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"b": [1], "a": [2]}), sink)
    with pytest.raises(DestinationError, match="the file has the columns b, a"):
        list(parquet_chunks(BytesFile(sink.getvalue().to_pybytes()), ["a", "b"]))
    assert list(csv_chunks(BytesFile(b""))) == []
