"""Results read: by readers that have no part in writing them, in memory that does not grow with the file.

`control` reads what an export writes, while it is written; `longshore verify` reads a file anywhere.
"""

import contextlib
import csv
import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal, localcontext
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import msgspec
import zstandard

from longshore.exports.formats.dialect import Dialect, dialect
from longshore.exports.manifest import Manifest
from longshore.exports.totals import EXACT, Key, Sums, added

CHUNK = 512 << 10  # bytes
LONGEST = 256 << 20  # bytes of a row
DIGITS = 28  # of an amount that Arrow adds up; the sum of a block's has ten more to grow into
USUAL_SCALE = 10  # digits behind the point, where nothing is known of them

TEXT = ("csv", "json", "jsonl")
FEW = 32  # different values in one block

Part = tuple[Key, int, Decimal]

NO_MEMBER = re.compile(r'["\\\x00-\x1f]')  # in the name of a JSON member, msgspec's structs cannot have it
MEMBERS = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
ARRAY_OF_MEMBERS = msgspec.json.Decoder(list[dict[str, Any]], float_hook=Decimal)


class _Row(msgspec.Struct, gc=False):
    value: str | int | None
    amount: Decimal | None


Opener = Callable[[], IO[bytes]]


class Layout(msgspec.Struct, frozen=True):
    """How the text of a result is to be read."""

    format: str
    names: Sequence[str]
    asked: Dialect

    @classmethod
    def of(cls, manifest: Manifest) -> "Layout":
        """That of a file with this manifest."""
        return cls(manifest.format, [field.name for field in manifest.fields], dialect(manifest.csv))


def at(path: Path) -> Opener:
    """What opens the file of a path."""
    return lambda: path.open("rb")


def rows(opened: Opener, manifest: Manifest) -> int:
    """The rows of a file, counted by a reader of its format.

    Blocking. `opened`: opens the file. Raises what reading it raises, and ValueError where it cannot be read as what
    its manifest says.
    """
    if manifest.format == "parquet":
        import pyarrow.parquet as pq

        with opened() as file:
            return int(pq.read_metadata(file).num_rows)
    if manifest.format == "xlsx":
        from longshore.exports.formats import xlsx

        with opened() as file:
            return xlsx.count_rows(file)
    with _text(opened, manifest) as file:
        if manifest.format == "csv":
            asked = dialect(manifest.csv)
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            csv.field_size_limit(LONGEST)
            return sum(1 for _ in csv.reader(text, delimiter=asked.delimiter)) - asked.header
        return sum(1 for line in file if line.startswith(b"{"))


def sums(opened: Opener, manifest: Manifest, amount: str, per: str, scale: int | None) -> Sums:
    """What the amounts in a file add up to for each value of the column `per`.

    Blocking. `opened`: as with `rows`. `scale`: digits behind the point of the amounts, as far as is known; the sums
    are exact without, too, and take longer. Raises as `rows`.
    """
    import pyarrow as pa

    if manifest.rows == 0:
        return {}
    if manifest.format == "xlsx":
        return added(_of_workbook(opened, [field.name for field in manifest.fields], amount, per))
    if manifest.format == "parquet":
        return added(_of_parquet(opened, amount, per))
    layout = Layout.of(manifest)
    try:
        return added(_of_file(opened, manifest, layout, amount, per, _decimal(scale), CHUNK))
    except pa.ArrowInvalid:  # more digits than Arrow adds up, NaN, or a row that is longer than a block
        return added(_of_file(opened, manifest, layout, amount, per, pa.string(), LONGEST))


def sums_of(block: bytes, layout: Layout, amount: str, per: str, scale: int | None) -> Sums:
    """As `sums`, of some rows of a text, without its header. Blocking.

    Raises ValueError where they are not whole, or are such that `sums` takes longer over them.
    """
    if layout.format == "csv":
        rows_only = msgspec.structs.replace(layout, asked=msgspec.structs.replace(layout.asked, header=False))
        return added(_of_csv(io.BytesIO(block), rows_only, amount, per, _decimal(scale), len(block) + 1))
    return added(_of_lines(block, layout.format, amount, per))


def _of_file(
    opened: Opener, manifest: Manifest, layout: Layout, amount: str, per: str, kind: Any, block: int
) -> Iterator[Part]:
    with _text(opened, manifest) as file:
        if layout.format == "csv":
            yield from _of_csv(file, layout, amount, per, kind, block)
            return
        rest = b""
        while chunk := file.read(CHUNK):
            whole, _, rest = (rest + chunk).rpartition(b"\n")
            yield from _of_lines(whole, layout.format, amount, per)


def _decimal(scale: int | None) -> Any:
    import pyarrow as pa

    return pa.decimal128(DIGITS, USUAL_SCALE if scale is None else min(scale, DIGITS))


def _of_csv(file: IO[bytes], layout: Layout, amount: str, per: str, kind: Any, block: int) -> Iterator[Part]:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    asked = layout.asked
    # One thread, measured: several take longer over the few columns that are converted.
    batches = pa_csv.open_csv(
        file,
        pa_csv.ReadOptions(  # the header may spell a name otherwise than the manifest, see `escape_formulas`
            column_names=list(layout.names),
            skip_rows_after_names=int(asked.header),
            block_size=block,
            use_threads=False,
        ),
        pa_csv.ParseOptions(delimiter=asked.delimiter, newlines_in_values=True, ignore_empty_lines=False),
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


def _of_parquet(opened: Opener, amount: str, per: str) -> Iterator[Part]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with opened() as raw, pq.ParquetFile(raw) as file:
        for batch in file.iter_batches(columns=[per, amount]):
            amounts = batch.column(amount)
            if pa.types.is_integer(amounts.type):
                amounts = amounts.cast(pa.decimal128(DIGITS, 0))
            yield from _of_batch(batch.column(per).cast("string"), amounts)


def _of_workbook(opened: Opener, names: Sequence[str], amount: str, per: str) -> Iterator[Part]:
    from longshore.exports.formats.xlsx_cells import cells

    with opened() as file:
        for value, text in cells(file, [names.index(per), names.index(amount)]):
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
    for value in different:
        those = pc.filter(amounts, pc.equal(values, value) if value.is_valid else pc.is_null(values))
        yield value.as_py(), len(those), pc.sum(those).as_py() or Decimal(0)


def _of_lines(lines: bytes, form: str, amount: str, per: str) -> Iterator[Part]:
    amounts: dict[Any, list[Decimal | None]] = {}
    for found in _objects(lines, form, amount, per):
        amounts.setdefault(found.value, []).append(found.amount)
    for value, some in amounts.items():
        with localcontext(EXACT):
            total = sum(filter(None, some), start=Decimal(0))
        yield None if value is None else str(value), len(some), total


def _objects(lines: bytes, form: str, amount: str, per: str) -> Iterable[Any]:
    """The rows as structs with `value` and `amount`."""
    # Each object begins and ends with a brace.
    array_text = b"[" + lines.strip(b"[],\n") + b"]"
    if NO_MEMBER.search(amount + per):
        rows_found = MEMBERS.decode_lines(lines) if form == "jsonl" else ARRAY_OF_MEMBERS.decode(array_text)
        return [_Row(row[per], row[amount] if row[amount] is None else Decimal(row[amount])) for row in rows_found]
    one, array = _decoders(amount, per)
    return one.decode_lines(lines) if form == "jsonl" else array.decode(array_text)


@lru_cache(maxsize=64)
def _decoders(amount: str, per: str) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[list[Any]]]:
    # Only the two members are kept of each object, and its decimals are read from their digits.
    members: list[Any] = [("value", str | int | None, msgspec.field(name=per))]
    members += [("amount", Decimal | None, msgspec.field(name=amount))]
    one: Any = msgspec.defstruct("Row", members, gc=False)
    return msgspec.json.Decoder(one), msgspec.json.Decoder(list[one])


def _undone(word: str, asked: Dialect) -> str:
    """A word as it was before the dialect kept a spreadsheet from running it."""
    if asked.words_as_formulas and word.startswith('="'):
        return word[2:-1]
    return word.removeprefix("'") if asked.escape_formulas else word


@contextlib.contextmanager
def _text(opened: Opener, manifest: Manifest) -> Iterator[IO[bytes]]:
    """The text of a file, whose compression may have several members or frames, as many workers leave them."""
    with opened() as file:
        if manifest.file.endswith(".gz"):
            yield io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"))
        elif manifest.file.endswith(".zst"):
            yield io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        else:
            yield file
