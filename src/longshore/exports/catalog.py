"""The catalog: the declaration, in TOML, of the export indexes and their fields.

SQL identifiers and expressions come from the catalog alone; nothing that a client sends becomes one.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from longshore.errors import LongshoreError
from longshore.exports import sql_fragment
from longshore.validation import Violation, convert, nul_pointers

PREFIX = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""The start of a result file's name."""

MAX_FIELD_NAME_CHARACTERS = 63
"""A column of PostgreSQL has as many, if they are ASCII: it truncates names after 63 bytes."""
MAX_DECIMALS = 38
"""Parquet's decimals of 128 bits have no more digits."""


class FieldType(StrEnum):
    """The kind of a field's values, which decides the rules that it can have."""

    DATE = "date"
    KEYWORD = "keyword"
    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NESTED = "nested"
    """A JSON array of objects; rules are about the fields inside."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of an export, or a field inside a nested one."""

    type: FieldType
    description: str
    column: str = ""
    """The column of the relation; empty: the one with the field's name."""
    sql: str = ""
    """An expression over the columns of one row, in place of `column`."""
    fields: dict[str, "Field"] = {}
    """The fields of a nested field's objects."""
    on_odd: Literal["error", "null"] | None = None
    """For a nested field: whether a value that is not of its field's type is NULL and counted, or else ends the run."""
    decimals: int | None = None
    """The decimals of a number whose column does not limit them; for formats with a fixed scale."""


class TotalFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The control totals of an export: the sum of a field for each value of another."""

    amount: str
    per: str


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named data set that can be exported."""

    description: str
    relation: str
    """The table or view, qualified by its schema unless `search_path` has that. Dots in double quotes are of a name."""
    chain: str
    """The column with the number of the row's chain."""
    prefix: str
    """The start of the names of its result files."""
    fields: dict[str, Field]
    time: str = ""
    """The column with the time at which a row was created or changed; large exports are cut by it. Empty: none."""
    key: str | list[str] = ""
    """The column, or the columns together, that are unique within a chain."""
    filter: str = "true"
    """A condition in SQL that every exported row meets."""
    search_path: list[str] = []
    """Schemas in which unqualified names of `filter`, `sql` and the functions of views are looked up."""
    level: Literal["read", "write", "admin"] = "read"
    """The level that a credential needs to see its rows."""
    in_service_database: bool = msgspec.field(default=False, name="own")
    """Whether it lies in the service's own database, even if the source is another one."""
    totals: TotalFields | None = None
    """The control totals of a result."""

    def expression(self, name: str) -> str:
        """Return the SQL of a field as PostgreSQL stores it."""
        field = self.fields[name]
        return f"({field.sql})" if field.sql else quoted_identifier(field.column or name)

    @property
    def key_columns(self) -> list[str]:
        """The columns of the key; empty where the catalog declares none."""
        return self.key if isinstance(self.key, list) else [self.key] if self.key else []

    @property
    def key_fields(self) -> list[str]:
        """The fields that hold the columns of the key; empty where there is no key, or a column of it is no field."""
        fields = {field.column or name: name for name, field in self.fields.items() if not field.sql}
        found = [fields[column] for column in self.key_columns if column in fields]
        return found if len(found) == len(self.key_columns) else []

    @property
    def time_field(self) -> str | None:
        """The field of type `date` that holds the column `time`; None where there is none."""
        holding = (name for name, field in self.fields.items() if not field.sql and (field.column or name) == self.time)
        return next((name for name in holding if self.fields[name].type is FieldType.DATE), None)

    @property
    def quoted_relation(self) -> str:
        """The name of its relation, quoted for SQL."""
        return ".".join(map(quoted_identifier, _parts(self.relation)))

    @property
    def quoted_alias(self) -> str:
        """The name of its relation without a schema, quoted for SQL."""
        return quoted_identifier(_parts(self.relation)[-1])

    @property
    def regclass(self) -> str:
        """The name of its relation as PostgreSQL's type `regclass` reads it from a parameter's value."""
        return ".".join(_double_quoted(part) for part in _parts(self.relation))

    @property
    def search_path_setting(self) -> str:
        """The value of PostgreSQL's setting `search_path`."""
        return ", ".join(_double_quoted(schema) for schema in self.search_path)

    @property
    def from_clause(self) -> str:
        """The `from` clause of one chain's rows; the chain is its parameter `$1`."""
        # The cast allows a chain that the column's own type cannot hold; an index serves the condition all the same.
        is_of_chain = f"{quoted_identifier(self.chain)} = $1::bigint"
        return f"from {self.quoted_relation} where {is_of_chain} and ({self.filter})"


Catalog = dict[str, Index]

Shape = list[tuple[str, str]]
"""Names of fields with their types, in order; the type of a nested one has the fields inside."""


def load(path: str = "") -> Catalog:
    """Return the catalog at `path`, or the one that Longshore ships. Raises LongshoreError."""
    file = Path(path) if path else resources.files("longshore.exports") / "catalog.toml"
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        catalog = {name: _index(name, table) for name, table in tables.items()}
        for name, index in catalog.items():
            _check(name, index)
    except OSError as error:
        raise LongshoreError(f"the catalog {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, LongshoreError) as error:
        raise LongshoreError(f"the catalog {path or 'that ships'} is not usable: {error}") from None
    return catalog


def _index(name: str, table: Any) -> Index:
    """Return the index of a table. Raises LongshoreError for the first key of another type, by its name."""
    violations = [Violation("has U+0000, which PostgreSQL cannot read", at) for at in nul_pointers(table, "")]
    index = convert(Index, table, "", violations)
    if index is not None and not violations:
        return index
    key = (violations[0].pointer or "").replace("/fields/", "/").replace("/", ".")
    raise LongshoreError(f"{name}{key}: {violations[0].detail}")


def _check(name: str, index: Index) -> None:
    """Raise LongshoreError for the first key of an index that contradicts another one, or has a value out of range."""
    if not index.fields:
        raise LongshoreError(f"{name} has no fields")
    for field_name, field in index.fields.items():
        _check_field(f"{name}.{field_name}", field_name, field)
    _check_sql(f"{name}: `filter`", index.filter)
    if not PREFIX.fullmatch(index.prefix):
        raise LongshoreError(
            f"{name}: `prefix` must be 1 to 40 ASCII letters, digits, `-` and `_`, not {index.prefix!r}"
        )
    if len(set(index.key_columns)) != len(index.key_columns):
        raise LongshoreError(f"{name}: `key` names a column twice")
    for schema in index.search_path:
        if not schema or schema.startswith(("pg_", "$")):
            raise LongshoreError(f"{name}: `search_path` may only name schemas of the source, not {schema!r}")
    if index.totals is not None:
        for key, types in (("amount", ("number",)), ("per", ("keyword", "text", "number"))):
            field_name = getattr(index.totals, key)
            if field_name not in index.fields or index.fields[field_name].type not in types:
                raise LongshoreError(f"{name}: `totals`: `{key}` must be a field of type {' or '.join(types)}")


def _check_field(where: str, name: str, field: Field) -> None:
    if not 0 < len(name) <= MAX_FIELD_NAME_CHARACTERS:
        raise LongshoreError(
            f"{where}: the name of a field has 1 to {MAX_FIELD_NAME_CHARACTERS} characters, not {len(name)}"
        )
    if field.column and field.sql:
        raise LongshoreError(f"{where}: has `column` and `sql`; keep one, as `sql` stands in place of a column")
    if field.on_odd and field.type is not FieldType.NESTED:
        raise LongshoreError(f"{where}: `on_odd` is for nested fields alone")
    _check_decimals(where, "", field)
    for inner_name, inner in field.fields.items():
        if key := next((key for key in ("column", "sql", "on_odd") if getattr(inner, key)), None):
            raise LongshoreError(
                f"{where}.{inner_name}: `{key}` is for the fields of an index, not for those inside a nested one"
            )
        _check_decimals(where, f" of {inner_name}", inner)
    _check_sql(f"{where}: `sql`", field.sql)
    nested = field.type is FieldType.NESTED
    if nested is not bool(field.fields):
        raise LongshoreError(f"{where} {'has no fields' if nested else 'has fields, but is not nested'}")
    if any(inner.type is FieldType.NESTED for inner in field.fields.values()):
        raise LongshoreError(f"{where} has a nested field inside")


def _check_decimals(where: str, of: str, field: Field) -> None:
    if field.decimals is not None and field.type is not FieldType.NUMBER:
        raise LongshoreError(f"{where}: `decimals`{of} is for fields of type number alone")
    if field.decimals is not None and not 0 <= field.decimals <= MAX_DECIMALS:
        raise LongshoreError(f"{where}: `decimals`{of} must be 0 to {MAX_DECIMALS}, not {field.decimals}")


def _check_sql(where: str, sql: str) -> None:
    """Raise LongshoreError for SQL that could end its own parentheses, or in which asyncpg would find a parameter."""
    if match := re.search(r"\$\d+", sql):
        raise LongshoreError(f"{where} has {match[0]}, which stands for a parameter; write the dollar sign as chr(36)")
    if (violation := sql_fragment.violation_of(sql)) is not None:
        raise LongshoreError(f"{where} {violation}")


def shape(fields: Iterable[tuple[str, Field]]) -> Shape:
    """Return the names, order and types of fields."""
    return [(name, _shape(field)) for name, field in fields]


def fingerprint(shape: Shape) -> str:
    """Return a hash of names, order and types of fields, as 16 hexadecimal digits."""
    text = "\n".join(f"{name} {kind}" for name, kind in shape)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shape(field: Field) -> str:
    inner = ", ".join(f"{name} {_shape(inner)}" for name, inner in field.fields.items())
    return f"{field.type.value}({inner})" if inner else field.type.value


def _double_quoted(part: str) -> str:
    doubled = part.replace('"', '""')
    return f'"{doubled}"'


def _parts(relation: str) -> list[str]:
    parts = re.findall(r'"((?:[^"]|"")+)"(?=\.|$)|([^.]+)', relation)
    return [inside.replace('""', '"') or plain for inside, plain in parts]


def quoted_identifier(part: str) -> str:
    """Return an identifier of any characters, quoted for SQL.

    asyncpg's copy_from_query puts the parameters' values where the query's text has $1, $2 and so on, even inside a
    quoted identifier; so dollar signs are escaped. See
    https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS for U&"…".
    """
    if "$" not in part:
        return _double_quoted(part)
    return "U&" + _double_quoted(part.replace("\\", "\\\\").replace("$", "\\0024"))
