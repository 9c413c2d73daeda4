"""The catalog: what can be exported is declared in TOML, not coded.

It is the only place that SQL identifiers and expressions come from; nothing that a client sends becomes one.
"""

import tomllib
from enum import StrEnum
from importlib import resources
from pathlib import Path

import msgspec

from longshore.errors import LongshoreError


class FieldType(StrEnum):
    """What a field holds, and so which rules can be made of it."""

    DATE = "date"
    KEYWORD = "keyword"
    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of an export."""

    type: FieldType
    description: str
    column: str = ""
    sql: str = ""


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named data set that can be exported."""

    description: str
    relation: str
    chain: str
    time: str
    prefix: str
    fields: dict[str, Field]

    def expression(self, name: str) -> str:
        """The SQL of a field as PostgreSQL stores it, to be compared with."""
        field = self.fields[name]
        return f"({field.sql})" if field.sql else quoted(field.column or name)

    def shown(self, name: str) -> str:
        """The SQL of a field as it is written to a file: times in ISO 8601 with a Z, all else as it is."""
        expression = self.expression(name)
        if self.fields[name].type is FieldType.DATE:
            # ISO 8601 has years 1 to 9999; what lies beyond (infinity too) keeps PostgreSQL's own spelling.
            return (
                f"case when {expression} >= '0001-01-01' and {expression} < '9999-12-31 23:59:59.999999+00'"
                f" then to_char({expression} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
                f" else {expression}::text end"
            )
        return expression


class CatalogError(LongshoreError):
    """The catalog cannot be used; the message says where and why."""


Catalog = dict[str, Index]


def load(path: str = "") -> Catalog:
    """Read a catalog: the one at `path`, or the one that ships. Raises CatalogError."""
    try:
        if path:
            text = Path(path).read_text(encoding="utf-8")
        else:
            text = (resources.files("longshore.exports") / "catalog.toml").read_text(encoding="utf-8")
        return msgspec.convert(tomllib.loads(text), Catalog)
    except OSError as error:
        raise CatalogError(f"the catalog {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise CatalogError(f"the catalog {path or 'that ships'} is not usable: {error}") from None


def quoted(identifier: str) -> str:
    """An identifier of the catalog, qualified or not, quoted for SQL."""
    return ".".join(_quoted_part(part) for part in identifier.split("."))


def named(names: list[str], expressions: list[str]) -> str:
    """The columns of a select: each expression under its name."""
    return ", ".join(
        f"{expression} as {_quoted_part(name)}" for name, expression in zip(names, expressions, strict=True)
    )


def _quoted_part(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'
