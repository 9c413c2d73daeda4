"""Results read back: by readers that share no code with the writers, in memory that does not grow with the file.

`reconcile` adds up text while an export writes it; `longshore verify` reads files anywhere.
"""

import contextlib
import csv
import gzip
import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal, localcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import IO, Any

import msgspec

from longshore.exports.formats import xlsx_cells
from longshore.exports.formats.dialect import Dialect, dialect
from longshore.exports.formats.records import QUOTE, Records
from longshore.exports.manifest import Manifest
from longshore.exports.totals import EXACT, Key, Sums, TotalColumns, added
from longshore.results.store import refuse_cancelled

CHUNK_BYTES = 512 << 10
PIECE_BYTES = 2 << 20  # of text that is added up at once; with 256 KiB, the calls take as long as the reading
MAX_ROW_BYTES = 256 << 20
DIGITS = 28  # of an amount that Arrow adds up; the sum of a piece's amounts has ten more digits to grow into
WIDE_DIGITS = 76  # of an amount of more digits: Arrow adds up in its own type, and wraps around without an error
USUAL_SCALE = 10  # decimals, where it is not known how many the amounts have

TEXT_FORMATS = ("csv", "json", "jsonl")
FEW = 32  # different values in one batch
NEVER = threading.Event()

Part = tuple[Key, int, Decimal]

# A keyword that the dialect wrote as a formula: a spreadsheet would convert it. Other keywords begin with `="`, too.
WORD_AS_FORMULA = re.compile(r'="((?=.*[0-9]|#| *(?:true|false) *")[^"]{1,255})"', re.ASCII | re.DOTALL | re.IGNORECASE)
UNUSUAL_NAME = re.compile(r'["\\\x00-\x1f]')  # a member of JSON that msgspec's structs cannot have
MEMBERS = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
ARRAY_OF_MEMBERS = msgspec.json.Decoder(list[dict[str, Any]], float_hook=Decimal)


class _Row(msgspec.Struct, gc=False):
    value: str | int | None
    amount: Decimal | None


Opener = Callable[[], IO[bytes]]


class Layout(msgspec.Struct, frozen=True):
    """The layout of a result's text, by which it is read."""

    format: str
    names: Sequence[str]
    dialect: Dialect


def missing_package(manifest: Manifest) -> str | None:
    """Return the package that reading the rows of a file needs and that is not installed; None where all are there."""
    needed = {"pyarrow": manifest.format == "parquet" or (manifest.format == "csv" and manifest.totals is not None)}
    needed["zstandard"] = manifest.file.endswith(".zst")
    return next((name for name, is_needed in needed.items() if is_needed and find_spec(name) is None), None)


def rows(opener: Opener, manifest: Manifest) -> int:
    """Return the number of rows of a file, counted by a reader of its format.

    Blocking. Raises what reading the file raises, and ValueError where it is not what its manifest says.
    """
    if manifest.format == "parquet":
        import pyarrow.parquet as pq

        with opener() as file:
            return int(pq.read_metadata(file).num_rows)
    if manifest.format == "xlsx":
        with opener() as file:
            return xlsx_cells.count_rows(file)
    with open_text(opener, manifest.file) as file:
        if manifest.format == "csv":
            options = dialect(manifest.csv)
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            csv.field_size_limit(MAX_ROW_BYTES)
            return sum(1 for _ in csv.reader(text, delimiter=options.delimiter)) - options.header
        return sum(1 for line in file if line.startswith(b"{"))


def sums(opener: Opener, manifest: Manifest, columns: TotalColumns, cancelled: threading.Event = NEVER) -> Sums:
    """Return rows and sum of the amounts in a file for each value of the column `per`.

    Blocking. Raises as `rows`, and LongshoreError once `cancelled` is set. The sums are exact without a known scale,
    too, and then take longer.
    """
    if manifest.rows == 0:
        return {}
    layout = Layout(manifest.format, [field.name for field in manifest.fields], dialect(manifest.csv))
    if manifest.format not in TEXT_FORMATS:
        return binary_sums(opener, layout, columns, cancelled)
    text = TextSums(layout, columns, header=layout.dialect.header)
    records = Records(PIECE_BYTES, QUOTE if manifest.format == "csv" else None)
    with open_text(opener, manifest.file) as file:
        while chunk := file.read(CHUNK_BYTES):
            refuse_cancelled(cancelled)
            for piece in records.add(chunk):
                text.add(piece)
            if len(records) > MAX_ROW_BYTES:
                raise ValueError(f"a row has more than {MAX_ROW_BYTES:,} bytes")
    text.add(records.rest())
    return text.end()


def binary_sums(opener: Opener, layout: Layout, columns: TotalColumns, cancelled: threading.Event = NEVER) -> Sums:
    """Return the sums of a workbook or a Parquet file, as `sums` does."""
    is_workbook = layout.format == "xlsx"
    parts = _of_workbook(opener, layout.names, columns) if is_workbook else _of_parquet(opener, columns)
    found: Sums = {}
    for part in parts:
        refuse_cancelled(cancelled)
        added(found, [part])
    return found


class TextSums:
    """Adds up the amounts in the text of a result, block by block. Blocking."""

    def __init__(self, layout: Layout, columns: TotalColumns, *, header: bool = False) -> None:
        """`header`: whether the text begins with the header line of a CSV file."""
        self._layout = layout
        self._columns = columns
        self._header = header
        self._blocks: list[bytes] = []  # that are not added up yet
        self._bytes = 0
        self._sums: Sums = {}

    def add(self, block: bytes) -> None:
        """Take the next whole rows of the text. Raises ValueError for a row that is not as the layout says."""
        self._blocks.append(block)
        self._bytes += len(block)
        if self._bytes >= PIECE_BYTES:
            self._take()

    def end(self) -> Sums:
        """Return the sums of the whole text. Raises as `add`."""
        self._take()
        return self._sums

    def _take(self) -> None:
        piece = b"".join(self._blocks)
        self._blocks.clear()
        self._bytes = 0
        if not piece:
            return
        if self._layout.format != "csv":
            added(self._sums, _of_lines(piece, self._layout.format, self._columns))
            return
        import pyarrow as pa

        scale = self._columns.scale
        number = pa.decimal128(DIGITS, USUAL_SCALE if scale is None else min(scale, DIGITS))
        skipped, self._header = int(self._header), False
        try:
            parts = list(_of_csv(piece, self._layout, self._columns, number, skipped))
        except pa.ArrowInvalid:  # more digits than Arrow adds up, or NaN
            parts = list(_of_csv(piece, self._layout, self._columns, pa.string(), skipped))
        added(self._sums, parts)


def _of_csv(piece: bytes, layout: Layout, columns: TotalColumns, number: Any, skipped: int) -> Iterator[Part]:
    """Yield the parts of whole records. `number`: Arrow's type of the amounts. `skipped`: records of a header."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    options = layout.dialect
    # One thread, measured: several take longer over the few columns that are converted.
    batches = pa_csv.open_csv(
        io.BytesIO(piece),
        pa_csv.ReadOptions(  # the header may spell a name otherwise than the manifest, see `escape_formulas`
            column_names=list(layout.names),
            skip_rows_after_names=skipped,
            block_size=len(piece) + 1,
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
        for value, count, total in _of_batch(batch.column(0), batch.column(1), options.decimal_comma):
            yield value and _unescaped(value, options), count, total


def _of_parquet(opener: Opener, columns: TotalColumns) -> Iterator[Part]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # One row group at a time: a reader of all of them keeps 35 MB for each million rows that it has read.
    with opener() as raw, pq.ParquetFile(raw) as file:
        batches = (
            batch
            for group in range(file.num_row_groups)
            for batch in file.iter_batches(row_groups=[group], columns=[columns.per, columns.amount])
        )
        for batch in batches:
            amounts = batch.column(columns.amount)
            if pa.types.is_integer(amounts.type):
                amounts = amounts.cast(pa.decimal128(DIGITS, 0))
            yield from _of_batch(batch.column(columns.per).cast("string"), amounts)


def _of_workbook(opener: Opener, names: Sequence[str], columns: TotalColumns) -> Iterator[Part]:
    with opener() as file:
        for value, text in xlsx_cells.cells(file, [names.index(columns.per), names.index(columns.amount)]):
            yield value, 1, Decimal(text or 0)


def _of_batch(values: Any, amounts: Any, decimal_comma: bool = False) -> Iterator[Part]:
    import pyarrow as pa
    import pyarrow.compute as pc

    # Not by `group_by`: that imports pandas where it is installed, a second and 60 MB.
    different = pc.unique(values)
    if len(different) > FEW or not pa.types.is_decimal128(amounts.type):
        for value, amount in zip(values.to_pylist(), amounts.to_pylist(), strict=True):
            text = amount.replace(",", ".") if decimal_comma and isinstance(amount, str) else amount
            yield value, 1, Decimal(0 if text is None else text)
        return
    if amounts.type.precision > DIGITS:
        amounts = amounts.cast(pa.decimal256(WIDE_DIGITS, amounts.type.scale))
    for value in different:
        matching = pc.filter(amounts, pc.equal(values, value) if value.is_valid else pc.is_null(values))
        yield value.as_py(), len(matching), pc.sum(matching).as_py() or Decimal(0)


def _of_lines(lines: bytes, format: str, columns: TotalColumns) -> Iterator[Part]:
    amounts: dict[Any, list[Decimal | None]] = {}
    for row in _objects(lines, format, columns):
        amounts.setdefault(row.value, []).append(row.amount)
    for value, some in amounts.items():
        with localcontext(EXACT):
            total = sum(filter(None, some), start=Decimal(0))
        yield None if value is None else str(value), len(some), total


def _objects(lines: bytes, format: str, columns: TotalColumns) -> Iterable[Any]:
    """Return the rows as structs with `value` and `amount`."""
    # Each object begins and ends with a brace.
    array_text = b"[" + lines.strip(b"[],\n") + b"]"
    per, amount = columns.per, columns.amount
    if UNUSUAL_NAME.search(amount + per):
        rows = MEMBERS.decode_lines(lines) if format == "jsonl" else ARRAY_OF_MEMBERS.decode(array_text)
        return [_Row(row[per], row[amount] if row[amount] is None else Decimal(row[amount])) for row in rows]
    one, array = _decoders(amount, per)
    return one.decode_lines(lines) if format == "jsonl" else array.decode(array_text)


@lru_cache(maxsize=64)
def _decoders(amount: str, per: str) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[list[Any]]]:
    # Only the two members are kept of each object, and its decimals are read from their digits.
    members: list[Any] = [("value", str | int | None, msgspec.field(name=per))]
    members += [("amount", Decimal | None, msgspec.field(name=amount))]
    one: Any = msgspec.defstruct("Row", members, gc=False)
    return msgspec.json.Decoder(one), msgspec.json.Decoder(list[one])


def _unescaped(text: str, options: Dialect) -> str:
    """Return a value without what the dialect put before or around it for spreadsheets."""
    if options.words_as_formulas and (formula := WORD_AS_FORMULA.fullmatch(text)):
        return formula[1]
    return text.removeprefix("'") if options.escape_formulas else text


@contextlib.contextmanager
def open_text(opener: Opener, name: str) -> Iterator[IO[bytes]]:
    """Open the text of a file of this name. Its compression may have several members or frames, one for each piece."""
    with opener() as file:
        if name.endswith(".gz"):
            yield io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"))
        elif name.endswith(".zst"):
            import zstandard

            yield io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        else:
            yield file
