"""The columns of an export: its fields, with the types that they have in PostgreSQL.

They are fixed before the first row, from the catalog and the source's own description, so no row can change one.
"""

from collections.abc import Sequence

import msgspec

from longshore.database.connect import Connection
from longshore.exports.catalog import (
    MAX_FIELD_NAME_CHARACTERS,
    Field,
    Index,
    Shape,
    quoted_identifier,
    shape,
)
from longshore.validation import Violation, in_json, pointer, suggestion

# A domain counts as the type under it, however many domains there are between, and so do its limits.
DETAILS = r"""
with recursive columns as (
    select attname, attcollation, atttypid as type, atttypmod as typmod
    from pg_catalog.pg_attribute
    where attrelid = $1::text::regclass and attnum > 0
    union all
    select c.attname, c.attcollation, d.typbasetype, case when c.typmod < 0 then d.typtypmod else c.typmod end
    from columns c
    join pg_catalog.pg_type d on d.oid = c.type and d.typtype = 'd'
)
select c.attname, coalesce(l.collisdeterministic, true) as deterministic,
       substring(pg_catalog.format_type(c.type, c.typmod) from '\(([0-9, -]+)\)') as limits
from columns c
join pg_catalog.pg_type t on t.oid = c.type and t.typtype <> 'd'
left join pg_catalog.pg_collation l on l.oid = c.attcollation
"""

UNLIMITED = ("interval", "interval[]")  # their limits are no list of numbers in SQL

INTEGERS = frozenset({"int2", "int4", "int8"})
FLOATS = frozenset({"float4", "float8"})

# Types whose cast to text is the text in a result. Casts of others may leave something out (the blanks at the end of a
# `char`) or add something (the mask of an `inet`).
PLAIN_CASTS = frozenset({"text", "varchar", "citext", "name", "uuid", "int2", "int4", "int8", "numeric"})


class FieldChoice(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A field under another name."""

    name: str
    as_: str | None = msgspec.field(name="as", default=None)


class Column(msgspec.Struct, frozen=True):
    """One column of an export."""

    name: str
    field: Field
    expression: str
    """SQL of the value as PostgreSQL stores it."""
    pg_type: str
    """PostgreSQL's name of its type, such as `timestamptz`."""
    limits: tuple[int, ...] = ()
    """Digits and decimals of a numeric, length of a varchar and the like; empty: without limits."""
    is_bytewise: bool = False
    """Whether its collation is known to be deterministic: only the same bytes are equal."""
    type_schema: str = "pg_catalog"
    type_id: int = 0
    """PostgreSQL's `oid` of its type; 0 for a column that is not of the source."""
    is_unicode: bool = True
    """Whether SQL may hold every character; False where the encoding of the source lacks some."""

    @property
    def digits(self) -> tuple[int, int] | None:
        """The digits of a numeric and how many of them are decimals; None where they are not limited."""
        return (self.limits[0], self.limits[1]) if self.pg_type == "numeric" and self.limits else None

    @property
    def sql_type(self) -> str:
        """SQL of its type, without a limit of its length or digits; text in place of an array."""
        if self.pg_type.endswith("[]"):
            return "text"
        return f"{quoted_identifier(self.type_schema)}.{quoted_identifier(self.pg_type)}"

    @property
    def declared_type(self) -> str:
        """The type of a column that holds its values, such as `numeric(12,2)`; text in place of a type of its own."""
        if self.type_schema != "pg_catalog":
            return "text"
        name = self.pg_type.removesuffix("[]")
        limits = f"({','.join(map(str, self.limits))})" if self.limits else ""
        return f"{name}{limits}{self.pg_type[len(name) :]}"

    @property
    def text_sql(self) -> str:
        """SQL, of the type `text`, with the characters that a text format has for the value."""
        if self.pg_type in PLAIN_CASTS:
            return f"({self.expression})::text"
        if self.pg_type in ("timestamptz", "timestamp", "bool", "json", "jsonb"):
            return f"({self.copy_sql})"
        # A composite with a NULL in it is neither `is null` nor `is not null`.
        return f"(case when ({self.expression}) is distinct from null then format('%s', {self.expression}) end)"

    @property
    def copy_sql(self) -> str:
        """SQL for COPY to a text format: times in ISO 8601 with a Z, booleans as words, all else in its own type."""
        match self.pg_type:
            case "timestamptz":
                return self._iso(f"({self.expression} at time zone 'UTC')")
            case "timestamp":
                return self._iso(f"({self.expression})")
            case "bool" | "jsonb" | "json":
                return f"({self.expression})::text"
        return self.expression

    def _iso(self, in_utc: str) -> str:
        """Return SQL of a time in ISO 8601 with six decimals. `in_utc`: SQL of it as a timestamp without a zone."""
        expression = self.expression
        if self.field.sql:  # PostgreSQL evaluates the expression three times rather than six
            iso = f'to_char({in_utc}, \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'
        else:
            # PostgreSQL leaves out the zeros at the end of the decimals. To add them to its own spelling takes half of
            # the time of `to_char`; rounding to five decimals is the cheapest test for such zeros.
            text = f"replace({in_utc}::text, ' ', 'T')"
            iso = (
                f"case when {in_utc}::timestamp(5) <> {in_utc} then {text} || 'Z'"
                f" when {in_utc}::timestamp(0) = {in_utc} then {text} || '.000000Z'"
                f" else rpad({text}, 26, '0') || 'Z' end"
            )
        # ISO 8601 has years 1 to 9999; other times, and infinity, keep PostgreSQL's own spelling.
        within = f"{expression} >= '0001-01-01' and {expression} < '10000-01-01'"
        return f"case when {within} then {iso} else ({expression})::text end"


def choices(fields: Sequence[str | FieldChoice] | None, index: Index) -> list[tuple[str, str]]:
    """Return the fields of a request, each by its name and its name in the file; all fields if it names none."""
    if fields is None:
        return [(name, name) for name in index.fields]
    return [
        (field, field) if isinstance(field, str) else (field.name, field.name if field.as_ is None else field.as_)
        for field in fields
    ]


def shape_of(chosen: Sequence[tuple[str, str]], index: Index) -> Shape:
    """Return the shape of chosen fields, without those that the index does not have."""
    return shape((shown, index.fields[name]) for name, shown in chosen if name in index.fields)


def check_fields(chosen: Sequence[tuple[str, str]], index: Index, at: str) -> list[Violation]:
    """Return the violations of a choice of fields; `at` is its JSON pointer."""
    violations: list[Violation] = []
    if not chosen:
        violations.append(Violation("expected at least one field", at))
    seen: set[str] = set()
    for number, (name, shown) in enumerate(chosen):
        where = pointer(at, number)
        if name not in index.fields:
            violations.append(
                Violation(
                    f"{in_json(name)} is no field of this index{suggestion(name, index.fields, violations)}", where
                )
            )
        if not 0 < len(shown) <= MAX_FIELD_NAME_CHARACTERS or "\x00" in shown:
            violations.append(Violation(f"expected a name of 1 to {MAX_FIELD_NAME_CHARACTERS} characters", where))
        if shown in seen:
            violations.append(Violation(f"{in_json(shown)} is the name of another column", where))
        seen.add(shown)
    return violations


def one_row_each(index: Index, names: Sequence[str]) -> str:
    """Return a statement that PostgreSQL refuses where the SQL of a field would change the number of rows.

    Aggregates, window functions and functions that return sets are not allowed in a condition.
    """
    expressions = [index.expression(name) for name in names if index.fields[name].sql] or ["true"]
    conditions = " and ".join(f"({expression}) is null" for expression in expressions)
    return f"select from {index.quoted_relation} where {conditions}"  # the catalog's


async def columns_of(connection: Connection, index: Index, chosen: Sequence[tuple[str, str]]) -> list[Column]:
    """Return the columns of an export, with their types in the source.

    Raises asyncpg.PostgresError if the source has no such relation or column.
    """
    expressions = [index.expression(name) for name, _ in chosen]
    numbered = ", ".join(f"{expression} as c{number}" for number, expression in enumerate(expressions))
    if any(index.fields[name].sql for name, _ in chosen):
        await connection.prepare(one_row_each(index, [name for name, _ in chosen]))
    statement = await connection.prepare(f"select {numbered} from {index.quoted_relation}")
    details = {row["attname"]: row for row in await connection.fetch(DETAILS, index.regclass)}
    encoding = await connection.fetchval("select pg_catalog.current_setting('server_encoding')")
    is_unicode = encoding in ("UTF8", "SQL_ASCII")
    columns = []
    for (name, shown), expression, attribute in zip(chosen, expressions, statement.get_attributes(), strict=True):
        field = index.fields[name]
        detail = None if field.sql else details.get(field.column or name)
        limits = detail["limits"] if detail is not None and attribute.type.name not in UNLIMITED else None
        columns.append(
            Column(
                name=shown,
                field=field,
                expression=expression,
                pg_type=attribute.type.name,
                limits=tuple(int(part) for part in limits.split(",")) if limits else (),
                is_bytewise=detail is not None and detail["deterministic"],
                type_schema=attribute.type.schema,
                type_id=attribute.type.oid,
                is_unicode=is_unicode,
            )
        )
    return columns
