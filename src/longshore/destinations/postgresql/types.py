"""Types of columns: of a load, as the destination's server knows them, and of the tables that it finds."""

import re
from collections.abc import Sequence

import msgspec

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import TableColumn

SPELLED = re.compile(r"([^()\[\]]+?) *(?:\( *(-?[0-9]+) *(?:, *(-?[0-9]+) *)?\))?((?: *\[[0-9]*\])*)")

# Base types, ranges and multiranges that mean the same on any server: none of those that name objects by their OID.
KNOWN = r"""
select w.name, t.typarray <> 0 as has_array
from unnest($1::text[]) as w (name)
join pg_catalog.pg_type t on t.typname = w.name and t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
where t.typtype in ('b', 'r', 'm')
      and t.typname !~ '^(reg|_|aclitem|gtsvector|pg_(node_tree|ndistinct|dependencies|mcv_list|ddl|brin))'
"""

INTEGER_DIGITS = {"int2": 5, "int4": 10, "int8": 19}
HELD_INTEGER_DIGITS = {"int2": 4, "int4": 9, "int8": 18}  # that it holds whatever they are
FLOATS = ("float4", "float8")
MAX_DIGITS = 1000  # of a numeric with limits
LIMITED = ("varchar", "bpchar", "bit", "varbit", "timestamptz", "timestamp", "time", "timetz", "interval")
ANY_TEXT = ("text", "varchar")
RESPELLED = ("numeric", *FLOATS, "timestamp", "timestamptz")  # Arrow has texts of its own for their values
STRINGS = (*ANY_TEXT, "bpchar")


class Type(msgspec.Struct, frozen=True):
    """A type of the server."""

    name: str
    """Its name in pg_type; of an array, that of its elements."""
    schema: str = "pg_catalog"
    limits: tuple[int, ...] = ()
    """Digits and decimals of a numeric, the length of a varchar and the like; empty: without limits."""
    is_array: bool = False
    is_domain: bool = False
    """Whether the column has a domain over it, so that the column cannot be widened."""

    @property
    def sql(self) -> str:
        """Its SQL."""
        limits = f"({', '.join(map(str, self.limits))})" if self.limits else ""
        return f"{quoted(self.schema)}.{quoted(self.name)}{limits}{'[]' if self.is_array else ''}"

    @property
    def shown(self) -> str:
        """Its name for people."""
        limits = f"({','.join(map(str, self.limits))})" if self.limits else ""
        schema = "" if self.schema == "pg_catalog" else f"{self.schema}."
        return f"{schema}{self.name}{limits}{'[]' if self.is_array else ''}"


TEXT = Type("text")


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


async def types_of(connection: DirectConnection, columns: Sequence[TableColumn]) -> list[Type]:
    """Return the types of a load's columns; text for those that the server does not know as its own."""
    types = [_parsed(column.postgresql) for column in columns]
    known = {row["name"]: row["has_array"] for row in await connection.fetch(KNOWN, [one.name for one in types])}
    return [one if known.get(one.name, False) else TEXT for one in types]


def _parsed(text: str) -> Type:
    match = SPELLED.fullmatch(text)
    if match is None:
        return Type("")
    return Type(match[1], limits=tuple(int(limit) for limit in match.group(2, 3) if limit), is_array=bool(match[4]))


def widened(have: Type, want: Type) -> Type | None:
    """Return the type of a column that holds what it holds and the values of a load; None where there is none.

    `have`: the column's. `want`: the load's.
    """
    found = _wider(have, want)
    return None if have.is_domain and found != have else found


def _wider(have: Type, want: Type) -> Type | None:
    if have.schema != "pg_catalog":  # an enum or an extension's type reads text, or refuses it
        return have if want.name in STRINGS and not want.is_array else None
    if _holds_text(have):
        return have
    if have.is_array or want.is_array:
        return _wider_array(have, want) if have.is_array and have.name == want.name and want.is_array else None
    if have.name in INTEGER_DIGITS and want.name in INTEGER_DIGITS:
        return max(have, want, key=lambda one: INTEGER_DIGITS[one.name])
    if {have.name, want.name} <= {"numeric", *INTEGER_DIGITS}:
        return _numeric(have, want)
    if have.name in FLOATS:
        return _float(have, want)
    if have.name == want.name:
        return _limited(have, want)
    return TEXT if (have.name, want.name) == ("varchar", "text") else None


def _wider_array(have: Type, want: Type) -> Type | None:
    found = _wider(*(msgspec.structs.replace(one, is_array=False) for one in (have, want)))
    return None if found is None else msgspec.structs.replace(found, is_array=True)


def _float(have: Type, want: Type) -> Type | None:
    exact = ("float4", "int2") if have.name == "float4" else ("float4", "float8", "int2", "int4")
    if want.name in exact:
        return have
    return want if want.name == "float8" else None


def _holds_text(type: Type) -> bool:
    return type.name in ANY_TEXT and type.schema == "pg_catalog" and not type.limits and not type.is_array


def _numeric(have: Type, want: Type) -> Type:
    """Return the numeric type that holds two types of which one at least is numeric, or the integer that does."""
    if have.name in INTEGER_DIGITS and want.limits:
        digits, decimals = _parts(want)
        if decimals <= 0 and digits <= HELD_INTEGER_DIGITS[have.name]:
            return have
    if "numeric" in (have.name, want.name) and not all(one.limits for one in (have, want) if one.name == "numeric"):
        return Type("numeric", is_domain=have.is_domain) if have.name != "numeric" or have.limits else have
    parts = [_parts(one) for one in (have, want)]
    whole, decimals = max(part[0] for part in parts), max(part[1] for part in parts)
    if have.name == "numeric" and (whole, decimals) == parts[0]:
        return have
    digits = whole + decimals
    return Type("numeric", limits=(digits, decimals) if 0 < digits <= MAX_DIGITS else (), is_domain=have.is_domain)


def _parts(type: Type) -> tuple[int, int]:
    """Return the digits before the point, and behind it."""
    if type.name in INTEGER_DIGITS:
        return INTEGER_DIGITS[type.name], 0
    digits, decimals = (*type.limits, 0)[:2]
    return digits - decimals, decimals


def _limited(have: Type, want: Type) -> Type | None:
    """Return the wider of two types that differ in their limits alone."""
    if have.limits == want.limits or not have.limits:
        return have
    if have.name not in LIMITED:
        return None
    if want.limits and want.limits <= have.limits:
        return have
    return msgspec.structs.replace(have, limits=() if have.name == "bit" else want.limits)  # bits are not padded
