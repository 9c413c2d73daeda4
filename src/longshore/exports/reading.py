"""Result files read back: by readers that have no part in writing them, in memory that does not grow with the file.

An export that has control totals is read back before it is published, and `longshore verify` does the same anywhere.
"""

import csv
import gzip
import io
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import IO, Any

import msgspec
import zstandard

from longshore.exports.formats.dialect import Dialect, dialect
from longshore.exports.manifest import Manifest
from longshore.exports.totals import EXACT, NOTHING, Key, Sums, added

CHUNK = 1 << 20  # bytes
LONGEST = 256 << 20  # bytes of a row
DIGITS = 28  # of an amount that Arrow adds up; the sum of a block's has ten more to grow into
USUAL_SCALE = 10  # digits behind the point, where nothing is known of them

Part = tuple[Key, int, Decimal]


def rows(path: Path, manifest: Manifest) -> int | None:
    """The rows of a file, counted by a reader of its format; None for a format that only Excel's readers count.

    Blocking. Raises OSError, and ValueError where the file cannot be read as what its manifest says.
    """
    if manifest.format == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    if manifest.format == "xlsx":
        return None
    with _opened(path, manifest) as file:
        if manifest.format == "csv":
            asked = dialect(manifest.csv)
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            csv.field_size_limit(LONGEST)
            return sum(1 for _ in csv.reader(text, delimiter=asked.delimiter)) - asked.header
        return sum(1 for line in file if line.startswith(b"{"))


def sums(path: Path, manifest: Manifest, amount: str, per: str, scale: int | None) -> Sums | None:
    """What the amounts in a file add up to for each value of the column `per`; None as with `rows`.

    Blocking. `scale`: digits behind the point of the amounts, as far as is known; the sums are exact without, too, and
    take longer. Raises as `rows`.
    """
    import pyarrow as pa

    if manifest.format == "xlsx":
        return None
    if manifest.rows == 0:
        return {}
    if manifest.format in ("json", "jsonl"):
        return added(_of_json(path, manifest, amount, per))
    read = _of_parquet if manifest.format == "parquet" else _of_csv
    try:
        kind = pa.decimal128(DIGITS, USUAL_SCALE if scale is None else min(scale, DIGITS))
        return added(read(path, manifest, amount, per, kind, CHUNK))
    except pa.ArrowInvalid:  # more digits than that, NaN, or a row that is longer than a block
        return added(read(path, manifest, amount, per, pa.string(), LONGEST))


def _of_csv(path: Path, manifest: Manifest, amount: str, per: str, kind: Any, block: int) -> Iterator[Part]:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    asked = dialect(manifest.csv)
    names = None if asked.header else [field.name for field in manifest.fields]
    with _opened(path, manifest) as file:
        # One thread, measured: several take longer over the few columns that are converted.
        batches = pa_csv.open_csv(
            file,
            pa_csv.ReadOptions(column_names=names, block_size=block, use_threads=False),
            pa_csv.ParseOptions(delimiter=asked.delimiter, newlines_in_values=True),
            pa_csv.ConvertOptions(
                include_columns=[per, amount],
                column_types={per: pa.string(), amount: kind},
                null_values=[asked.null],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                decimal_point="," if asked.decimal_comma else ".",
            ),
        )
        for batch in batches:
            for value, count, total in _of_batch(batch.column(0), batch.column(1), asked.decimal_comma):
                yield value and _undone(value, asked), count, total


def _of_parquet(path: Path, _manifest: Manifest, amount: str, per: str, kind: Any, _block: int) -> Iterator[Part]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[per, amount]):
            yield from _of_batch(batch.column(per).cast("string"), batch.column(amount).cast(kind))


def _of_batch(values: Any, amounts: Any, decimal_comma: bool = False) -> Iterator[Part]:
    import pyarrow as pa

    if pa.types.is_string(amounts.type):
        for value, text in zip(values.to_pylist(), amounts.to_pylist(), strict=True):
            yield value, 1, Decimal((text.replace(",", ".") if decimal_comma else text) if text is not None else 0)
        return
    table = pa.table({"value": values, "amount": amounts}).group_by("value", use_threads=False)
    for row in table.aggregate([("amount", "sum"), ([], "count_all")]).to_pylist():
        yield row["value"], row["count_all"], row["amount_sum"] or Decimal(0)


def _of_json(path: Path, manifest: Manifest, amount: str, per: str) -> Iterator[Part]:
    # Only the two members are kept of each object, and its decimals are read from their digits.
    members: list[Any] = [("value", str | int | None, msgspec.field(name=per))]
    members += [("amount", Decimal | None, msgspec.field(name=amount))]
    kind: Any = list[msgspec.defstruct("Row", members)]  # type: ignore[misc]
    decoder = msgspec.json.Decoder(kind)
    rest = b""
    with _opened(path, manifest) as file:
        while chunk := file.read(CHUNK):
            lines, _, rest = (rest + chunk).rpartition(b"\n")
            yield from _of_objects(decoder.decode(_as_array(lines)))


def _of_objects(objects: list[Any]) -> Iterator[Part]:
    found: dict[Any, tuple[int, Decimal]] = {}
    with localcontext(EXACT):
        for one in objects:
            count, total = found.get(one.value, NOTHING)
            found[one.value] = count + 1, total if one.amount is None else total + one.amount
    return iter([(None if value is None else str(value), *found[value]) for value in found])


def _as_array(lines: bytes) -> bytes:
    """Whole lines of a JSON file, of either kind, as one array."""
    lines = lines.strip(b"[],\n")  # each object begins and ends with a brace
    return b"[" + (lines if b",\n" in lines else lines.replace(b"\n", b",")) + b"]"


def _undone(word: str, asked: Dialect) -> str:
    """A word as it was before the dialect kept a spreadsheet from running it."""
    if asked.words_as_formulas and word.startswith('="'):
        return word[2:-1]
    return word.removeprefix("'") if asked.escape_formulas else word


def _opened(path: Path, manifest: Manifest) -> IO[bytes]:
    if manifest.file.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(path, "rb"))
    if manifest.file.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True))
    return path.open("rb")
