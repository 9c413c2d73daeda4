# ruff: noqa: S608  # all SQL here is made of quoted names
"""Staged rows become rows of the table: appended, in place of all others, or merged by the key."""

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import DestinationError, TableEvidence, TableLoad
from longshore.destinations.postgresql.table import Target
from longshore.destinations.postgresql.types import quoted
from longshore.exports.columns import CAST_AS_SHOWN
from longshore.exports.export import CHANGE
from longshore.exports.totals import Totals, added, as_list

STAGING_NAME = "_longshore_staging"
STAGING = f"pg_temp.{STAGING_NAME}"

DELETE = "delete"


async def evidence(connection: DirectConnection, target: Target, load: TableLoad) -> TableEvidence:
    """Return the rows and control totals of the staged rows."""
    if load.totals is None:
        rows = await connection.fetchval(f"select count(*) from {STAGING}")
        return TableEvidence(rows, None, was_there=False)
    column = next(column for column in target.columns if column.name == load.totals.per)
    # Under the load's type, as a table's wider type may spell a value otherwise.
    value = quoted(column.name) if column.type == column.want else f"{quoted(column.name)}::{column.want.sql}"
    shown = f"case when {value} is not null then format('%s', {value}) end"
    if column.want.name in CAST_AS_SHOWN:  # a cast takes less time
        shown = f"{value}::text"
    amount = f"coalesce(sum({quoted(load.totals.amount)}::numeric), 0)"
    parts = await connection.fetch(f"select {shown}, count(*), {amount} from {STAGING} group by 1")
    totals = Totals(load.totals.amount, load.totals.per, as_list(added({}, (tuple(part) for part in parts))))
    return TableEvidence(totals.rows, totals, was_there=False)


async def apply(connection: DirectConnection, target: Target, load: TableLoad) -> None:
    """Write the staged rows into the table. Raises DestinationError where it does not hold them then."""
    if load.mode == "merge":
        await _merge(connection, target, load)
        return
    if load.mode == "replace":
        await connection.execute(f"delete from {target.name}")
    await _insert(connection, target, load.line.rows)
    if load.mode == "replace":
        await _require_count(connection, target, load.line.rows)


async def _merge(connection: DirectConnection, target: Target, load: TableLoad) -> None:
    keys = ", ".join(map(quoted, load.key))
    await connection.execute(f"create unique index on {STAGING} ({keys})")
    await connection.execute(f"analyze {STAGING}")
    same = " and ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in load.key)
    kept = f"s.{quoted(CHANGE)} is distinct from '{DELETE}'" if load.has_changes else "true"
    matching = f"from {STAGING} s where {same}"
    if load.is_full:
        await connection.execute(f"delete from {target.name} t where not exists (select {matching})")
    elif load.has_changes:
        await connection.execute(f"delete from {target.name} t using {STAGING} s where {same} and not ({kept})")
    names = [quoted(column.name) for column in target.columns if column.name not in load.key]
    if names:
        values = ", ".join(f"{name} = s.{name}" for name in names)
        # Rows that are there with the same bytes are not written again. Not all types have an equality.
        now, new = (f"row({', '.join(f'{alias}.{name}' for name in names)})::record" for alias in "ts")
        await connection.execute(
            f"update {target.name} t set {values} {matching} and {kept} and {now} operator(pg_catalog.*<>) {new}"
        )
    upserts = await connection.fetchval(f"select count(*) from {STAGING} s where {kept}")
    await _insert(connection, target, None, f"s where {kept} and not exists (select from {target.name} t where {same})")
    await _require_keys(connection, target, same, kept, upserts)
    if load.is_full:
        await _require_count(connection, target, upserts)


async def _insert(connection: DirectConnection, target: Target, rows: int | None, which: str = "") -> None:
    """Insert staged rows. `rows`: how many. Values of the source take the place of those of an identity column."""
    names = ", ".join(quoted(column.name) for column in target.columns)
    status = await connection.execute(
        f"insert into {target.name} ({names}) overriding system value select {names} from {STAGING} {which}"
    )
    if rows is not None and int(status.rpartition(" ")[2]) != rows:
        raise _dropped(target, int(status.rpartition(" ")[2]), rows)


async def _require_keys(connection: DirectConnection, target: Target, same: str, kept: str, upserts: int) -> None:
    """Raise DestinationError unless the table has each key once that was put into it, and none that was deleted."""
    found = await connection.fetchrow(
        f"select count(*) filter (where {kept}) as upserts, count(*) filter (where not ({kept})) as deletes"
        f" from {STAGING} s join {target.name} t on {same}"
    )
    assert found is not None
    if found["upserts"] > upserts:
        raise DestinationError(f"{target.name} has a key of the load more than once, so rows cannot be merged by it")
    if found["upserts"] < upserts or found["deletes"]:
        raise _dropped(target, found["upserts"], upserts)


async def _require_count(connection: DirectConnection, target: Target, rows: int) -> None:
    count = await connection.fetchval(f"select count(*) from {target.name}")
    if count != rows:
        raise _dropped(target, count, rows)


def _dropped(target: Target, found: int, rows: int) -> DestinationError:
    return DestinationError(
        f"{target.name} took {found} of {rows} rows: a trigger or a rule of the table drops or adds some"
    )
