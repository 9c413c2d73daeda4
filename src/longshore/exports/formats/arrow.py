"""Arrow tables of CSV records, with the Arrow type of each PostgreSQL type.

Arrow parses the records in its own threads. Its reader of CSV knows no nested values, no years but 1 to 9999 and no
decimals of more than 38 digits, and its errors name no row: so columns that have others are read as text, and converted
here value by value where Arrow cannot cast them.
"""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from longshore.exports.catalog import Field, FieldType
from longshore.exports.columns import Column
from longshore.exports.formats.format import RowKey, cell_error
from longshore.exports.gregorian import number_of_any
from longshore.validation import shortened

UNLIMITED = (38, 10)  # digits, and decimals, of a numeric that its column does not limit
MAX_DIGITS = 76  # of an Arrow decimal
MAX_READ_DIGITS = 38  # of a decimal that Arrow reads from CSV
EXACT = Context(prec=150_000, traps=[InvalidOperation])  # more digits than a numeric of PostgreSQL can have
ADVICE = "cast the column to text by `sql` in the catalog, leave out the row by a rule, or export to csv or json"
ROUND_ADVICE = f"round the column, {ADVICE}"

UTC_TIME = pa.timestamp("us", "UTC")
LOCAL_TIME = pa.timestamp("us")
TYPES: dict[str, pa.DataType] = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": UTC_TIME,
    "timestamptz": UTC_TIME,
}

# PostgreSQL's output with DateStyle ISO: https://www.postgresql.org/docs/current/datatype-datetime.html
MOMENT = re.compile(r"(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:\+00)?)?( BC)?")
DAY_MICROSECONDS = 86_400_000_000

ITEMS = msgspec.json.Decoder(float_hook=Decimal)


class UnsupportedValueError(Exception):
    """A value that a type cannot hold; the message is the reason."""


def arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a column."""
    if column.field.type is FieldType.NESTED:
        return pa.list_(pa.struct([pa.field(name, _inner_type(inner)) for name, inner in column.field.fields.items()]))
    if column.pg_type == "numeric":
        return _numeric_type(column)
    return TYPES.get(column.pg_type, pa.string())


def _numeric_type(column: Column) -> pa.DataType:
    digits, decimals = UNLIMITED
    if column.digits:
        precision, scale = column.digits
        # numeric(5,-2) holds up to 9999900, numeric(3,5) up to 0.00999.
        digits, decimals = max(precision - min(scale, 0), scale), max(scale, 0)
    elif column.field.decimals is not None:
        decimals = column.field.decimals
    if digits > MAX_DIGITS:
        return pa.string()
    return pa.decimal128(digits, decimals) if digits <= MAX_READ_DIGITS else pa.decimal256(digits, decimals)


def _inner_type(field: Field) -> pa.DataType:
    match field.type:
        case FieldType.NUMBER:
            return pa.decimal128(MAX_READ_DIGITS, UNLIMITED[1] if field.decimals is None else field.decimals)
        case FieldType.BOOLEAN:
            return pa.bool_()
    return pa.string()


class ArrowFile(io.RawIOBase):
    """A file that Arrow writes, whose bytes go to a function."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        super().__init__()
        self._take = take
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._take(chunk)
        self._position += len(chunk)
        return len(chunk)


def read_csv(records: bytes, names: Sequence[str], types: dict[str, pa.DataType]) -> pa.Table:
    """Return some columns of the output of `COPY … (format csv)`; `types`: theirs, by name. Raises pa.ArrowInvalid."""
    return pa_csv.read_csv(
        pa.BufferReader(records),
        # One block has all records, so `newlines_in_values` is not needed: it costs a second pass over the text, to
        # find where blocks may end.
        pa_csv.ReadOptions(column_names=names, block_size=len(records) + 1),
        pa_csv.ParseOptions(newlines_in_values=False, ignore_empty_lines=False),
        pa_csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


class TableReader:
    """Makes Arrow tables of CSV records whose last column, where there is a `key`, names the row in errors."""

    def __init__(self, columns: Sequence[Column], key: RowKey | None) -> None:
        self.schema = pa.schema([pa.field(column.name, arrow_type(column)) for column in columns])
        self._columns = columns
        self._key = key
        self._rows = 0
        # Numbers as names: the columns may have any names, that of the key too.
        self._names = [str(number) for number in range(len(columns) + (key is not None))]
        self._as_text = {
            number
            for number, field in enumerate(self.schema)
            if pa.types.is_decimal256(field.type) or pa.types.is_list(field.type)
        }

    def table(self, records: bytes) -> pa.Table:
        """Return the table of whole records. Raises LongshoreError for the first value that its column cannot hold."""
        table = self._read(records, range(len(self.schema)))
        if table is None:
            for number in range(len(self.schema)):
                if self._read(records, [number]) is None:
                    self._as_text.add(number)
            table = self._read(records, range(len(self.schema)))
        assert table is not None
        arrays = [
            self._converted(records, number, values) if number in self._as_text else values.cast(field.type)
            for number, (field, values) in enumerate(zip(self.schema, table.columns, strict=True))
        ]
        self._rows += table.num_rows
        return pa.table(arrays, self.schema)

    def _read(self, records: bytes, numbers: Sequence[int]) -> pa.Table | None:
        """Return some columns of the records; None where Arrow cannot read one as its type."""
        types = {self._names[number]: self._csv_type(number) for number in numbers}
        try:
            table = read_csv(records, self._names, types)
        except pa.ArrowInvalid:
            return None
        for number, values in zip(numbers, table.columns, strict=True):
            if number not in self._as_text and _overflows(values, self._columns[number]):
                return None
        return table

    def _csv_type(self, number: int) -> pa.DataType:
        if number in self._as_text:
            return pa.binary()
        return LOCAL_TIME if self._columns[number].pg_type == "timestamp" else self.schema.field(number).type

    def _converted(self, records: bytes, number: int, values: pa.ChunkedArray) -> pa.ChunkedArray:
        kind, column = self.schema.field(number).type, self._columns[number]
        if pa.types.is_decimal256(kind):
            with contextlib.suppress(pa.ArrowInvalid):
                return values.cast(pa.string()).cast(kind)
        convert = _converter(kind)
        converted: list[Any] = []
        for row, value in enumerate(values.to_pylist()):
            try:
                converted.append(None if value is None else convert(_text(value)))
            except UnsupportedValueError as reason:
                shown = value.decode(errors="replace")
                raise cell_error(column.name, self._row(records, row), shown, str(reason)) from None
        stored = pa.int32() if pa.types.is_date32(kind) else pa.int64() if pa.types.is_timestamp(kind) else kind
        return pa.chunked_array([pa.array(converted, stored).cast(kind)])

    def _row(self, records: bytes, row: int) -> str:
        if self._key is None:
            return f"number {self._rows + row + 1}"
        keys = read_csv(records, self._names, {self._names[-1]: pa.string()})
        return f"{self._key.name} {keys.column(0)[row].as_py()}"


def _overflows(values: pa.ChunkedArray, column: Column) -> bool:
    """Return whether a decimal has more digits than its type: Arrow accepts those of 39 digits that fit 128 bits."""
    if not pa.types.is_decimal128(values.type) or column.digits:
        return False
    most = Decimal(10) ** (values.type.precision - values.type.scale)
    extremes = pc.min_max(values).as_py()
    return any(extreme is not None and extreme.copy_abs() >= most for extreme in extremes.values())


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UnsupportedValueError("which is not UTF-8") from None


def _converter(kind: pa.DataType) -> Callable[[str], Any]:
    if pa.types.is_list(kind):
        return lambda text: _items(text, kind.value_type)
    if pa.types.is_decimal(kind):
        return lambda text: _decimal(text, kind)
    if pa.types.is_date32(kind):
        return _days
    if pa.types.is_timestamp(kind):
        return _microseconds
    return lambda text: text


def _decimal(text: str, kind: pa.DataType) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise UnsupportedValueError(f"which no Parquet decimal is; {ADVICE}")
    if value.copy_abs() >= Decimal(10) ** (kind.precision - kind.scale):
        raise UnsupportedValueError(f"which has more digits than the column's {kind}; {ROUND_ADVICE}")
    scaled = value.quantize(Decimal(1).scaleb(-kind.scale), context=EXACT)
    if scaled != value:
        raise UnsupportedValueError(
            f"which has more decimals than the column's {kind}; declare `decimals` in the catalog, {ROUND_ADVICE}"
        )
    return scaled  # Arrow removes no zeros beyond the scale where the value then has more digits than its type


def _days(text: str) -> int:
    return _moment(text, "date32")[0]


def _microseconds(text: str) -> int:
    days, within = _moment(text, "timestamp in microseconds")
    moment = days * DAY_MICROSECONDS + within
    if not -(2**63) <= moment < 2**63:
        raise UnsupportedValueError(f"which Parquet's timestamp in microseconds cannot hold; {ADVICE}")
    return moment


def _moment(text: str, kind: str) -> tuple[int, int]:
    """Return days since 1970-01-01, and microseconds of the day, of a date or time in UTC as PostgreSQL writes it."""
    match = MOMENT.fullmatch(text)
    if match is None:
        raise UnsupportedValueError(f"which Parquet's {kind} cannot hold; {ADVICE}")
    year, month, day, hour, minute, second = (int(match[number] or 0) for number in range(1, 7))
    micros = int((match[7] or "").ljust(6, "0"))
    seconds = (hour * 60 + minute) * 60 + second
    return number_of_any(1 - year if match[8] else year, month, day), seconds * 1_000_000 + micros


def _items(text: str, kind: pa.StructType) -> list[dict[str, Any] | None] | None:
    decimals = [field for field in kind if pa.types.is_decimal(field.type)]
    items: list[dict[str, Any] | None] | None
    try:
        items = ITEMS.decode(text)
    except msgspec.DecodeError as error:  # json may hold half of a surrogate pair
        raise UnsupportedValueError(f"which is not JSON that can be read: {error}") from None
    for number, item in enumerate(items or ()):
        for field in decimals if item is not None else ():
            if (value := item[field.name]) is not None:
                try:
                    item[field.name] = _decimal(str(value), field.type)
                except UnsupportedValueError as reason:
                    shown = shortened(str(value))
                    raise UnsupportedValueError(f"whose [{number}].{field.name} is {shown}, {reason}") from None
    return items
