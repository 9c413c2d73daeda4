"""Staged rows become rows of the table: appended, in place of all others, or merged by the key."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import DestinationError, TableEvidence, TableLoad
from longshore.destinations.postgresql.errors import STAGING_NAME
from longshore.destinations.postgresql.table import Target
from longshore.destinations.postgresql.types import quoted
from longshore.exports.columns import PLAIN_CASTS
from longshore.exports.manifest import Mirror
from longshore.exports.target import CHANGE
from longshore.exports.totals import Totals, add_partial_sums, as_list

STAGING = f"pg_temp.{STAGING_NAME}"

DELETE = "delete"


class TotalsSql(msgspec.Struct, frozen=True):
    """The columns of control totals as SQL, over columns of a table or of its alias."""

    totals: Totals
    per: str
    amount: str

    def query(self, source: str) -> str:
        """Return the query of the totals of a source: value, rows and sum."""
        # Values that a collation of the customer's calls equal are not.
        per = f'({self.per}) collate pg_catalog."C"'
        return f"select {per}, count(*), coalesce(sum({self.amount}), 0) from {source} group by 1"

    def of(self, parts: Sequence[Any]) -> Totals:
        """Return the totals of what the query returns."""
        sums = as_list(add_partial_sums({}, (tuple(part) for part in parts)))
        return Totals(self.totals.amount, self.totals.per, sums)


def _totals_sql(target: Target, totals: Totals | None, alias: str = "") -> TotalsSql | None:
    """Return the columns of control totals; None without totals. `alias`: of the table, with its dot."""
    if totals is None:
        return None
    column = next(column for column in target.columns if column.name == totals.per)
    # Under the load's type, as a table's wider type may spell a value otherwise.
    name = f"{alias}{quoted(column.name)}"
    value = name if column.type == column.want else f"{name}::{column.want.sql}"
    shown = f"case when {value} is not null then format('%s', {value}) end"
    if column.want.name in PLAIN_CASTS:  # a cast takes less time
        shown = f"{value}::text"
    return TotalsSql(totals, shown, f"{alias}{quoted(totals.amount)}::numeric")


async def apply(connection: DirectConnection, target: Target, load: TableLoad) -> TableEvidence:
    """Write the staged rows into the table, and return the rows and totals that it took.

    Those of an append to a table without triggers and rules are the staged rows'; all others are read from the table.

    Raises DestinationError where the table does not hold the rows then.
    """
    if load.mode == "merge":
        return await _merge(connection, target, load)
    if load.mode == "append":
        evidence = await _append(connection, target, load)
    else:
        await connection.execute(f"delete from {target.name}")
        await connection.execute(_insert(target))
        evidence = await table_evidence(connection, target, load.totals)
    if evidence.rows != load.line.rows:
        raise _rows_error(target, evidence.rows, load.line.rows)
    return evidence


# Triggers before each row that is inserted, into the table or one of its partitions, and rules that do something else.
CHANGES_ROWS = """
select exists (
    select from pg_catalog.pg_trigger
    where (tgrelid = $1 or tgrelid in (select relid from pg_catalog.pg_partition_tree($1)))
          and tgtype & 7 = 7 and tgenabled <> 'D' and not tgisinternal
) or exists (select from pg_catalog.pg_rewrite where ev_class = $1 and ev_type = '3' and is_instead)
"""


async def _append(connection: DirectConnection, target: Target, load: TableLoad) -> TableEvidence:
    """Append the rows. Their totals are those that the table returns, where its triggers or rules may change rows.

    Elsewhere the table has the staged rows as they are, and to add those up takes less time.
    """
    sql, totals = _totals_sql(target, load.totals), None
    if sql and target.oid is not None and await connection.fetchval(CHANGES_ROWS, target.oid):
        names = {sql.totals.per, sql.totals.amount}
        inserted = f"{_insert(target)} returning {', '.join(map(quoted, names))}"
        totals = sql.of(await connection.fetch(f"with inserted as ({inserted}) {sql.query('inserted')}"))
        rows = totals.rows
    else:
        if sql:
            totals = sql.of(await connection.fetch(sql.query(STAGING)))
        rows = int((await connection.execute(_insert(target))).rpartition(" ")[2])
    return TableEvidence(rows, totals, already_loaded=False)


async def table_evidence(connection: DirectConnection, target: Target, totals: Totals | None) -> TableEvidence:
    """Return rows and totals of the whole table."""
    sql = _totals_sql(target, totals)
    rows, parts = await _measure(connection, target.name, sql)
    return TableEvidence(rows, sql.of(parts) if sql else None, already_loaded=False)


async def _measure(connection: DirectConnection, source: str, sql: TotalsSql | None) -> tuple[int, Sequence[Any]]:
    """Return the number of rows of a source, and what the query of their totals returns; empty where there is none."""
    if sql is None:
        return await connection.fetchval(f"select count(*) from {source}"), []
    parts = await connection.fetch(sql.query(source))
    return sum(part[1] for part in parts), parts


async def _merge(connection: DirectConnection, target: Target, load: TableLoad) -> TableEvidence:
    keys = ", ".join(map(quoted, load.key))
    await connection.execute(f"create unique index on {STAGING} ({keys})")
    await connection.execute(f"analyze {STAGING}")
    same = _same(target, load.key)
    kept = f"s.{quoted(CHANGE)} is distinct from '{DELETE}'" if load.has_changes else "true"
    matching = f"from {STAGING} s where {same}"
    if load.is_full:
        await connection.execute(f"delete from {target.name} t where not exists (select {matching})")
    elif load.has_changes:
        await connection.execute(f"delete from {target.name} t using {STAGING} s where {same} and not ({kept})")
    others = [column for column in target.columns if column.name not in load.key]
    if others:
        values = ", ".join(f"{quoted(column.name)} = s.{quoted(column.name)}" for column in others)
        # Rows that are there with the same bytes are not written again. Not all types have an equality, and records
        # of a domain and of its base type cannot be compared.
        now, new = (
            f"row({', '.join(f'{alias}.{quoted(column.name)}::{column.type.sql}' for column in others)})::record"
            for alias in "ts"
        )
        await connection.execute(
            f"update {target.name} t set {values} {matching} and {kept} and {now} operator(pg_catalog.*<>) {new}"
        )
    await connection.execute(
        _insert(target, f"s where {kept} and not exists (select from {target.name} t where {same})")
    )
    merged = await _merged(connection, target, load, f"{STAGING} s join {target.name} t on {same}", kept)
    if load.mirror is None:
        return merged
    table = await table_evidence(connection, target, load.mirror.totals)
    return msgspec.structs.replace(merged, mirror=Mirror(table.rows, table.totals))


def _same(target: Target, key: Sequence[str]) -> str:
    """Return the condition that rows `t` and `s` have the same key."""
    same = [f"t.{quoted(name)} = s.{quoted(name)}" for name in key]
    # A collation, or a type of an extension, may call different values equal. Its equality can use the table's index.
    for column in target.columns:
        if column.name in key and column.is_equality_loose:
            same.append(" = ".join(f'{alias}.{quoted(column.name)}::text collate pg_catalog."C"' for alias in "ts"))
    return " and ".join(same)


def _insert(target: Target, which: str = "") -> str:
    """Return the statement that inserts staged rows. Values of the source replace those of an identity column."""
    names = ", ".join(quoted(column.name) for column in target.columns)
    return f"insert into {target.name} ({names}) overriding system value select {names} from {STAGING} {which}"


async def _merged(
    connection: DirectConnection, target: Target, load: TableLoad, joined: str, kept: str
) -> TableEvidence:
    """Return the rows that were merged, as the table has them.

    `joined`: the staged rows with those of the table by the key. Raises DestinationError unless the table has each
    inserted or updated key once, and no deleted key.
    """
    upserts = await connection.fetchval(f"select count(*) from {STAGING} s where {kept}")
    sql = _totals_sql(target, load.totals, "t.")
    rows, parts = await _measure(connection, f"{joined} where {kept}", sql)
    left = await connection.fetchval(f"select count(*) from {joined} where not ({kept})") if load.has_changes else 0
    if rows > upserts:
        raise DestinationError(f"{target.name} has a key of the load more than once, so rows cannot be merged by it")
    if rows < upserts or left:
        raise _rows_error(target, rows, upserts)
    if deleted := load.line.rows - upserts:
        parts = [*parts, (None, deleted, Decimal(0))]
    return TableEvidence(load.line.rows, sql.of(parts) if sql else None, already_loaded=False)


def _rows_error(target: Target, found: int, rows: int) -> DestinationError:
    return DestinationError(
        f"{target.name} took {found} of {rows} rows: a trigger or a rule of the table drops or adds some"
    )
