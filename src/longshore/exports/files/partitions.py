"""Partitions: the groups of rows that share the values of a request's keys, counted in the snapshot of the export.

PostgreSQL sorts the rows by the keys and the copy is cut at the counted numbers of rows, so an export has one open
file however many partitions there are. A date's day, month or year is that of the clock in the trigger's zone.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.exports.catalog import FieldType, Index
from longshore.exports.columns import Column, columns_of
from longshore.exports.files.paths import MAX_FILES, too_many_files
from longshore.exports.formats.nested import sql_text
from longshore.exports.ranges import is_plain_table
from longshore.exports.row_query import RowQuery
from longshore.validation import Violation, in_json, pointer, suggestion

By = Literal["day", "month", "year"]

PATTERNS = {"day": "YYYY-MM-DD", "month": "YYYY-MM", "year": "YYYY"}


class PartitionKey(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A field whose values divide the rows into partitions."""

    field: str
    """A `keyword`, or a `date` with `by`."""
    by: By | None = None
    """The period of a date, in the trigger's zone."""

    @property
    def name(self) -> str:
        """The name of the key in paths, such as `timestamp_day`."""
        return f"{self.field}_{self.by}" if self.by else self.field


class Partition(msgspec.Struct, frozen=True):
    """A partition with rows."""

    values: list[str | None]
    """The value of each key; None stands for NULL and the empty string."""
    rows: int
    first_key: str | None
    """The first key as PostgreSQL writes it, by which partitions are given to workers."""


class KeySql(msgspec.Struct, frozen=True):
    """SQL of a partition key."""

    value: str
    """The value by which rows are grouped and sorted."""
    type: str
    """PostgreSQL's type of the value."""
    by: By | None

    def label(self, column: str) -> str:
        """Return SQL of the value in paths. `column`: SQL of the grouped value."""
        if self.by is None:
            return column
        # A year before 1 has the same digits as one after it.
        era = f"case when {column} < '0001-01-01' then ' BC' else '' end"
        return (
            f"case when isfinite({column}) then to_char({column}, '{PATTERNS[self.by]}') || {era}"
            f" else {column}::text end"
        )


class PartitionQuery(msgspec.Struct, frozen=True):
    """The partition keys of one export, as SQL."""

    names: list[str]
    keys: list[KeySql]
    order: str
    """The `order by` clause that brings the rows of each partition together."""
    zone: str | None
    """The time zone that divides the rows; None where no key depends on one."""

    async def partitions(self, connection: Connection, rows: RowQuery) -> list[Partition]:
        """Return the partitions in the connection's snapshot, in the order of `order`. Raises LongshoreError."""
        names = [f"counted.k{number}" for number in range(len(self.keys))]
        numbers = [str(number + 1) for number in range(len(self.keys))]
        values = ", ".join(f"{key.value} as k{number}" for number, key in enumerate(self.keys))
        labels = ", ".join(key.label(name) for key, name in zip(self.keys, names, strict=True))
        query = (
            f"select counted.k0::text as first, n, {labels} from "
            f"(select {values}, count(*) as n {rows.sql} group by {', '.join(numbers)}) counted "
            f"order by {', '.join(names)} limit {MAX_FILES + 1}"
        )
        found = await connection.fetch(query, *rows.values)
        if len(found) > MAX_FILES:
            raise too_many_files()
        return [Partition(list(row)[2:], row["n"], row["first"]) for row in found]

    def with_first_keys(self, rows: RowQuery, first_keys: Sequence[str | None]) -> RowQuery:
        """Return the rows whose first key is one of these."""
        key, number = self.keys[0], len(rows.values) + 1
        values = [value for value in first_keys if value is not None]
        missing = f" or {key.value} is null" if None in first_keys else ""
        condition = f"{key.value} = any(${number}::text[]::{key.type}[]){missing}"
        return RowQuery(f"{rows.sql} and ({condition})", (*rows.values, values))


async def partition_query(
    connection: Connection, index: Index, keys: Sequence[PartitionKey], zone: str
) -> PartitionQuery:
    """Return the keys of a request as SQL, with their types in the source. Raises LongshoreError."""
    columns = await columns_of(connection, index, [(key.field, key.field) for key in keys])
    sql = [_key_sql(key, column, zone) for key, column in zip(keys, columns, strict=True)]
    has_zone = any(key.by is not None and column.pg_type != "date" for key, column in zip(keys, columns, strict=True))
    order = [key.value for key in sql]
    if await is_plain_table(connection, index):  # so the same snapshot gives the same files
        order.append(f"{index.quoted_relation}.ctid")
    return PartitionQuery([key.name for key in keys], sql, f"order by {', '.join(order)}", zone if has_zone else None)


def _key_sql(key: PartitionKey, column: Column, zone: str) -> KeySql:
    if key.by is None:
        return KeySql(f"nullif(({column.text_sql}) collate pg_catalog.\"C\", '')", "text", None)
    match column.pg_type:
        case "timestamptz":
            local = f"({column.expression}) at time zone {sql_text(zone)}"
        case "timestamp":  # in UTC, as everywhere
            local = f"({column.expression}) at time zone 'UTC' at time zone {sql_text(zone)}"
        case "date":  # counts from the first moment of its day in any zone
            local = f"({column.expression})::timestamp"
        case other:
            raise LongshoreError(f"column {key.field} is of the type {other}, which has no {key.by}")
    return KeySql(f"date_trunc('{key.by}', {local})", "timestamp", key.by)


def check_keys(keys: Sequence[PartitionKey], index: Index, at: str) -> list[Violation]:
    """Return the violations of a request's partition keys; `at` is their JSON pointer."""
    violations: list[Violation] = []
    if not keys:
        violations.append(Violation("expected at least one field", at))
    seen: set[str] = set()
    for number, key in enumerate(keys):
        where = pointer(at, number)
        field = index.fields.get(key.field)
        if field is None:
            hint = suggestion(key.field, index.fields, violations)
            violations.append(
                Violation(f"{in_json(key.field)} is no field of this index{hint}", pointer(where, "field"))
            )
        elif field.type is FieldType.DATE and key.by is None:
            violations.append(Violation("is required for a date: expected day, month or year", pointer(where, "by")))
        elif field.type is FieldType.KEYWORD and key.by is not None:
            violations.append(Violation(f"is for a date, and {key.field} is a keyword", pointer(where, "by")))
        elif field.type not in (FieldType.DATE, FieldType.KEYWORD):
            violations.append(
                Violation(f"expected a date or a keyword, and {key.field} is a {field.type}", pointer(where, "field"))
            )
        if key.name in seen:
            violations.append(Violation(f"{in_json(key.name)} is the name of another key", where))
        seen.add(key.name)
    return violations
