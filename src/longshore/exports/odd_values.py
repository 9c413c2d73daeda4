"""Odd values inside nested fields, which the catalog's `on_odd` has counted or refused."""

from collections.abc import Sequence

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.exports.catalog import FieldType
from longshore.exports.columns import Column
from longshore.exports.formats.format import RowKey
from longshore.exports.formats.nested import Nested
from longshore.exports.row_query import RowQuery
from longshore.validation import shortened


async def count(connection: Connection, rows: RowQuery, columns: Sequence[Column], key: RowKey | None) -> int:
    """Return the number of odd values of the rows in the connection's snapshot, which are NULL in the file.

    Raises LongshoreError for the first one in a column whose `on_odd` is `error`.
    """
    number = 0
    for column in columns:
        if column.field.type is not FieldType.NESTED:
            continue
        nested = Nested(column)
        odd = f"{rows.sql} and ({nested.has_odd()})"
        if column.field.on_odd == "null":
            number += await connection.fetchval(
                f"select coalesce(sum((select count(*) from {nested.odd()} odd)), 0)::bigint {odd}",
                *rows.values,
            )
            continue
        row_key = f"({key.expression})::text" if key else "null::text"
        query = f"select {row_key}, (select array[path, value] from {nested.odd()} odd limit 1) {odd} limit 1"
        if (row := await connection.fetchrow(query, *rows.values)) is not None:
            raise LongshoreError(_message(column, key, *row))
    return number


def _message(column: Column, key: RowKey | None, row_key: str | None, odd: Sequence[str]) -> str:
    path, value = odd
    row = f"the row with {key.name} {row_key}" if key else "a row"
    return (
        f'column "{column.name}{path}" of {row} holds {shortened(value)}, which is not of the type that the catalog '
        'declares; correct it in the source, or set `on_odd = "null"` in the catalog to export NULL and count it in '
        "`skips`"
    )
