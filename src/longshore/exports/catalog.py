"""The catalog: what can be exported is declared in TOML, not coded.

It is the only place that SQL identifiers and expressions come from; nothing that a client sends becomes one.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from longshore.errors import LongshoreError
from longshore.exports import sql_fragment
from longshore.validation import Violation, check

PREFIX = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""How a result file's name begins."""

MAX_FIELD_NAME_CHARACTERS = 63
"""PostgreSQL cuts longer names of columns."""
MAX_DECIMALS = 38
"""Decimals of a number; Parquet's decimals of 128 bits have no more digits."""

T = TypeVar("T", bound=msgspec.Struct)


class FieldType(StrEnum):
    """What a field holds, and so which rules can be made of it."""

    DATE = "date"
    KEYWORD = "keyword"
    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NESTED = "nested"
    """A JSON array of objects; rules are made of the fields inside."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of an export, or a field inside a nested one."""

    type: FieldType
    description: str
    column: str = ""
    sql: str = ""
    fields: dict[str, "Field"] = {}
    on_odd: Literal["error", "null"] = "error"
    """For a nested field: whether a value that is not of its field's type ends the run, or is NULL and counted."""
    decimals: int | None = None
    """Decimals of a number whose own column does not say; for formats that must know."""


class TotalFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The control totals of an export: the sum of a field for each value of another."""

    amount: str
    per: str


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named data set that can be exported."""

    description: str
    relation: str
    chain: str
    prefix: str
    fields: dict[str, Field]
    time: str = ""
    """The column that says when a row came to be or changed; large exports are cut by it. Empty: it has none."""
    key: str = ""
    """A column that is unique within a chain."""
    filter: str = "true"
    """A condition in SQL that every exported row meets."""
    search_path: list[str] = []
    """Schemas in which unqualified names of `filter`, `sql` and the functions of views are looked up."""
    level: Literal["read", "write", "admin"] = "read"
    """What a credential must have to see rows of it."""
    own: bool = False
    """Whether it lies in the service's own database, wherever the data to export lives."""
    totals: TotalFields | None = None
    """What a result is checked by: its sums against the source's."""

    def expression(self, name: str) -> str:
        """The SQL of a field as PostgreSQL stores it."""
        field = self.fields[name]
        return f"({field.sql})" if field.sql else quoted_part(field.column or name)

    @property
    def schemas(self) -> str:
        """The search path as PostgreSQL's setting takes it."""
        return ", ".join('"' + schema.replace('"', '""') + '"' for schema in self.search_path)

    @property
    def rows(self) -> str:
        """The `from` clause that gives one chain's rows; the chain is its parameter `$1`."""
        # The cast lets a chain be asked for that the column's own type cannot hold; an index serves it all the same.
        return f"from {quoted(self.relation)} where {quoted_part(self.chain)} = $1::bigint and ({self.filter})"


class CatalogError(LongshoreError):
    """The catalog cannot be used; the message says where and why."""


Catalog = dict[str, Index]

Shape = list[tuple[str, str]]
"""Names of fields with their types, in order; a nested one's names those inside."""


def load(path: str = "") -> Catalog:
    """Read a catalog: the one at `path`, or the one that ships. Raises CatalogError."""
    shown = path or "that ships"
    try:
        if path:
            text = Path(path).read_text(encoding="utf-8")
        else:
            text = (resources.files("longshore.exports") / "catalog.toml").read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise CatalogError(f"the catalog {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"the catalog {shown} is not usable: {error}") from None
    catalog = {name: _index(name, table, shown) for name, table in tables.items()}
    for name, index in catalog.items():
        _check(name, index, shown)
    return catalog


def _index(name: str, table: Any, shown: str) -> Index:
    """Read the table of an index. Raises CatalogError for the first key that has another shape, by its name."""
    fields: Any = table.get("fields", {}) if isinstance(table, dict) else {}
    if not isinstance(fields, dict):
        raise CatalogError(f"the catalog {shown} is not usable: {name}.fields: expected a table of fields")
    found = {field: _field(f"{name}.{field}", about, shown) for field, about in fields.items()}
    index = _read(Index, {**table, "fields": {}} if found else table, name, shown)
    return msgspec.structs.replace(index, fields=found)


def _field(where: str, table: Any, shown: str) -> Field:
    inside: Any = table.get("fields", {}) if isinstance(table, dict) else {}
    if not isinstance(inside, dict):
        raise CatalogError(f"the catalog {shown} is not usable: {where}.fields: expected a table of fields")
    fields = {name: _field(f"{where}.{name}", about, shown) for name, about in inside.items()}
    for name, about in inside.items():
        if key := next((key for key in ("column", "sql", "on_odd") if key in about), None):
            what = f"{where}.{name}: `{key}` is for the fields of an index, not for those inside a nested one"
            raise CatalogError(f"the catalog {shown} is not usable: {what}")
    field = _read(Field, {**table, "fields": {}} if fields else table, where, shown)
    if "on_odd" in table and field.type is not FieldType.NESTED:
        raise CatalogError(f"the catalog {shown} is not usable: {where}: `on_odd` is for nested fields alone")
    return msgspec.structs.replace(field, fields=fields)


def _read(kind: type[T], table: Any, where: str, shown: str) -> T:
    violations: list[Violation] = []
    if (found := check(kind, table, "", violations)) is not None:
        return found
    violation = violations[0]
    key = (violation.pointer or "").replace("/", ".")
    raise CatalogError(f"the catalog {shown} is not usable: {where}{key}: {violation.detail}")


def _check(name: str, index: Index, shown: str) -> None:
    if not index.fields:
        raise CatalogError(f"the catalog {shown} is not usable: {name} has no fields")
    for field_name, field in index.fields.items():
        nested = field.type is FieldType.NESTED
        if (wrong_field := _wrong(field_name, field)) is not None:
            raise CatalogError(f"the catalog {shown} is not usable: {name}.{field_name}: {wrong_field}")
        _check_sql(f"{name}.{field_name}: `sql`", field.sql, shown)
        if nested is not bool(field.fields):
            wrong = "has no fields" if nested else "has fields, but is not nested"
            raise CatalogError(f"the catalog {shown} is not usable: {name}.{field_name} {wrong}")
        if any(inner.type is FieldType.NESTED for inner in field.fields.values()):
            raise CatalogError(f"the catalog {shown} is not usable: {name}.{field_name} has a nested field inside")
    _check_sql(f"{name}: `filter`", index.filter, shown)
    if not PREFIX.fullmatch(index.prefix):
        wrong = f"{name}: `prefix` must be 1 to 40 ASCII letters, digits, `-` and `_`, not {index.prefix!r}"
        raise CatalogError(f"the catalog {shown} is not usable: {wrong}")
    for schema in index.search_path:
        if not schema or schema.startswith(("pg_", "$")):
            wrong = f"{name}: `search_path` may only name schemas of the source, not {schema!r}"
            raise CatalogError(f"the catalog {shown} is not usable: {wrong}")
    if index.totals is not None:
        for key, types in (("amount", ("number",)), ("per", ("keyword", "text", "number"))):
            field_name = getattr(index.totals, key)
            if field_name not in index.fields or index.fields[field_name].type not in types:
                expected = f"`totals`: `{key}` must be a field of type {' or '.join(types)}"
                raise CatalogError(f"the catalog {shown} is not usable: {name}: {expected}")


def _wrong(name: str, field: Field) -> str | None:
    """What is wrong with the keys of a field taken together."""
    if not 0 < len(name) <= MAX_FIELD_NAME_CHARACTERS:
        return f"the name of a field has 1 to {MAX_FIELD_NAME_CHARACTERS} characters, not {len(name)}"
    if field.column and field.sql:
        return "has `column` and `sql`; keep one, as `sql` stands in place of a column"
    for one, about in ((name, field), *field.fields.items()):
        if about.decimals is None:
            continue
        of = "" if about is field else f" of {one}"
        if about.type is not FieldType.NUMBER:
            return f"`decimals`{of} is for fields of type number alone"
        if not 0 <= about.decimals <= MAX_DECIMALS:
            return f"`decimals`{of} must be 0 to {MAX_DECIMALS}, not {about.decimals}"
    return None


def _check_sql(where: str, sql: str, shown: str) -> None:
    """Refuse what could end its own parentheses, and what asyncpg's copy_from_query would take for a parameter."""
    if found := re.search(r"\$\d+", sql):
        wrong = f"{where} has {found[0]}, which stands for a parameter; write the dollar sign as chr(36)"
        raise CatalogError(f"the catalog {shown} is not usable: {wrong}")
    if (violation := sql_fragment.fault_of(sql)) is not None:
        raise CatalogError(f"the catalog {shown} is not usable: {where} {violation}")


def shape(fields: Iterable[tuple[str, Field]]) -> Shape:
    """What matters of a choice of fields to those who read them: names, order and types."""
    return [(name, _shape(field)) for name, field in fields]


def fingerprint(shape: Shape) -> str:
    """What identifies a choice of fields, as 16 hexadecimal digits."""
    text = "\n".join(f"{name} {kind}" for name, kind in shape)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shape(field: Field) -> str:
    inner = ", ".join(f"{name} {_shape(inner)}" for name, inner in field.fields.items())
    return f"{field.type.value}({inner})" if inner else field.type.value


def quoted(relation: str) -> str:
    """Return the name of a relation, qualified or not, quoted for SQL. A part in double quotes may have dots in it."""
    return ".".join(quoted_part(part) for part in _parts(relation))


def regclass(relation: str) -> str:
    """Return the name of a relation as PostgreSQL's type `regclass` reads it from a parameter's value."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in _parts(relation))


def _parts(relation: str) -> list[str]:
    parts = re.findall(r'"((?:[^"]|"")+)"(?=\.|$)|([^.]+)', relation)
    return [inside.replace('""', '"') or plain for inside, plain in parts]


def quoted_part(part: str) -> str:
    """One identifier, whatever characters it has, quoted for SQL.

    asyncpg's copy_from_query puts the parameters' values where the query's text has $1, $2 and so on, even inside a
    quoted identifier; so no dollar sign is left in one. See
    https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS for U&"…".
    """
    doubled = part.replace('"', '""')
    if "$" not in part:
        return f'"{doubled}"'
    escaped = doubled.replace("\\", "\\\\").replace("$", "\\0024")
    return f'U&"{escaped}"'
