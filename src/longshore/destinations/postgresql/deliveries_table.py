"""`_longshore_deliveries`: the table, in each schema, of what was delivered to the tables of the schema."""

from contextlib import AbstractContextManager

import msgspec

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import DeliveryRecord, DestinationError, TableLoad
from longshore.destinations.postgresql.errors import needing
from longshore.destinations.postgresql.types import quoted

NAME = "_longshore_deliveries"

CREATE = """
create table if not exists {name} (
    table_name text not null,
    task bigint not null,
    run bigint not null,
    interval_start timestamp with time zone,
    interval_end timestamp with time zone not null,
    mark_from text,
    mark_to text,
    rows bigint not null,
    sha256 bytea not null,
    delivered_at timestamp with time zone not null default now(),
    primary key (table_name, task, run)
)
"""

EXISTS = "select from pg_catalog.pg_tables where schemaname = $1 and tablename = $2"

# Creating a table twice at once is an error even with `if not exists`, so one waits for the other.
LOCK = "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('longshore ' || $1 || '.' || $2, 0))"

FIND = """
select rows, run = $3 as of_run, sha256 = $4 as same_bytes
from {name}
where table_name = $1 and task = $2
      and (run = $3 or ($6::text is not null and mark_to = $6 and mark_from is not distinct from $5::text))
order by of_run desc
limit 1
"""

# $3: hash of the watermark that an increment begins at.
EARLIER = """
select coalesce(sum(rows), 0)::bigint as rows, coalesce(bool_or(mark_to = $3), false) as has_watermark,
       coalesce((array_agg(mark_to order by run desc))[1] = $3, false) as ends_at_watermark
from {name}
where table_name = $1 and task = $2
"""

FORGET = "delete from {name} where table_name = $1"

RIGHTS = ("select", "insert", "update", "delete")
LACKS_RIGHT = f"""
select bool_or(not pg_catalog.has_table_privilege(c.oid, asked))
from pg_catalog.pg_class c, unnest(array{list(RIGHTS)}) as asked
where c.relnamespace = (select oid from pg_catalog.pg_namespace where nspname = $1) and c.relname = $2
"""
GRANT = f"grant {', '.join(RIGHTS)} on {{name}} to the role"

INSERT = """
insert into {name} (table_name, task, run, interval_start, interval_end, mark_from, mark_to, rows, sha256)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (table_name, task, run) do update
set interval_start = excluded.interval_start, interval_end = excluded.interval_end, mark_from = excluded.mark_from,
    mark_to = excluded.mark_to, rows = excluded.rows, sha256 = excluded.sha256, delivered_at = excluded.delivered_at
"""


class EarlierLines(msgspec.Struct, frozen=True):
    """The lines of a task's earlier runs in a table."""

    rows: int
    """Of all their files."""
    has_watermark: bool
    """Whether one of them ends at the watermark that an increment begins at."""
    ends_at_watermark: bool
    """Whether the newest run does."""


async def ensure(connection: DirectConnection, schema: str) -> None:
    """Make the table where it is missing. Raises DestinationError without the right.

    Other loads of the schema wait until the transaction ends, so it must not be that of a load.
    """
    if await connection.fetchrow(EXISTS, schema, NAME) is not None:
        return
    with needing("create tables in the schema", f"grant usage, create on schema {quoted(schema)} to the role"):
        await connection.execute(LOCK, schema, NAME)
        await connection.execute(CREATE.format(name=_name(schema)))


async def require_rights(connection: DirectConnection, schema: str) -> None:
    """Raise DestinationError if the table is there and the role may not use it."""
    if await connection.fetchval(LACKS_RIGHT, schema, NAME):
        raise DestinationError(f"the role may not use {NAME}: {GRANT.format(name=_name(schema))}")


async def lock_table(connection: DirectConnection, schema: str, table: str) -> None:
    """Wait until no other load of the table is in its last step, and keep others waiting until the transaction ends."""
    await connection.execute(LOCK, schema, table)


async def delivered_rows(connection: DirectConnection, schema: str, load: TableLoad) -> int | None:
    """Return the rows of an earlier delivery of the same run or watermarks; None where there is none.

    Raises DestinationError where the run is there with other bytes, unless the load replaces them.
    """
    line = load.line
    with _reading(schema):
        found = await connection.fetchrow(
            FIND.format(name=_name(schema)),
            *(load.table, line.task, line.run, line.sha256, line.watermark_from_hash, line.watermark_to_hash),
        )
    if found is None:
        return None
    if not found["of_run"] and load.replaces_all_rows:  # also where the table was emptied meanwhile
        return None
    if not found["of_run"] or found["same_bytes"]:
        return int(found["rows"])
    if load.mode == "replace" or load.is_full:
        return None
    raise DestinationError(
        f"{NAME} has run {line.run} of task {line.task} for table {load.table} with another file: another installation"
        " delivers to the table, or the service was restored from a backup; to load the run, delete its line"
    )


async def earlier_lines(connection: DirectConnection, schema: str, load: TableLoad) -> EarlierLines:
    """Return the lines of earlier runs of a load's task in its table."""
    with _reading(schema):
        row = await connection.fetchrow(
            EARLIER.format(name=_name(schema)), load.table, load.line.task, load.line.watermark_from_hash
        )
    assert row is not None
    return EarlierLines(**row)


async def forget(connection: DirectConnection, schema: str, table: str) -> None:
    """Remove the lines of a table that is made anew: they are of one that was dropped or renamed."""
    with _reading(schema):
        await connection.execute(FORGET.format(name=_name(schema)), table)


async def write_line(connection: DirectConnection, schema: str, table: str, line: DeliveryRecord) -> None:
    """Write the line of a delivery."""
    with _reading(schema):
        await connection.execute(
            INSERT.format(name=_name(schema)),
            *(table, line.task, line.run, line.interval_start, line.interval_end),
            *(line.watermark_from_hash, line.watermark_to_hash, line.rows, line.sha256),
        )


def _name(schema: str) -> str:
    return f"{quoted(schema)}.{quoted(NAME)}"


def _reading(schema: str) -> AbstractContextManager[None]:
    return needing(f"use {NAME}", GRANT.format(name=_name(schema)))
