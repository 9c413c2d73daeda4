"""Reads Parquet, by Arrow."""

from collections.abc import Iterator
from typing import IO

from longshore.exports.formats.arrow_sums import DIGITS, parts_of
from longshore.exports.formats.reader import BinaryReader, Layout, PartialSum
from longshore.exports.totals import TotalColumns


class ParquetReader(BinaryReader):
    """Reads Parquet, one row group at a time."""

    def needs(self, *, totals: bool) -> str | None:  # noqa: ARG002  # of the base class
        return "pyarrow"

    def rows(self, file: IO[bytes], layout: Layout) -> int:  # noqa: ARG002
        import pyarrow.parquet as pq

        return int(pq.read_metadata(file).num_rows)

    def parts(self, file: IO[bytes], layout: Layout, columns: TotalColumns) -> Iterator[PartialSum]:  # noqa: ARG002
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A reader of all row groups keeps 35 MB for each million rows that it has read.
        with pq.ParquetFile(file) as opened:
            batches = (
                batch
                for group in range(opened.num_row_groups)
                for batch in opened.iter_batches(row_groups=[group], columns=[columns.per, columns.amount])
            )
            for batch in batches:
                amounts = batch.column(columns.amount)
                if pa.types.is_integer(amounts.type):
                    amounts = amounts.cast(pa.decimal128(DIGITS, 0))
                yield from parts_of(batch.column(columns.per).cast("string"), amounts)
