"""Control totals in the source: which columns an export has them of, and their sums in the snapshot."""

from collections.abc import Sequence

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.exports.catalog import Index
from longshore.exports.columns import FLOATS, INTEGERS, Column
from longshore.exports.row_query import RowQuery
from longshore.exports.totals import Sums, TotalColumns, add_partial_sums

EXACT_TYPES = INTEGERS | {"numeric"}
MAX_SUMS = 10_000
UNSUITED_KEY_TYPES = FLOATS | {"numeric", "bool", "timestamp", "timestamptz"}  # the formats spell them differently


class SourceTotalColumns(TotalColumns, frozen=True):
    """The same columns in the source."""

    amount_sql: str
    per_sql: str


def total_columns(index: Index, columns: Sequence[Column]) -> SourceTotalColumns | None:
    """Return the columns of an export's totals; None if the catalog declares none, or one of them is not exported."""
    if index.totals is None:
        return None
    amount, per = (
        next((column for column in columns if column.field is index.fields[name]), None)
        for name in (index.totals.amount, index.totals.per)
    )
    # The sum of binary fractions depends on the order in which they are added, so it would prove nothing.
    if amount is None or per is None or amount.pg_type not in EXACT_TYPES or per.pg_type in UNSUITED_KEY_TYPES:
        return None
    scale = 0 if amount.pg_type in INTEGERS else amount.digits[1] if amount.digits else amount.field.decimals
    return SourceTotalColumns(amount.name, per.name, scale, f"({amount.expression})::numeric", per.text_sql)


async def in_source(connection: Connection, rows: RowQuery, columns: SourceTotalColumns) -> Sums:
    """Return the sums of the rows in the snapshot that the connection holds. Raises LongshoreError for too many."""
    per = f'{columns.per_sql} collate pg_catalog."C"'  # values that a collation calls equal are not
    sums = f"select {per}, count(*), coalesce(sum({columns.amount_sql}), 0) {rows.sql} group by 1"
    found = await connection.fetch(f"{sums} limit {MAX_SUMS + 1}", *rows.values)
    if len(found) > MAX_SUMS:
        raise LongshoreError(
            f"the control totals have a sum for each value of {columns.per}, and these rows have more than"
            f" {MAX_SUMS:,} values; name a field of few values as `per` in the catalog"
        )
    return add_partial_sums({}, (tuple(row) for row in found))
