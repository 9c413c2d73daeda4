"""Reads CSV, by the modules of Python and Arrow."""

import csv
import io
import re
from collections.abc import Iterator
from typing import IO, Any

from longshore.exports.formats.arrow_sums import DIGITS, parts_of
from longshore.exports.formats.dialect import Dialect
from longshore.exports.formats.reader import Layout, PartialSum, TextReader
from longshore.exports.formats.records import MAX_ROW_BYTES, QUOTE
from longshore.exports.totals import TotalColumns

USUAL_SCALE = 10  # decimals, where it is not known how many the amounts have

# A keyword that the dialect wrote as a formula: a spreadsheet would convert it. Other keywords begin with `="`, too.
WORD_AS_FORMULA = re.compile(r'="((?=.*[0-9]|#| *(?:true|false) *")[^"]{1,255})"', re.ASCII | re.DOTALL | re.IGNORECASE)


class CsvReader(TextReader):
    """Reads CSV of any dialect."""

    quote = QUOTE

    def needs(self, *, totals: bool) -> str | None:
        return "pyarrow" if totals else None

    def rows(self, file: IO[bytes], layout: Layout) -> int:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        csv.field_size_limit(MAX_ROW_BYTES)
        return sum(1 for _ in csv.reader(text, delimiter=layout.dialect.delimiter)) - layout.dialect.header

    def parts(self, text: bytes, layout: Layout, columns: TotalColumns, *, header: bool) -> list[PartialSum]:
        import pyarrow as pa

        scale = columns.scale
        number = pa.decimal128(DIGITS, USUAL_SCALE if scale is None else min(scale, DIGITS))
        try:
            return list(_parts(text, layout, columns, number, int(header)))
        except pa.ArrowInvalid:  # more digits than Arrow adds up, or NaN
            return list(_parts(text, layout, columns, pa.string(), int(header)))


def _parts(text: bytes, layout: Layout, columns: TotalColumns, number: Any, skipped: int) -> Iterator[PartialSum]:
    """Yield the parts of whole records. `number`: Arrow's type of the amounts. `skipped`: records of a header."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    options = layout.dialect
    # One thread, measured: several take longer over the few columns that are converted.
    batches = pa_csv.open_csv(
        io.BytesIO(text),
        pa_csv.ReadOptions(  # the header may spell a name otherwise than the manifest, see `escape_formulas`
            column_names=list(layout.names),
            skip_rows_after_names=skipped,
            block_size=len(text) + 1,
            use_threads=False,
        ),
        pa_csv.ParseOptions(delimiter=options.delimiter, newlines_in_values=True, ignore_empty_lines=False),
        pa_csv.ConvertOptions(
            include_columns=[columns.per, columns.amount],
            column_types={columns.per: pa.string(), columns.amount: number},
            null_values=[options.null],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            decimal_point="," if options.decimal_comma else ".",
        ),
    )
    for batch in batches:
        for value, count, total in parts_of(batch.column(0), batch.column(1), options.decimal_comma):
            yield value and _unescaped(value, options), count, total


def _unescaped(text: str, options: Dialect) -> str:
    """Return a value without what the dialect put before or around it for spreadsheets."""
    if options.words_as_formulas and (formula := WORD_AS_FORMULA.fullmatch(text)):
        return formula[1]
    return text.removeprefix("'") if options.escape_formulas else text
