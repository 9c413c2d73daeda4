"""Nested fields as JSON text: the fields that the catalog declares, and no others.

Every format uses the same SQL. A value is odd if it is not of its field's type, an element if it is no object. Both
are NULL in the file, and rules see no fields in such an element. As for rules on nested fields, a string may hold a
number or a boolean, and a keyword or text may be a number or a boolean.
"""

import json
from collections.abc import Callable, Sequence

from longshore.exports.catalog import Field, FieldType, quoted_identifier
from longshore.exports.columns import Column
from longshore.exports.formats.format import FileSpec
from longshore.exports.segments.sql import is_number

MAX_IDENTIFIER_BYTES = 63


class Nested:
    """The SQL of one nested column."""

    def __init__(self, column: Column) -> None:
        self._fields = column.field.fields
        self._kind = "json" if column.pg_type == "json" else "jsonb"
        self._value = column.expression if column.pg_type in ("json", "jsonb") else f"({column.expression})::jsonb"
        self._elements = f"{self._kind}_array_elements({self._value}) as elements(item)"
        # jsonb_to_recordset finds all fields of an object at once, which takes up to a quarter less time than operators
        # do. That of json refuses \u0000, which json may hold, and an identifier has limits that a key has not.
        fits = all(0 < len(name.encode()) <= MAX_IDENTIFIER_BYTES for name in self._fields)
        self._as_record = self._kind == "jsonb" and fits

    def projected(self) -> str:
        """Return SQL of the array as JSON text: the declared fields of each object, NULL where missing or odd.

        An element that is no object is `null`.
        """
        objects = self._objects(self._elements, f"{self._type('item')} = 'object'", _of_item)
        if self._as_record:
            columns = ", ".join(f"{quoted_identifier(name)} jsonb" for name in self._fields)
            record = f"jsonb_to_recordset({self._value}) as item({columns})"
            at_once = self._objects(record, "true", lambda name: f"item.{quoted_identifier(name)}")
            others = f"""jsonb_path_exists({self._value}, 'strict $[*] ? (@.type() != "object")', '{{}}', true)"""
            objects = f"case when {others} then {objects} else {at_once} end"
        return f"case {self._type(self._value)} when 'array' then '['||array_to_string({objects},',')||']' end"

    def has_odd(self) -> str:
        """Return the condition that a row has an odd value."""
        fits = [f"{self._type('item')} in ('object', 'null')"]
        fits += [f"({self._fits(field, _of_item(name))})" for name, field in self._fields.items()]
        inside = f"exists (select from {self._elements} where not ({' and '.join(fits)}))"
        return f"case {self._type(self._value)} when 'array' then {inside} else {self._type(self._value)} <> 'null' end"

    def odd(self) -> str:
        """Return a subquery with the `path` and `value` of each odd value of a row."""
        array = f"case {self._type(self._value)} when 'array' then {self._value} end"
        element = f"{self._kind}_array_elements({array}) with ordinality element(item, place)"
        checks = [f"('', item, {self._type('item')} in ('object', 'null'))"]
        checks += [
            f"({sql_text(f'.{name}')}, {_of_item(name)}, {self._fits(field, _of_item(name))})"
            for name, field in self._fields.items()
        ]
        return (
            f"(select '' as path, {self._value}::text as value where {self._type(self._value)} not in ('array', 'null')"
            f" union all select '['||place - 1||']'||field, part::text from {element},"
            f" lateral (values {', '.join(checks)}) checked(field, part, fits) where not fits)"
        )

    def _objects(self, source: str, is_object: str, inner: Callable[[str], str]) -> str:
        """Return SQL of an array with the text of each element of `source`, the item of a `from` clause.

        `is_object`: the condition that the element is an object. `inner`: returns the SQL of its field by the name.
        """
        names = [json.dumps(name, ensure_ascii=False) for name in self._fields]
        keys = [sql_text(f"{',' if number else '{'}{name}:") for number, name in enumerate(names)]
        values = (self._text(field, inner(name)) for name, field in self._fields.items())
        members = "||".join(f"{key}||coalesce({text},'null')" for key, text in zip(keys, values, strict=True))
        # Elements come in the order of the array, and array() keeps it.
        return f"array(select case when {is_object} then {members}||'}}' else 'null' end from {source})"

    def _type(self, value: str) -> str:
        return f"{self._kind}_typeof({value})"

    def _text(self, field: Field, inner: str) -> str:
        """Return SQL of the JSON text of a field, whose value is the SQL `inner`; NULL where missing or odd."""
        text = f"{inner}::text"
        match field.type:
            case FieldType.NUMBER:
                content = f"btrim({text},'\"')"
                in_string = f"case when {is_number(content)} then {content}::numeric::text end"
                cases = f"when 'number' then {text} when 'string' then {in_string}"
            case FieldType.BOOLEAN:
                in_string = f"case {text} when '\"true\"' then 'true' when '\"false\"' then 'false' end"
                cases = f"when 'boolean' then {text} when 'string' then {in_string}"
            case _:
                quoted = f"'\"'||{text}||'\"'"
                cases = f"when 'string' then {text} when 'number' then {quoted} when 'boolean' then {quoted}"
        return f"case {self._type(inner)} {cases} end"

    def _fits(self, field: Field, inner: str) -> str:
        kind = {FieldType.NUMBER: "number", FieldType.BOOLEAN: "boolean"}.get(field.type, "string")
        return f"coalesce({self._type(inner)}, 'null') in ('{kind}', 'null') or {self._text(field, inner)} is not null"


def _of_item(name: str) -> str:
    """Return SQL of a field of the element `item`."""
    return f"(item->{sql_text(name)})"


def projected(column: Column) -> str:
    """Return SQL of a column's value; of a nested one, the JSON text of its declared fields."""
    return Nested(column).projected() if column.field.type is FieldType.NESTED else column.expression


def select(spec: FileSpec, expressions: Sequence[str], from_clause: str) -> str:
    """Return the query of a file's columns, followed by the row key if there is one."""
    return f"select {', '.join([*expressions, *([spec.key.expression] if spec.key else [])])} {from_clause}"


def sql_text(text: str) -> str:
    """Return a string constant of SQL."""
    # asyncpg's copy_from_query would read a dollar sign as the start of a parameter; see catalog.quoted_identifier.
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\x24")
    return f"E'{escaped}'"
