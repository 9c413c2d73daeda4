"""The table of a load as the server has it, and how it is made or widened. Nothing is ever narrowed or dropped."""

from collections.abc import Sequence

import msgspec

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import DestinationError, TableLoad
from longshore.destinations.postgresql import deliveries_table
from longshore.destinations.postgresql.errors import needing
from longshore.destinations.postgresql.types import ANY_TEXT, RESPELLED, Type, quoted, types_of, widened
from longshore.validation import in_json

MAX_NAME_BYTES = 63
TABLES = {"r": "a table", "p": "a partitioned table"}
OTHERS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}

FIND = """
select c.oid, c.relkind::text as kind
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2
"""

SCHEMA = """
select pg_catalog.has_schema_privilege(oid, 'usage') from pg_catalog.pg_namespace where nspname = $1
"""

# Rights to some columns count, as the others may be the customer's own.
RIGHTS = """
select array(
           select asked from unnest($2::text[]) as asked
           where not pg_catalog.has_table_privilege($1::oid, asked)
                 and not (asked <> 'delete' and pg_catalog.has_any_column_privilege($1::oid, asked))
       ) as missing,
       pg_catalog.row_security_active($1::oid) as has_policies
"""
NEEDED = {
    "append": ["select", "insert"],
    "replace": ["select", "insert", "delete"],
    "merge": ["select", "insert", "update", "delete"],
}

# A domain counts as the type under it, however many domains there are between. Limits are decoded as format_type shows
# them, so that all types are alike.
COLUMNS = """
with recursive columns as (
    select attnum, attname, attgenerated, attidentity, attcollation, atttypid as type, atttypmod as typmod,
           false as is_domain
    from pg_catalog.pg_attribute
    where attrelid = $1 and attnum > 0 and not attisdropped
    union all
    select c.attnum, c.attname, c.attgenerated, c.attidentity, c.attcollation, d.typbasetype,
           case when c.typmod < 0 then d.typtypmod else c.typmod end, true
    from columns c
    join pg_catalog.pg_type d on d.oid = c.type and d.typtype = 'd'
)
select c.attname as name, c.attgenerated::text as generated, c.attidentity::text as identity,
       e.typname as type, s.nspname as schema, t.typcategory = 'A' as is_array, c.is_domain,
       pg_catalog.format_type(c.type, c.typmod) as shown, coalesce(l.collisdeterministic, true) as is_deterministic
from columns c
join pg_catalog.pg_type t on t.oid = c.type and t.typtype <> 'd'
join pg_catalog.pg_type e on e.oid = case t.typcategory when 'A' then t.typelem else t.oid end
join pg_catalog.pg_namespace s on s.oid = e.typnamespace
left join pg_catalog.pg_collation l on l.oid = c.attcollation
order by c.attnum
"""

# Foreign keys that would remove or empty rows of other tables where the rows of this one are replaced.
CASCADES = """
select conname, conrelid::pg_catalog.regclass::text as other
from pg_catalog.pg_constraint
where confrelid = $1 and contype = 'f' and confdeltype in ('c', 'n', 'd') and conrelid <> confrelid
order by conname limit 1
"""


class Column(msgspec.Struct, frozen=True):
    """A column of a load, with the types that it has in the table."""

    name: str
    want: Type
    """The type of its values."""
    type: Type
    """The type that it has in the table after the load."""
    have: Type | None
    """The type that it has in the table before; None where the column is missing."""
    is_equality_loose: bool = False
    """Whether the table may call different values equal: by a collation, or by an extension's type."""

    @property
    def is_to_be_spelled(self) -> bool:
        """Whether it has texts of values that Arrow spells otherwise than PostgreSQL."""
        return self.want.name in RESPELLED and not self.want.is_array and self.type.name in ANY_TEXT


class Target(msgspec.Struct, frozen=True):
    """The table of a load."""

    name: str
    """Its quoted name, with its schema."""
    oid: int | None
    """None where it is missing."""
    columns: Sequence[Column]

    def definitions(self, key: Sequence[str]) -> list[str]:
        """Return the definitions of the columns, of which those of a key refuse NULL."""
        return [
            f"{quoted(column.name)} {column.type.sql}{' not null' if column.name in key else ''}"
            for column in self.columns
        ]


async def require_schema(connection: DirectConnection, schema: str) -> None:
    """Raise DestinationError if there is no such schema or the role may not use it, as the server may say otherwise."""
    may_use = await connection.fetchval(SCHEMA, schema)
    if may_use is None:
        raise DestinationError(f'there is no schema "{schema}": create it, or correct the setting schema')
    if not may_use:
        named = quoted(schema)
        raise DestinationError(
            f"the role may not use the schema {named}: grant usage, create on schema {named} to the role"
        )


async def require_allowed(connection: DirectConnection, target: Target, load: TableLoad) -> None:
    """Raise DestinationError if a table is there and may not be loaded.

    The role may lack a right to it, rows may be hidden from the role, or a replacement may change other tables.
    """
    if target.oid is None:
        return
    needed = [right for right in NEEDED[load.mode] if right != "delete" or load.mode == "replace" or load.has_changes]
    found = await connection.fetchrow(RIGHTS, target.oid, needed)
    assert found is not None
    if found["missing"]:
        rights = ", ".join(found["missing"])
        raise DestinationError(f"the role lacks rights to {target.name}: grant {rights} on {target.name} to the role")
    if found["has_policies"] and load.mode != "append":
        raise DestinationError(
            f"a row-level security policy of {target.name} may hide rows from the role, which a {load.mode} would leave"
            " there: alter the role with bypassrls, deliver with mode append, or load a table without policies"
        )
    if load.mode == "replace":
        await _refuse_cascades(connection, target)


def check_names(load: TableLoad) -> None:
    """Raise DestinationError for names that the server would shorten, or take for another table's."""
    for what, name in [("table", load.table), *(("column", column.name) for column in load.columns)]:
        if not name or "\x00" in name or (what == "table" and name == deliveries_table.NAME):
            raise DestinationError(f"{in_json(name)} can be no name of a {what}")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise DestinationError(
                f'{what} "{name}" has {len(name.encode())} bytes in its name; PostgreSQL shortens names of more than'
                f" {MAX_NAME_BYTES}: choose another name"
            )
    if missing := [name for name in load.key if name not in {column.name for column in load.columns}]:
        raise DestinationError(f'the key has the column "{missing[0]}", which the load lacks')
    if load.mode == "merge" and not load.key:
        raise DestinationError("a merge needs a key")
    if load.has_changes and load.mode != "merge":
        raise DestinationError("changes can only be merged")


async def inspect_table(connection: DirectConnection, schema: str, load: TableLoad) -> Target:
    """Return the table of a load, with what its columns become. Raises DestinationError for one that is in the way.

    No lock is taken.
    """
    name = f"{quoted(schema)}.{quoted(load.table)}"
    columns, types = load.columns, await types_of(connection, load.columns)
    found = await connection.fetchrow(FIND, schema, load.table)
    if found is None:
        wanted = zip(columns, types, strict=True)
        return Target(name, None, [Column(column.name, want, want, None) for column, want in wanted])
    if found["kind"] not in TABLES:
        raise DestinationError(f"{name} is {OTHERS.get(found['kind'], 'no table')}, which cannot be loaded")
    rows = {row["name"]: row for row in await connection.fetch(COLUMNS, found["oid"])}
    target = []
    for column, want in zip(columns, types, strict=True):
        row = rows.get(column.name)
        if row is None:
            target.append(Column(column.name, want, want, None))
            continue
        have = Type(row["type"], row["schema"], _limits(row["shown"]), row["is_array"], row["is_domain"])
        kept = widened(have, want)
        if kept is None:
            raise DestinationError(
                f'column "{column.name}" of {name} is {have.shown} and the load\'s is {want.shown}, which it cannot'
                " hold: change the type of the table's column, rename one of the two, or cast the field by `sql` in the"
                " catalog"
            )
        if row["generated"] or (row["identity"] == "a" and load.mode == "merge" and column.name not in load.key):
            reason = "generated" if row["generated"] else "an identity column that is always generated"
            raise DestinationError(f'column "{column.name}" of {name} is {reason}, so that no value can be written')
        is_loose = not row["is_deterministic"] or have.schema != "pg_catalog"
        target.append(Column(column.name, want, kept, have, is_loose))
    return Target(name, found["oid"], target)


def _limits(shown: str) -> tuple[int, ...]:
    """Return the limits in a type's name, such as `numeric(12,2)` or `timestamp(3) with time zone`."""
    _, opened, rest = shown.partition("(")
    inside = rest.partition(")")[0] if opened else ""
    if shown.startswith("interval ") and not opened:
        return (0,)  # of some fields alone, such as `interval year to month`
    try:
        return tuple(int(part) for part in inside.split(",")) if inside else ()
    except ValueError:
        return ()  # of an extension's type, such as geometry(Point,4326)


async def _refuse_cascades(connection: DirectConnection, target: Target) -> None:
    """Raise DestinationError where replacing the rows would remove or change rows of other tables."""
    found = await connection.fetchrow(CASCADES, target.oid)
    if found is not None:
        raise DestinationError(
            f'the foreign key "{found["conname"]}" of {found["other"]} would remove or empty its rows with those that a'
            f" replacement of {target.name} removes: deliver with mode merge, or drop the foreign key"
        )


async def prepare(connection: DirectConnection, schema: str, target: Target, key: Sequence[str]) -> None:
    """Make or widen the table. `key`: of a new table."""
    if target.oid is None:
        parts = [*target.definitions(key), *([f"primary key ({', '.join(map(quoted, key))})"] if key else [])]
        with needing("create tables in the schema", f"grant usage, create on schema {quoted(schema)} to the role"):
            await connection.execute(f"create table {target.name} ({', '.join(parts)})")
        return
    for column in target.columns:
        if column.have is None:
            change = f"alter table {target.name} add column {quoted(column.name)} {column.type.sql}"
        elif column.type != column.have:
            change = f"alter table {target.name} alter column {quoted(column.name)} type {column.type.sql}"
        else:
            continue
        with needing("change a table that it does not own", f"run as its owner: {change}"):
            await connection.execute(change)
