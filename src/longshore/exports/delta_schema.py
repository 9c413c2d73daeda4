"""The schema of a result as a table, and the statistics of its Parquet files, from the files' own footers.

Both are JSON texts of Delta Lake: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#schema-serialization-format
and #per-file-statistics. They are recorded with the run, so that an API process needs no Arrow to answer them.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from longshore.errors import LongshoreError
from longshore.exports.columns import Column
from longshore.exports.query import ExportQuery
from longshore.exports.target.share_check import unsuited_names

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DIGITS = 38  # of a decimal
MAX_COLUMNS = 32  # with statistics, as in Delta Lake
MAX_CHARACTERS = 64  # of a word in statistics; a column with a longer one has neither minimum nor maximum

MILLISECOND = timedelta(milliseconds=1)


class UnsuitedColumnError(LongshoreError):
    """A column has a type or a name that no table has."""


def schema_of(query: ExportQuery) -> str | None:
    """Return the schema of a result as a table; None where it is none.

    Raises UnsuitedColumnError where it is to be shared and cannot be.
    """
    target = query.request.target
    if not target.is_table:
        return None
    try:
        return table_schema(query.columns)
    except UnsuitedColumnError:
        if target.share_as is not None:
            raise
        return None


def table_schema(columns: Sequence[Column]) -> str:
    """Return the schema of a table of these columns. Raises UnsuitedColumnError."""
    from longshore.exports.formats.arrow import arrow_type

    refuse_unsuited_names([column.name for column in columns])
    fields = [_field(column.name, arrow_type(column), column.name) for column in columns]
    return msgspec.json.encode({"type": "struct", "fields": fields}).decode()


def refuse_unsuited_names(names: Sequence[str]) -> None:
    """Raise UnsuitedColumnError for the first name of one level of a schema that a table cannot have."""
    for wrong in unsuited_names(names).values():
        raise UnsuitedColumnError(f"{wrong}; rename it with `as`, or leave the nested field out of `fields`")


def _field(name: str, kind: "pa.DataType", column: str) -> dict[str, Any]:
    return {"name": name, "type": _type(kind, column), "nullable": True, "metadata": {}}


def _type(kind: "pa.DataType", column: str) -> str | dict[str, Any]:
    """Return Delta Lake's type of an Arrow type in a column. Raises UnsuitedColumnError."""
    import pyarrow as pa

    if pa.types.is_decimal(kind) and kind.precision <= MAX_DIGITS:
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return {"type": "array", "elementType": _type(kind.value_type, column), "containsNull": True}
    if pa.types.is_struct(kind):
        refuse_unsuited_names(kind.names)
        return {"type": "struct", "fields": [_field(each.name, each.type, column) for each in kind.fields]}
    names = {
        pa.string(): "string",
        pa.bool_(): "boolean",
        pa.int16(): "short",
        pa.int32(): "integer",
        pa.int64(): "long",
        pa.float32(): "float",
        pa.float64(): "double",
        pa.date32(): "date",
        pa.timestamp("us", "UTC"): "timestamp",
    }
    if kind in names:
        return names[kind]
    raise UnsuitedColumnError(
        f'the column "{column}" is {kind}, and a shared table has decimals of at most {MAX_DIGITS} digits; '
        "round it or cast it to text by `sql` in the catalog, or leave it out of `fields`"
    )


def statistics(footer: Any) -> str:
    """Return the statistics of a file: its rows, and of columns that are not nested NULLs, minimum and maximum.

    `footer`: a pyarrow.parquet.FileMetaData.
    """
    import pyarrow as pa

    places = {footer.schema.column(number).path: number for number in range(footer.num_columns)}
    nulls: dict[str, int] = {}
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    flat = [field for field in footer.schema.to_arrow_schema() if not pa.types.is_nested(field.type)]
    groups = [group for number in range(footer.num_row_groups) if (group := footer.row_group(number)).num_rows]
    for field in flat[:MAX_COLUMNS]:
        chunks = [group.column(places[field.name]) for group in groups]
        if not all(chunk.is_stats_set and chunk.statistics.has_null_count for chunk in chunks):
            continue
        nulls[field.name] = sum(chunk.statistics.null_count for chunk in chunks)
        # NaN is in no minimum and maximum, and engines sort it after all numbers.
        if pa.types.is_floating(field.type) or pa.types.is_boolean(field.type):
            continue
        extremes = _extremes([chunk for chunk in chunks if chunk.statistics.null_count < chunk.num_values])
        if extremes is not None:
            least[field.name], most[field.name] = extremes
    found = {"numRecords": footer.num_rows, "minValues": least, "maxValues": most, "nullCount": nulls}
    return msgspec.json.encode(found).decode()


def _extremes(chunks: Sequence[Any]) -> tuple[Any, Any] | None:
    """Return minimum and maximum of a column; None where they are unknown or cannot be written exactly."""
    if not chunks or not all(chunk.statistics.has_min_max for chunk in chunks):
        return None
    try:
        low = min(chunk.statistics.min for chunk in chunks)
        high = max(chunk.statistics.max for chunk in chunks)
        return _bound(low, upper=False), _bound(high, upper=True)
    except (OverflowError, ValueError):  # years that Python does not know, and long words
        return None


def _bound(value: Any, *, upper: bool) -> str | int | msgspec.Raw:
    """Return an extreme as JSON has it: a time in milliseconds, rounded away from the values. Raises ValueError."""
    match value:
        case datetime():
            whole = value.replace(tzinfo=None, microsecond=value.microsecond // 1000 * 1000)
            if upper and value.microsecond % 1000:
                whole += MILLISECOND
            return f"{whole.isoformat(timespec='milliseconds')}Z"
        case date():
            return value.isoformat()
        case Decimal():
            return msgspec.Raw(f"{value:f}".encode())
        case int():
            return value
        case str() if len(value) <= MAX_CHARACTERS:
            return value
    raise ValueError(value)
